"""What `jvp run` and `jvp run --watch` cost: a small convolutional net in training, against plain Python, in turns.

Run as `python -m benchmarks.watch`; prints the median seconds and the ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """\
import time
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
net = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 24 * 24, 10)
)
optimizer = torch.optim.Adam(net.parameters())
begin = time.process_time()
for turn in range(60):
    x, wanted = torch.randn(16, 1, 28, 28), torch.randint(0, 10, (16,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), wanted).backward()
    optimizer.step()
print(time.process_time() - begin)
"""
ROUNDS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_text(PROGRAM)
        ways = {
            "python": [sys.executable, str(path)],
            "jvp run": [sys.executable, "-m", "jvpcli", "run", str(path)],
            "jvp run --watch": [sys.executable, "-m", "jvpcli", "run", "--watch", str(path)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, words in ways.items():
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                seconds[name].append(float(done.stdout))
        plain = statistics.median(seconds["python"])
        for name, taken in seconds.items():
            middle = statistics.median(taken)
            print(f"{name:16} {middle:.3f} s  {middle / plain:.2f}x")


if __name__ == "__main__":
    main()
