"""Running a program by Python itself, between guards; and one of the derivatives that it asks for."""

from __future__ import annotations

import ast
import linecache
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import WRAPPER_ASSIGNMENTS, lru_cache, partial, wraps
from types import CodeType, FunctionType
from typing import Any

import torch
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, resolve_name

from jvpcli.closed import integers, reach
from jvpcli.closed.derived import Asked, Watch
from jvpcli.closed.names import FILE, Ended, Program
from jvpcli.closed.syntax import guarded
from jvpcli.closed.wall import is_walled, walled
from jvpcli.errors import ForbiddenError, JvpError, LimitError
from jvpcli.language import forecast, guards
from jvpcli.language.source import read_source
from jvpcli.recording.derivatives import Derivative, read_call
from jvpcli.recording.places import OURS, TORCH
from jvpcli.recording.recorder import DERIVATIVES, Recorder
from jvpcli.recording.tape import operation_of

HANDED_ON = tuple(f"{TORCH}/{name}" for name in ("overrides.py", "_tensor.py", "autograd/__init__.py"))
"""What stands between a derivative call of a program and where it is made."""


class _Reached(BaseException):
    """Ends a run at the call that it was made for."""


def compiled(text: str) -> CodeType:
    """The code of a program, with guards.

    Raises:
        ForbiddenError: it may not be written so.
    """
    code = "\n".join(read_source(text)[0].lines)
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    try:
        return compile(guarded(ast.parse(code)), FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ForbiddenError(f"Python can't read it: {error}") from None


@dataclass(frozen=True)
class Settings:
    """What a program runs with.

    Attributes:
        seed: where random numbers begin.
        keeps_seed: whether the program's own seeds give way to it.
        memory_limit: bytes that a result may take; None: what there is.
    """

    seed: int = 0
    keeps_seed: bool = False
    memory_limit: int | None = None


def run_through(code: CodeType, settings: Settings) -> tuple[list[int], BaseException | None, BaseException | None]:
    """Runs a program to its end: the lines at which it asked for derivatives, what ended it before its end, and what the last
    of these calls raised; None: nothing.
    """
    watch = Watch()
    guard = _Guard(watch, settings.memory_limit)
    with _in_order(settings.seed), guard:
        error = _run(code, settings, watch, guard)
    return watch.lines, error, watch.failed


def at_call(
    code: CodeType, number: int, settings: Settings, meet: Callable[[Derivative | Asked, Recorder, bool], Any]
) -> Any:
    """Runs a program up to one of the derivatives that it asks for, counted from 1; what `meet` gives of that.

    Its steps are noted down from the derivative before on. Where `meet` gives None the program is run again, and `meet` told that
    all of it was noted down.
    """
    found: list[Any] = []

    def met(call: Derivative | Asked) -> None:
        if isinstance(call, Asked):
            call = replace(call, function=_guarded(guard, call.function))
        found.append(meet(call, recorder, begin == 0))
        raise _Reached

    def derivative(func: Callable[..., Any], args: Sequence[Any], keywords: Any, make: Callable[[], Any]) -> Any:
        if watch.count + 1 == number and not watch.depth and _direct_line():
            met(read_call(func, args, keywords))
        return make()

    for begin in dict.fromkeys((number - 1, 0)):  # where the graph goes back behind the call before, all of it is noted down
        watch = Watch(number, met)
        guard = _Guard(watch, settings.memory_limit)
        recorder = _Late(derivative, watch, begin)
        with _in_order(settings.seed), guard, recorder:
            error = _run(code, settings, watch, guard)
        if found and found[-1] is not None:
            return found[-1]
    if isinstance(error, JvpError):
        raise error
    return None


class _Late(Recorder):
    """Notes calls down from a derivative call on, so that what is long gone by then costs nothing."""

    def __init__(self, derivative: Callable[..., Any], watch: Watch, begin: int) -> None:
        super().__init__(derivative)
        self._watch, self._begin = watch, begin

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._watch.count < self._begin:
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def _run(code: CodeType, settings: Settings, watch: Watch, guard: _Guard) -> BaseException | None:
    program = Program(settings.seed, settings.keeps_seed, watch, partial(_inside, guard))
    try:
        with walled():
            exec(code, program.globals)
    except Ended as ended:
        return ended.error
    except (_Reached, Exception) as error:
        return error
    return watch.ended


def _inside(guard: _Guard) -> AbstractContextManager[Any] | None:
    """The guard and the wall for a function of the program; None where it runs inside of them.

    torch takes a guard away while it carries a call out that the guard has passed on: what it calls of the program meanwhile
    (hooks, backward) has it again.
    """
    if not is_walled():
        return _behind(guard)
    return None if guard.is_up() else _again(guard)


def _guarded(guard: _Guard, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is called where there is no guard: the program's own have one with them, torch's have none."""
    if type(function) is FunctionType and function.__globals__.get(reach.OURS):
        return function

    @wraps(function, WRAPPER_ASSIGNMENTS, ())
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        with _inside(guard) or nullcontext():
            return function(*arguments, **keywords)

    guarded.__name__ = getattr(function, "__name__", type(function).__name__)  # a module's has none
    return guarded


@contextmanager
def _again(guard: _Guard) -> Iterator[None]:
    with torch._C._EnableTorchFunction(), _Guard(guard.watch, guard.memory_limit):
        yield


@contextmanager
def _behind(guard: _Guard) -> Iterator[None]:
    """Around what is called once the program has run: what is refused is an error there."""
    try:
        with walled(), _apart(), torch._C._EnableTorchFunction(), _Guard(guard.watch, guard.memory_limit):
            yield
    except Ended as ended:
        guard.watch.ended = None
        raise ended.error from None


@contextmanager
def _apart() -> Iterator[None]:
    """Inside, no module gets a part, parameter or buffer with a name that has a meaning for Python, or for numpy.

    Behind it torch's settings are as they were.  Warnings would show lines of the program on a terminal, as they stand.
    """
    dtype, enabled = torch.get_default_dtype(), torch.is_grad_enabled()
    handles = [
        register(_check_name)
        for register in (
            module.register_module_module_registration_hook,
            module.register_module_parameter_registration_hook,
            module.register_module_buffer_registration_hook,
        )
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handle in handles:
            handle.remove()
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(enabled)


def _check_name(_: Any, name: str, __: Any) -> None:
    if name.startswith("__"):
        raise Ended(ForbiddenError(f"A part of a module can't be called `{name}`."))


@contextmanager
def _in_order(seed: int) -> Iterator[None]:
    """Inside, gradients are recorded, and random numbers begin from a seed; behind it all is as it was."""
    state = torch.default_generator.get_state()
    try:
        with _apart():
            torch.default_generator.manual_seed(seed)
            torch.set_grad_enabled(True)
            yield
    finally:
        torch.default_generator.set_state(state)


@lru_cache(maxsize=8192)
def _operation(func: Callable[..., Any]) -> tuple[str, bool]:
    """The catalogue's name of a function that torch calls, empty of one of torch's own library; whether small arguments are
    all right.

    Raises:
        ForbiddenError: it is one that nothing may call.
    """
    op = operation_of(func)
    name = resolve_name(func) or getattr(func, "__name__", "")
    if not op and not UNNAMED.fullmatch(name):
        raise ForbiddenError(f"`{name}` can't be called in a program.")
    return op, bool(op) and guards.is_free(op) and forecast.is_bounded(op)


GIVEN = {*reach.TENSORS, bool, type(None), list, tuple}
"""Types of what a derivative call is given by name."""

MOST_NESTED = 50
"""Derivatives inside each other: torch carries those that are deeper out in other threads, where there is no wall."""

SMALL = {int: 1 << 10, float: float("inf"), bool: 1, str: 0, type(None): 0, torch.dtype: 0}
"""Types of arguments of which no result is large, with the largest number of each."""


def _are_small(values: Iterable[Any]) -> bool:
    """Whether arguments are numbers and tensors that are so small that nothing that is made of them is large."""
    elements = 1
    for value in values:
        kind = type(value)
        if kind in reach.TENSORS:
            if not value.is_floating_point():
                return False
            elements *= value.numel() + 1
        elif kind not in SMALL or (kind is int and abs(value) > SMALL[int]) or (kind is str and reach.ELSEWHERE.fullmatch(value)):
            return False
    return elements < forecast.SMALL // 64


FILLED = {torch.empty: torch.zeros, torch.empty_like: torch.zeros_like, torch.Tensor.new_empty: torch.Tensor.new_zeros}
"""What gives memory as it was left, and what gives zeros in its place: a layer of a program's own may leave it as it is."""

UNNAMED = re.compile(
    r"torch\.(device|Tensor\.(\w+\.__(get|set)__|__\w+__|requires_grad_|detach_|register_hook|retain_grad|numpy|tolist|item|size|stride|cpu"
    r"|is_floating_point|is_complex|untyped_storage)|nn\.(functional|init)\.\w+|functional\.\w+)"
    r"|(torch\.|profiler\.|_VariableFunctions\.)?_(set_grad_enabled|record_function_enter_new|record_function_exit(\._RecordFunction)?|parse_to"
    r"|has_compatible_shallow_copy_type|is_all_true|make_dual|unpack_dual|standard_gamma|sample_dirichlet|dirichlet_grad"
    r"|foreach_\w+|weight_norm_interface|is_functional_tensor|is_zerotensor)"
)
"""What torch calls on a program's tensors without the catalogue's having it: attributes and operators, its own libraries
written in Python, and what they are made of."""


class _Guard(TorchFunctionMode):
    """Refuses arguments that torch itself trusts, and results that are too large; counts the derivative calls of the program."""

    def __init__(self, watch: Watch, memory_limit: int | None) -> None:
        super().__init__()
        self.watch, self.memory_limit = watch, memory_limit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if self.watch.ended is not None:
            raise Ended(self.watch.ended)
        if not self.watch.pulls:
            return self._called(func, args, keywords)
        whole = [x for x in (*args, *keywords.values()) if type(x) in reach.TENSORS and integers.are_whole(x)]
        before = [x._version for x in whole]
        inner = any(map(torch._C._functorch.is_functorch_wrapped_tensor, whole))  # whose changes are not counted
        found = None if inner else self._called(func, args, keywords)
        if inner or before != [x._version for x in whole]:
            raise self._end(ForbiddenError("Integers can't be changed in a program that has called torch.func.vjp."))
        return found

    def _called(self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What a call of torch's gives, where nothing is to be said against its arguments."""
        func = FILLED.get(func, func)
        if func in DERIVATIVES:
            return self._derivative(func, args, keywords)
        if func in integers.INSTEAD or func is torch.Tensor.register_hook:
            return self._shared(func, args, keywords)
        if getattr(func, "__name__", "") == "__get__":  # an attribute: which, is looked at where it is read
            return func(*args, **keywords)
        try:
            if func is torch.Tensor.view:
                integers.check_view(*args, *keywords.values())
            op, free = _operation(func)
            if free and _are_small((*args, *keywords.values()) if keywords else args):
                return func(*args, **keywords)
            reach.check_given((*args, *keywords.values()))
            if op:
                guards.check_arguments(op, args, keywords)
                forecast.check_parts(op, args, keywords)
                forecast.check_memory(op, args, keywords, 0, self.memory_limit)
        except JvpError as error:
            raise self._end(error) from None
        return func(*args, **keywords)

    def _end(self, error: JvpError) -> Ended:
        """What ends the program."""
        self.watch.ended = error
        return Ended(error)

    def _shared(self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What leads to a tensor's memory, or is called while torch goes back through a graph, without its guard."""
        if func is torch.Tensor.register_hook:
            return func(args[0], _guarded(self, args[1]))
        try:
            if func is not torch.Tensor.__deepcopy__:  # whose memo holds all that is copied
                reach.check_given((*args, *keywords.values()))
            return integers.INSTEAD[func](*args, **keywords)
        except JvpError as error:
            raise self._end(error) from None

    def is_up(self) -> bool:
        """Whether torch's calls in this thread go through a guard."""
        return not torch._C._is_torch_function_all_disabled() and any(
            type(mode) is _Guard for mode in _get_current_function_mode_stack()
        )

    def _derivative(self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Makes a derivative call, and counts it if it is one of the program's own."""
        if self.watch.depth >= MOST_NESTED:
            raise self._end(LimitError(f"Derivatives in derivatives, {MOST_NESTED} deep, can't be asked for in a program."))
        line = 0 if self.watch.depth else _direct_line()
        if line:
            self.watch.counts(line)
        if any(type(x) not in GIVEN for x in keywords.values()):
            with self:  # torch would go through what the program generates without the guard
                keywords = {key: x if type(x) in GIVEN else tuple(x) for key, x in keywords.items()}
        try:
            with self.watch.inside():
                return func(*args, **keywords)
        except Exception as error:
            if line:
                self.watch.failed = error
            raise


def _direct_line() -> int:
    """The line of a derivative call that is being made, where it is one of the program's own; 0 of a function that it calls."""
    frame = sys._getframe(2)
    while frame is not None and (
        frame.f_code.co_filename.startswith(HANDED_ON) or frame.f_code.co_filename.startswith(OURS)
    ):
        frame = frame.f_back  # type: ignore[assignment]
    return frame.f_lineno if frame is not None and frame.f_code.co_filename == FILE else 0
