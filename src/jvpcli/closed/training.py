"""What a program trains with: torch's optimizers and their schedules, data sets and what takes batches from them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from jvpcli.closed import integers, reach
from jvpcli.closed.words import Namespace
from jvpcli.errors import ForbiddenError
from jvpcli.recording.recorder import recorder_here

OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "Rprop", "ASGD", "LBFGS",
    "Adafactor",
)  # fmt: skip
"""Classes of torch.optim."""

SCHEDULES = (
    "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts", "LambdaLR", "MultiplicativeLR", "OneCycleLR", "CyclicLR", "ReduceLROnPlateau", "SequentialLR",
    "ChainedScheduler",
)  # fmt: skip
"""Classes of torch.optim.lr_scheduler."""

SCHEDULED = ("LRScheduler", "_LRScheduler")
"""What a schedule of the program's own may be derived from."""

WAYS = ("foreach", "fused", "capturable", "differentiable")
"""How an optimizer carries a step out, where it is asked for by True."""


def optimizers() -> Namespace:
    """torch.optim as a program has it."""
    schedules = {name: getattr(torch.optim.lr_scheduler, name) for name in (*SCHEDULES, *SCHEDULED)}
    kinds = {name: _optimizer(name) for name in OPTIMIZERS}
    averaged = Namespace("torch.optim.swa_utils", {"AveragedModel": torch.optim.swa_utils.AveragedModel})
    base = {"Optimizer": Optimizer}
    return Namespace("torch.optim", {
        **kinds, **base, "optimizer": Namespace("torch.optim.optimizer", base), "swa_utils": averaged,
        "lr_scheduler": Namespace("torch.optim.lr_scheduler", schedules)})  # fmt: skip


class Optimizer(torch.optim.Optimizer):
    """An optimizer without what compiles it, for which torch would load its compiler first."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)

    def _patch_step_function(self) -> None:
        """Puts no label for torch's profiler around each step."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients."""
        groups = self.param_groups
        with torch._C.DisableTorchFunction() if _holds_tensors(groups) else nullcontext():
            for x in [x for group in groups for x in group["params"] if x.grad is not None]:
                if set_to_none:
                    x.grad = None
                else:
                    x.grad = x.grad.detach_() if x.grad.grad_fn is not None else x.grad.requires_grad_(False)
                    x.grad.zero_()

    def load_state_dict(self, state_dict: Any) -> None:
        """Goes on from a state that one has told of: of tensors, numbers and words."""
        reach.check_given((state_dict,))
        inspect.unwrap(torch.optim.Optimizer.load_state_dict)(self, state_dict)


def _optimizer(name: str) -> type:
    """A class of torch.optim, as one of these."""
    kind = getattr(torch.optim, name)
    step = torch.no_grad()(inspect.unwrap(kind.step))

    def stepped(self: Any, closure: Any = None) -> Any:
        """A step; one that is made of torch's own calls alone needs no guard, and is noted down where a graph is kept over it."""
        if closure is not None:
            _descend(FRAMES)
        recorder = recorder_here()
        if closure is not None or (recorder is not None and recorder.retains) or not _holds_plain(self):
            return step(self, closure)
        with torch._C.DisableTorchFunction():
            return step(self)

    return type(name, (kind, Optimizer), {"step": stepped})


FRAMES = 24
"""More calls inside each other than a step makes of torch's before it calls a closure."""


def _descend(frames: int) -> None:
    """Raises Python's own RecursionError where a closure that steps itself has left no room for a step.

    torch would meet it in the middle of its C, between the guards, and dies of it there.
    """
    if frames:
        _descend(frames - 1)


def _holds_plain(optimizer: Any) -> bool:
    """Whether an optimizer holds tensors and numbers alone, and nothing of the program that would run in its steps.

    Not where it is asked for a way of its own to carry a step out, in which torch trusts the shapes of what it holds.
    """
    groups, states = optimizer.param_groups, optimizer.state
    if not _holds_tensors(groups) or any(group.get(way) for group in groups for way in WAYS):
        return False
    if not reach.SIMPLE.issuperset(map(type, states)) or not all(map(_has_words, states.values())):
        return False
    values = [value for group in groups for name, value in group.items() if name != "params"]
    parts = [part for value in values for part in (value if type(value) is tuple else (value,))]
    parts += [part for state in states.values() for part in state.values()]
    return reach.SIMPLE.issuperset(map(type, parts)) and _are_real(parts)


def _holds_tensors(groups: Any) -> bool:
    """Whether what an optimizer moves are tensors of real numbers in lists: those of whole ones are counted as they change."""
    return type(groups) is list and all(
        _has_words(group)
        and type(group.get("params")) is list
        and reach.TENSORS.issuperset(map(type, group["params"]))
        and _are_real(group["params"])
        for group in groups
    )


