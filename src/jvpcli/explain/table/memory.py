"""Memory that isn't there, sizes beyond any memory, and CUDA's delayed complaints."""

from __future__ import annotations

from math import isqrt

from jvpcli.explain.table.entry import Entry, Found, Words, says

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def in_units(count: int) -> str:
    """`294.7 TiB`."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} bytes" if unit == 0 else f"{size:.4g} {UNITS[unit]}"


def cpu(found: Found) -> Words:
    """E44: the CPU allocator."""
    count = found.int("bytes")
    asked = found.text("asked") or (in_units(count) if count else "more memory than there is")
    numbers = f" That is {count // 4:,} float32 numbers." if count else ""
    cube = round((count // 4) ** (1 / 3)) if count else 0
    square = isqrt(count // 4) if count else 0
    basis = ""
    if count and square**2 * 4 == count:
        basis = (
            f" {count // 4:,} = {square:,} x {square:,}: a square matrix, as of an identity, a Gram matrix or all "
            f"pairs."
        )
    elif count and cube**3 * 4 == count:
        basis = f" {count // 4:,} = {cube:,}³."
    return Words(
        f"Out of memory: {asked} asked for at once",
        f"One tensor of {asked} was to be made.{numbers}{basis}",
        (
            "A whole Jacobian or Hessian: outputs times inputs. torch.func.jacrev makes an identity of outputs x "
            "outputs on the way.",
            "Broadcasting of (n, 1) with (n,), or all pairs x[:, None] - x[None], made a tensor larger than meant.",
            "A size was computed wrongly: a product of two sizes, a number of bytes.",
        ),
        (
            "torch.func.jacrev(f, chunk_size=64)(x)   # a few rows at a time",
            "torch.func.jacfwd(f)(x)   # with fewer inputs than outputs: one pass for each input",
            "y, pullback = torch.func.vjp(f, x); pullback(v)   # one product instead of the whole Jacobian",
            'jvp inspect "torch.outer(x, x)" --x "torch.ones(100)"',
        ),
    )


def accelerator(found: Found) -> Words:
    """CUDA, HIP, MPS, XPU out of memory."""
    asked = found.text("asked")
    device = (found.text("device") or "GPU").upper()
    return Words(
        f"The {device}'s memory is full" + (f": {asked} more was asked for" if asked else ""),
        "Parameters, gradients, the optimizer's state and above all what forward keeps for backward must fit in "
        "together."
        + (f" The last piece that was asked for, {asked}, is not necessarily the large one." if asked else ""),
        (
            "The batch (or image, sequence) is too large: what is kept for backward grows with it.",
            "Graphs are kept alive over the turns: total_loss += loss, a list of outputs, retain_graph=True.",
            "Evaluation without torch.no_grad(): forward keeps everything for a backward that never comes.",
            "Another process, or a notebook's last error, still holds memory.",
        ),
        (
            "batch_size smaller, with gradient accumulation",
            "total += loss.item(); outputs.append(y.detach())   # keep numbers, not graphs",
            "with torch.no_grad(): y = model(x)   # evaluation",
            "torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False), torch.autocast(…)   # less kept for "
            "backward",
            "torch.cuda.empty_cache() does not help: it gives back what PyTorch would reuse anyway",
        ),
    )


ENTRIES = (
    Entry(
        "cpu-memory",
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate {bytes:int} bytes",
            "DefaultCPUAllocator: not enough memory: you tried to allocate {bytes:int} bytes",
            "std::bad_alloc",
            "not enough memory: you tried to {allocate|reallocate} {asked:amount}",
        ),
        cpu,
    ),
    Entry(
        "accelerator-memory",
        (
            "{device:chip} out of memory. Tried to allocate {asked:amount}",
            "{device:chip} out of memory",
            "Allocation on device {:any}would exceed allowed memory",
            "{device:chip} backend out of memory (MPS allocated: {:any}). Tried to allocate {asked:amount}",
            "{device:chip} error: out of memory",
            "cuda runtime error (2) : out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
        ),
        accelerator,
    ),
    Entry(
        "size-overflow",
        ("Storage size calculation overflowed with sizes={shape:shape}", "numel: integer multiplication overflow"),
        lambda found: Words(
            "A size beyond any memory" + (f": {found.shape('shape')}" if found.shape("shape") else ""),
            "The number of bytes doesn't even fit into 64 bits.",
            ("A product of sizes, or an uninitialised number, is used as a size.",),
            ("print the sizes before the line",),
        ),
    ),
    Entry(
        "device-assert",
        ("device-side assert triggered",),
        says(
            "A CUDA kernel found an index out of range",
            "The GPU works behind the program, so the line in the traceback is often not the one at fault. The line "
            "'… Assertion `…` failed' further up "
            "says what it was; nearly always an index or a class number that is too large.",
            (
                "A class number in the target is not between 0 and C-1 (cross_entropy, nll_loss).",
                "An index of an embedding is not smaller than num_embeddings.",
                "Numbers outside of [0, 1] in binary_cross_entropy, or NaN in torch.multinomial.",
            ),
            (
                "CUDA_LAUNCH_BLOCKING=1 python train.py   # the traceback then names the right line",
                "Run one batch on the CPU: there the message is plain.",
                "print(target.min(), target.max(), logits.shape)",
            ),
        ),
    ),
)
