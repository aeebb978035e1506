"""Tensors on different devices."""

from __future__ import annotations

from jvpcli.explain.table.entry import Entry, Found, Words


def devices(found: Found) -> Words:
    """Operands on different devices."""
    first, second = _device(found.text("first")), _device(found.text("second"))
    argument = found.text("argument")
    where = f"{first} and {second}" if first and second else first or second or "different devices"
    which = f" (argument {argument})" if argument else ""
    return Words(
        f"Tensors on different devices: {where}",
        f"An operation computes on one device, so all its tensors must be there; these are on {where}{which}. Only "
        f"0-d tensors on the CPU may be mixed "
        "with CUDA tensors.",
        (
            "The model was moved and the batch not (or the targets), or the other way round.",
            "A tensor is made inside forward without a device: torch.zeros(n), torch.arange(n), a mask, a hidden state.",
            "A tensor is a plain attribute of a module: model.to(device) moves parameters and buffers only.",
            "model.to(device) after the optimizer was made, or several GPUs: cuda:0 and cuda:1.",
        ),
        (
            "x, y = x.to(device), y.to(device)   # in the training loop; tensors must be reassigned, x.to(device) "
            "alone does nothing",
            "torch.zeros(n, device=x.device), torch.zeros_like(x)   # in forward",
            "self.register_buffer('mask', mask)   # moves along with the module",
        ),
    )


def _device(text: str | None) -> str | None:
    """`torch.cuda.FloatTensor` is a tensor on cuda, `torch.FloatTensor` on the CPU."""
    if text is None:
        return None
    if text.startswith("torch.") or text.endswith("Type"):
        return "cuda" if "cuda" in text.lower() else "cpu"
    return text.lower().rstrip("!,.")


def to_numpy(found: Found) -> Words:
    """A CUDA tensor to NumPy."""
    device = found.text("device") or "cuda"
    return Words(
        f"A tensor on {device} can't become a NumPy array directly",
        "NumPy works in the computer's own memory; the tensor lies in the accelerator's.",
        ("Numbers for a plot, a metric or a list are taken from a tensor on the GPU.",),
        ("y.detach().cpu().numpy()", "y.tolist(), y.item()   # copy by themselves"),
    )


ENTRIES = (
    Entry(
        "devices",
        (
            "Expected all tensors to be on the same device, but found at least two devices, {first:device} and "
            "{second:device}",
            "Expected all tensors to be on the same device, but got {argument:word} is on {first:device}, different "
            "from other tensors on {second:device}",
            "Expected all tensors to be on the same device. Expected {first:device}, found {second:device}",
            "all input tensors must be on the same device. Received {first:device} and {second:device}",
            "expected {:word} and {:word} to be on the same device, but got {:word} on {first:device} and {:word} on "
            "{second:device}",
            "Expected object of {backend|device type} {first:device} but got {backend|device type} {second:device} for",
            "Expected object of type {first:cuda} but found type {second:cpu}",
            "Expected object of type {first:cpu} but found type {second:cuda}",
            "Tensor for {:argument} is on CPU, but expected {them|it} to be on GPU",
            "Tensor for argument #{:int} '{argument:word}' is on CPU, but expected it to be on GPU",
            "Input, output and indices must be on the current device",
            "Input and hidden tensors are not at the same device, found input tensor at {first:device} and hidden "
            "tensor at {second:device}",
            "Input and parameter tensors are not at the same device, found input tensor at {first:device} and "
            "parameter tensor at {second:device}",
            "indices should be either on cpu or on the same device as the indexed tensor ({first:device})",
            "Expected tensor for {:argument} to have the same device as tensor for {:argument}; but device "
            "{first:int} does not equal {second:int}",
            "arguments are located on different GPUs",
            "Expected a '{first:device}' device type for generator but found '{second:device}'",
            "binary_op(): expected both inputs to be on same device, but input a is on {first:device} and input b is "
            "on {second:device}",
            "expected device {first:device} but got device {second:device}",
            "module must have its parameters and buffers on device {first:device} (device_ids[0]) but found one of "
            "them on device: {second:device}",
            "Tensor on device {first:device} is not on the expected device {second:device}",
        ),
        devices,
    ),
    Entry(
        "numpy-device",
        (
            "can't convert {device:word} device type tensor to numpy",
            "can't convert CUDA tensor to numpy",
        ),
        to_numpy,
    ),
)