def _has_words(group: Any) -> bool:
    """Whether something is a dictionary by words: no key of the program's own is compared as one is looked up."""
    return type(group) is dict and {*map(type, group)} <= {str}


def _are_real(values: Iterable[Any]) -> bool:
    """Whether no tensor of whole numbers is among values."""
    with torch._C.DisableTorchFunction():
        return not any(map(integers.are_whole, values))


def data() -> Namespace:
    """torch.utils.data as a program has it."""
    samplers = {name: _sampler(getattr(torch.utils.data, name)) for name in SAMPLERS}
    return Namespace("torch.utils.data", {
        "DataLoader": _loader, "TensorDataset": TensorDataset, "Dataset": Dataset,
        "IterableDataset": IterableDataset, "Sampler": Sampler, "default_collate": _collated,
        "Subset": Subset, "random_split": _split,
        "ConcatDataset": ConcatDataset, "dataset": Namespace("torch.utils.data.dataset", {"Dataset": Dataset}), **samplers,
    })  # fmt: skip


def _sampler(kind: Any) -> type:
    """A class that chooses items, not more at once than a list may have, and of which no array is made."""

    def begun(self: Any, *arguments: Any, **keywords: Any) -> None:
        for each in (*arguments, *keywords.values()):
            _check_count(each)
        kind.__init__(self, *arguments, **keywords)

    return type(kind.__name__, (kind,), {"__init__": begun, "__array__": reach.no_array, "__array_ufunc__": None})


def _check_count(number: Any) -> None:
    """Refuse to choose more items than a list may have.

    Raises:
        ForbiddenError: they are more.
    """
    number = reach.exact(number)
    if isinstance(number, int) and number > reach.MOST_ITEMS:
        raise ForbiddenError("A list or text of so many items can't be used.")


class Dataset(torch.utils.data.Dataset[Any]):
    """A data set, several of which in a row are one of which no array is made."""

    def __add__(self, other: Any) -> Any:
        return ConcatDataset([self, other])


class IterableDataset(Dataset, torch.utils.data.IterableDataset[Any]):
    """A data set that is gone through from its beginning to its end."""


class Sampler(torch.utils.data.Sampler[Any]):
    """What chooses the items of a data set."""


BASES = (Dataset, IterableDataset, Sampler, Optimizer, torch.optim.lr_scheduler.LRScheduler)
"""What a program's classes may be derived from of what it trains with."""


def _collated(batch: Any) -> Any:
    """`default_collate(batch)`, of tensors, numbers and texts."""
    reach.check_given((batch,))
    return torch.utils.data.default_collate(batch)


class ConcatDataset(Dataset, torch.utils.data.ConcatDataset[Any]):
    """Data sets in a row."""

    __array__ = reach.no_array
    __array_ufunc__ = None


class TensorDataset(Dataset, torch.utils.data.TensorDataset):
    """Tensors alone, whose lengths are asked of torch."""

    def __init__(self, *tensors: Tensor) -> None:
        if not all(type(each) in reach.TENSORS for each in tensors):
            raise ForbiddenError("A TensorDataset is made of tensors.")
        super().__init__(*tensors)


class Subset(Dataset, torch.utils.data.Subset[Any]):
    """Some of a data set's items; no array is made of it."""

    __array__ = reach.no_array
    __array_ufunc__ = None


def _split(dataset: Any, lengths: Any, generator: Any = None) -> list[Any]:
    """`random_split(dataset, lengths)`"""
    reach.check_given((generator,))
    stream = generator or torch.default_generator
    return [Subset(each.dataset, each.indices) for each in torch.utils.data.random_split(dataset, lengths, stream)]


SAMPLERS = ("RandomSampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler", "BatchSampler")
"""What chooses the items of a data set."""

SPEEDS = frozenset({"num_workers", "pin_memory", "pin_memory_device", "persistent_workers", "prefetch_factor", "timeout",
                    "worker_init_fn"})  # fmt: skip
"""What says how fast a `DataLoader` is, and not which batches it gives."""


def _loader(dataset: Any, batch_size: int = 1, shuffle: bool = False, **options: Any) -> Any:
    """`DataLoader(…)` in the process itself.

    Raises:
        ForbiddenError: something else is asked of it than which batches it gives.
    """
    kept = {name: value for name, value in options.items() if name not in SPEEDS}
    for name in kept.keys() - {"drop_last", "collate_fn", "generator", "sampler", "batch_sampler"}:
        raise ForbiddenError(f"The argument `{name}` of a DataLoader can't be used in a program.")
    reach.check_given((kept.get("generator"),))
    _check_count(batch_size)
    return torch.utils.data.DataLoader(dataset, batch_size, shuffle, **kept)
