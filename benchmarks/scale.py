"""What docs/scale.md tells: Jacobians and batches beyond one process, measured, and the scheduler of larger ones, simulated.

    python -m benchmarks.scale dense ROWS WORKERS     # ROWS×20,000 float32 to Zarr, workers of 1 GB each
    python -m benchmarks.scale sparse ROWS WORKERS    # 100 nonzeros a row
    python -m benchmarks.scale batch LINES WORKERS    # requests for torch.outer(x, x)
    python -m benchmarks.scale scheduler CALLS        # what a call costs the client and the scheduler together
    python -m benchmarks.scale simulate CALLS WORKERS SECONDS_A_CALL SCHEDULER_SECONDS

Each prints one JSON line.
"""

from __future__ import annotations

import heapq
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEMORY = "1GB"


def peak():
    """Bytes of this process's memory at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def processor():
    """Seconds of processor time that this process has used."""
    return time.process_time()


def nothing(shared, item):
    return None


def jacobian(expression, inputs, workers, limit, **more):
    """Seconds, processor seconds and the workers' peak memory of one Jacobian to a store, which is deleted."""
    from distributed import Client, LocalCluster

    import jvpcli

    quiet = {"dashboard_address": None, "silence_logs": 50}
    with (
        tempfile.TemporaryDirectory(prefix="jvp-scale-", dir=os.environ.get("TMPDIR")) as folder,
        LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=MEMORY, **quiet) as cluster,
        Client(cluster) as client,
    ):
        client.run(nothing, None, None)
        before, start = sum(client.run(processor).values()), time.perf_counter()
        result = jvpcli.inspect(
            expression, inputs, save=f"{folder}/J.zarr", cluster=client, memory_limit=limit, **more
        )
        seconds = time.perf_counter() - start
        saved = result.report.saved
        return {
            "seconds": round(seconds, 1),
            "processor_seconds_of_workers": round(sum(client.run(processor).values()) - before, 1),
            "peak_bytes_of_workers": sorted(client.run(peak).values()),
            "blocks": saved.blocks,
            "bytes": saved.bytes,
            "nnz": {x: each.nnz for by_input in saved.jacobian.values() for x, each in by_input.items()},
            "load": os.getloadavg()[0],
        }


def dense(rows, workers):
    text = {"U": f"torch.randn({rows},64) / 8", "V": "torch.randn(64,20000) / 8", "x": "torch.randn(20000) / 20"}
    return jacobian("torch.tanh(U @ (V @ x))", text, workers, "500MB", wrt="x")


def sparse(rows, workers):
    return jacobian("X @ W", {"X": f"torch.randn({rows // 100},100)", "W": "torch.randn(100,100)"}, workers, "500MB", wrt="X")


def batch(lines, workers):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "r.jsonl"
        request = {"expression": "torch.outer(x,x)", "inputs": {"x": [1, 2, 3, 4]}}
        found = {}
        for count in (0, lines):  # what remains between the two is not starting up
            source.write_text("".join(json.dumps({"id": k, **request}) + "\n" for k in range(count + 64 * workers)))
            command = [sys.executable, "-m", "jvpcli", "batch", source, "--cluster", f"local:{workers}"]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            found[count] = time.perf_counter() - start
        rate = round(lines / (found[lines] - found[0]))
        return {"lines_a_second": rate, "start_seconds": round(found[0], 1), "load": os.getloadavg()[0]}


def scheduler(calls):
    from jvpcli.cluster import carry_out, connected

    with connected("local:2") as client:
        list(carry_out(client, nothing, None, range(64), "warm"))
        start = time.perf_counter()
        list(carry_out(client, nothing, None, range(calls), "call"))
        return {"milliseconds_a_call": round((time.perf_counter() - start) / calls * 1000, 2), "load": os.getloadavg()[0]}


def simulate(calls, workers, seconds, scheduling):
    """A scheduler that does one thing at a time, and workers with three calls each under way, as `carry_out` has it.

    Returns the seconds that all take, the part of them in which the scheduler is busy, and that in which workers are.
    """
    free = [0.0] * workers
    heapq.heapify(free)
    clock, last = 0.0, 0.0
    ends: list[float] = []
    for _ in range(calls):
        if len(ends) >= 3 * workers:  # the next is handed out when one is done
            clock = max(clock, heapq.heappop(ends))
        clock += scheduling
        end = max(clock, heapq.heappop(free)) + seconds
        heapq.heappush(free, end)
        heapq.heappush(ends, end)
        last = max(last, end)
    return {
        "seconds": round(last),
        "scheduler_busy": round(calls * scheduling / last, 3),
        "workers_busy": round(calls * seconds / workers / last, 3),
    }


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    arguments = [float(n) if "." in n or "e-" in n else int(n) for n in numbers]
    print(json.dumps({"what": sys.argv[1:], **globals()[what](*arguments)}))
