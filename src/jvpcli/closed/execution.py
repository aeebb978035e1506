"""Running a program by Python itself, between guards; and one of the derivatives that it asks for."""

from __future__ import annotations

import ast
import builtins
import linecache
import re
import sys
import warnings
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import WRAPPER_ASSIGNMENTS, lru_cache, partial, wraps
from types import CodeType
from typing import Any, NoReturn

import torch
from torch.autograd import forward_ad
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, resolve_name
from torch.utils.hooks import RemovableHandle

from jvpcli.closed import integers, reach, renamed
from jvpcli.closed.derived import After, Asked, Watch
from jvpcli.closed.given import Given, with_given
from jvpcli.closed.program import Program, found_without_import
from jvpcli.closed.syntax import guarded
from jvpcli.closed.wall import is_walled, walled
from jvpcli.closed.words import NOTHING, Ended, Reached
from jvpcli.errors import ExpressionSyntaxError, ForbiddenError, JvpError, LimitError, missing_name
from jvpcli.language import forecast, guards
from jvpcli.language.guards.integers import as_integer
from jvpcli.language.sessions import prompts
from jvpcli.language.source import read_source
from jvpcli.program import PROGRAM
from jvpcli.recording.derivatives import Derivative, graph_after, read_call, read_end
from jvpcli.recording.recorder import DERIVATIVES, Recorder
from jvpcli.recording.tape import operation_of

HANDED_ON = frozenset({"torch.overrides", "torch._tensor", "torch.autograd"})
"""Modules of torch's that stand between a derivative call of a program and where it is made, as jvp's own do."""


def code_of(text: str) -> str:
    """The code of a program, without prompts and what stands between them: each line where the text has it that was pasted.

    Raises:
        ExpressionSyntaxError, LimitError: it can't be read.
    """
    read = read_source(text)[0]
    lines = [""] * (read.source.count("\n") + 1)
    for line, start in zip(read.lines, read.starts, strict=False):
        lines[read.source.count("\n", 0, start)] = line
    return "\n".join(lines)


def compiled(text: str, given: Collection[str] = ()) -> tuple[CodeType, ...]:
    """The code of a program, with guards; it takes what is given for some names.

    It comes in the parts of which each runs whatever those before have raised: what stands at each prompt of a session.

    Raises:
        ExpressionSyntaxError: Python can't read it.
        ForbiddenError: it may not be written so.
        UsageError: it has no such name.
    """
    code = code_of(text)
    linecache.cache[PROGRAM] = (len(code), None, code.splitlines(keepends=True), PROGRAM)
    try:
        tree = ast.parse(code)
        tree = with_given(tree, given, found_without_import()) if given else tree
        parts = _parts(guarded(tree, code), prompts(text))
        return tuple(compile(part, PROGRAM, "exec", dont_inherit=True) for part in parts)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionSyntaxError(f"Python can't read it: {error}") from None


def _parts(tree: ast.Module, begins: Sequence[int]) -> list[ast.Module]:
    """A program as several, of which each begins on one of these lines; a first one has what stands before them."""
    found: dict[int, list[ast.stmt]] = {}
    for statement in tree.body:
        found.setdefault(bisect(begins, statement.lineno), []).append(statement)
    return [ast.Module(body, []) for body in found.values()]


def asks_for_none(text: str) -> str:
    """What is said of a program that ran to its end without asking for a derivative: which of its functions nobody calls."""
    tree = ast.parse(code_of(text))
    defined = [part.name for part in tree.body if isinstance(part, (ast.FunctionDef, ast.ClassDef))]
    used = {part.id for part in ast.walk(tree) if isinstance(part, ast.Name)}
    uncalled = [f"`{name}`" for name in defined if name not in used]
    if not uncalled:
        return "The program asks for no derivative."
    named = " and ".join(filter(None, (", ".join(uncalled[:-1]), uncalled[-1])))
    return f"The program asks for no derivative: it defines {named}, and nothing calls {'it' if len(uncalled) == 1 else 'them'}."


@dataclass(frozen=True)
class Settings:
    """What a program runs with.

    Attributes:
        seed: where random numbers begin.
        keeps_seed: whether the program's own seeds give way to it.
        memory_limit: bytes that a result may take; None: what there is.
        given: what stands for the program's own values, by their names.
        ends: the names that its last statements give values to, those of the last first: what it ends with.
    """

    seed: int = 0
    keeps_seed: bool = False
    memory_limit: int | None = None
    given: Mapping[str, Given] = field(default_factory=dict)
    ends: Sequence[Sequence[str]] = ()


def run_through(code: Sequence[CodeType], settings: Settings) -> tuple[Watch, BaseException | None]:
    """Runs a program to its end: the derivatives that it asked for, and what it raises; None: nothing.

    A session goes on behind what it raises, of which the last counts: but names that aren't there then may be for want of that.
    """
    watch = Watch()
    guard = _Guard(watch, settings.memory_limit)
    with _in_order(settings.seed), guard:
        error = _run(code, settings, watch, guard)
    return watch, error


def noted_down(
    code: Sequence[CodeType], settings: Settings, ends: Callable[[BaseException], bool]
) -> tuple[BaseException | None, Recorder]:
    """Runs a program with all its steps noted down, to its end or to what `ends` is true of: what it raises, and the notes."""
    watch, recorder = Watch(), Recorder()
    guard = _Guard(watch, settings.memory_limit)
    with _in_order(settings.seed), guard:
        guard.note_down(recorder)
        error = _run(code, settings, watch, guard, ends)
    return error, recorder


def at_call(
    code: Sequence[CodeType],
    seen: Watch,
    number: int,
    settings: Settings,
    meet: Callable[[Derivative | Asked, Recorder, bool], Any],
) -> Any:
    """Runs a program up to one of the derivatives that it was seen to ask for, counted from 1; what `meet` gives of that.

    The number after the last is that of what the program ends with, by its leaves.
    Its steps are noted down from a derivative before on, as late as may do. Where `meet` gives None the program is run again, at
    last with all of it noted down, of which `meet` is told.
    """
    error: BaseException | None = None
    for begin in seen.begins(number):
        watch, recorder, found = Watch(number, begin=begin), Recorder(), list[Any]()
        guard = _Guard(watch, settings.memory_limit)
        watch.meet = partial(_met, found, guard, meet, recorder, begin == 0)
        watch.start = partial(guard.note_down, recorder)
        with _in_order(settings.seed), guard:
            if begin == 0:
                watch.start()
            error = _run(code, settings, watch, guard)
        if found and found[-1] is not None:
            return found[-1]
    if isinstance(error, JvpError):
        raise error
    return None


def _met(
    found: list[Any],
    guard: _Guard,
    meet: Callable[[Derivative | Asked, Recorder, bool], Any],
    recorder: Recorder,
    whole: bool,
    call: Derivative | Asked,
) -> NoReturn:
    """Notes what is found of the call that a run was made for, and ends the run."""
    call = replace(call, function=_guarded(guard, call.function)) if isinstance(call, Asked) else call
    found.append(meet(call, recorder, whole))
    reached = Reached()
    guard.watch.end(reached)  # whatever takes its place as blocks are left: nothing is changed any more of what was met
    raise reached


def _run(
    code: Sequence[CodeType],
    settings: Settings,
    watch: Watch,
    guard: _Guard,
    ends: Callable[[BaseException], bool] = lambda error: False,
) -> BaseException | None:
    """Runs a program, and closes what it has left open; what ended it, None: nothing."""
    error = _carried_out(code, settings, watch, guard, ends)
    line = 0 if isinstance(error, (Reached, JvpError)) else watch.thrown_away()
    if line:
        error = ForbiddenError(
            f"The generator on line {line} stops inside of `with` or `try`, and is thrown away there: Python runs the end of "
            "that block then, and a program doesn't."
        )
    watch.close()
    if isinstance(error, Reached):
        watch.ended = None  # what it was made for may call functions of the program again
    return error


def _carried_out(
    code: Sequence[CodeType], settings: Settings, watch: Watch, guard: _Guard, ends: Callable[[BaseException], bool]
) -> BaseException | None:
    program = Program(settings.seed, settings.keeps_seed, watch, guard.inside, settings.given)
    raised: BaseException | None = None
    try:
        for part in code:
            error = _raised_by(part, program)
            raised = error if raised is None or not isinstance(error, (NameError, type(None))) else raised
            if error is not None and ends(error):
                return error
        if watch.target == watch.count + 1:
            end = read_end(program.globals, settings.ends, watch.given)
            if end is not None:
                watch.meet(end)
    except Ended as ended:
        return ended.error.with_traceback(ended.__traceback__)  # where the program was
    except SystemExit:
        return watch.ended or raised
    except (Reached, JvpError) as error:
        return error
    return watch.ended or raised


def _raised_by(code: CodeType, program: Program) -> Exception | None:
    """What a part of a program raises of its own; None: nothing.

    Raises:
        ForbiddenError: it reads one of Python's own names, which no program has.
        JvpError: it is refused otherwise.
    """
    try:
        with walled():
            exec(code, program.globals)
    except JvpError:
        raise
    except NameError as error:
        name = missing_name(error)
        if name is not None and name in vars(builtins):
            refusal = ForbiddenError(f"`{name}` can't be used in a program.")
            raise refusal.with_traceback(error.__traceback__) from None
        return error
    except Exception as error:
        return error
    return None


def _guarded(guard: _Guard, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is called where there is no guard: the program's own have one with them, torch's have none."""
    if reach.has_guard(function):
        return function

    @wraps(function, WRAPPER_ASSIGNMENTS, ())
    def guarded(*arguments: Any, **keywords: Any) -> Any:
        with guard.inside():
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
            try:
                yield
            finally:
                guard.watch.close()
    except Ended as ended:
        guard.watch.ended = None
        raise ended.error from None
    except SystemExit:
        raise ForbiddenError("A function of the program ends it where it is called again.") from None


@contextmanager
def _apart() -> Iterator[None]:
    """Inside, no module gets a part, parameter or buffer with a name that has a meaning for Python, or for numpy.

    Behind it torch's settings are as they were.  Warnings would show lines of the program on a terminal, as they stand.
    """
    dtype, enabled, first = torch.get_default_dtype(), torch.is_grad_enabled(), RemovableHandle.next_id
    cast, level = _cast(), forward_ad._current_level
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
        if RemovableHandle.next_id == first + len(handles):  # by which a function that registers hooks is known
            RemovableHandle.next_id = first
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(enabled)
        _leave(cast, level)


def _cast() -> tuple[bool, torch.dtype, bool, int]:
    """How torch casts what it computes with on the processor: whether, to what, whether it keeps that, and in how many blocks."""
    torch.autocast_increment_nesting()
    enabled, kept = torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()
    return enabled, torch.get_autocast_dtype("cpu"), kept, torch.autocast_decrement_nesting()


def _leave(cast: tuple[bool, torch.dtype, bool, int], level: int) -> None:
    """Leaves the blocks that a program has entered and not left, as an `ExitStack` does that it throws away."""
    while forward_ad._current_level > level:
        forward_ad.exit_dual_level()
    enabled, dtype, kept, blocks = cast
    if _cast() == cast:
        return
    torch.set_autocast_enabled("cpu", enabled)
    torch.set_autocast_dtype("cpu", dtype)
    torch.set_autocast_cache_enabled(kept)
    while _cast()[-1] > blocks:
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


def _check_name(_: Any, name: str, __: Any) -> None:
    if type(name) is not str or name.startswith("__"):
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


APPLIED = torch._functorch.autograd_function.custom_function_call
"""How torch applies a program's `Function` inside of a transform; its class comes first."""

GIVEN = {*reach.TENSORS, bool, type(None), list, tuple}
"""Types of what a derivative call is given by name."""

MOST_NESTED = 50
"""Derivatives inside each other: torch carries those that are deeper out in other threads, where there is no wall."""

SMALL = {int: 1 << 10, float: float("inf"), bool: 1, str: 0, type(None): 0, torch.dtype: 0}
"""Types of arguments of which no result is large, with the largest number of each."""


def _are_small(values: Iterable[Any]) -> bool:
    """Whether arguments are numbers and tensors that are so small that nothing that is made of them is large.

    A tensor of one whole number is that number: torch takes it for it.
    """
    elements = 1
    for value in values:
        kind = type(value)
        if kind in reach.TENSORS:
            count = value.numel()
            if count == 1 and not value.is_floating_point() and (value.is_complex() or abs(as_integer(value)) > SMALL[int]):
                return False
            elements *= count + 1
        elif kind not in SMALL or (kind is int and abs(value) > SMALL[int]) or (kind is str and reach.ELSEWHERE.fullmatch(value)):
            return False
    return elements < forecast.SMALL // 64


INSTEAD = {**integers.INSTEAD, **renamed.INSTEAD}
"""What is carried out in the place of what leads to a tensor's memory, or trusts what it gets."""

FILLED = {torch.empty: torch.zeros, torch.empty_like: torch.zeros_like, torch.Tensor.new_empty: torch.Tensor.new_zeros}
"""What gives memory as it was left, and what gives zeros in its place: a layer of a program's own may leave it as it is."""

UNNAMED = re.compile(
    r"torch\.(device|Tensor\.(\w+\.__(get|set)__|__\w+__|requires_grad_|detach_|register_hook|retain_grad|numpy|tolist|item|size|stride|cpu"
    r"|register_post_accumulate_grad_hook|is_floating_point|is_complex|untyped_storage)|nn\.(functional|init)\.\w+|functional\.\w+)"
    r"|(torch\.|profiler\.|_VariableFunctions\.)?_(set_grad_enabled|record_function_enter_new|record_function_exit(\._RecordFunction)?|parse_to"
    r"|has_compatible_shallow_copy_type|is_all_true|make_dual|unpack_dual|add_batch_dim|remove_batch_dim|standard_gamma|sample_dirichlet|dirichlet_grad"
    r"|foreach_\w+|weight_norm_interface|is_functional_tensor|is_zerotensor)"
)
"""What torch calls on a program's tensors without the catalogue's having it: attributes and operators, its own libraries
written in Python, and what they are made of."""


class _Guard(TorchFunctionMode):
    """Refuses arguments that torch itself trusts, and results that are too large; counts the derivative calls of the program."""

    def __init__(self, watch: Watch, memory_limit: int | None) -> None:
        super().__init__()
        self.watch, self.memory_limit, self._turn = watch, memory_limit, watch.turns.__next__
        self.recorder: Recorder | None = None

    def note_down(self, recorder: Recorder) -> None:
        """Has what goes through the guard noted down from here on, until its block ends."""
        self.recorder = recorder
        recorder.start()
        self.watch.carry = recorder.whole

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self.recorder is not None:
            self.recorder.stop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.recorder is not None or self.watch.ended is not None or self.watch.pulls:
            return self._watched(func, *_exact(args, kwargs or {}))
        carry, op, free = _manner(func)
        if carry is None or (free and _are_small((*args, *kwargs.values()) if kwargs else args)):
            return func(*args, **(kwargs or {}))
        return carry(self, op, func, *_exact(args, kwargs or {}))

    def _watched(self, func: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """What a call of torch's gives that is noted down, or comes behind what has ended the program or trusts its integers."""
        if self.recorder is not None:
            func = FILLED.get(func, func)
            return self.recorder.note(func, args, keywords, lambda: self._unnoted(func, args, keywords))
        if self.watch.ended is not None:
            raise Ended(self.watch.ended)
        given = [x for each in (*args, *keywords.values()) for x in (each if type(each) in (list, tuple) else (each,))]
        whole = [x for x in given if type(x) in reach.TENSORS and integers.are_whole(x)]
        before = [x._version for x in whole]
        inner = any(map(torch._C._functorch.is_functorch_wrapped_tensor, whole))  # whose changes are not counted
        found = None if inner else self._called(func, args, keywords)
        if inner or before != [x._version for x in whole]:
            raise self.watch.end(ForbiddenError("Integers can't be changed in a program that has called torch.func.vjp."))
        return found

    def _called(self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What a call of torch's gives, where nothing is to be said against its arguments."""
        carry, op, _ = _manner(func)
        return func(*args, **keywords) if carry is None else carry(self, op, func, args, keywords)

    def _filled(self, _: str, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Zeros, in the place of memory as it was left."""
        return self._called(FILLED[func], args, keywords)

    def _refused(self, name: str, *_: Any) -> NoReturn:
        """Ends the program where it calls what nothing may call."""
        raise self.watch.end(ForbiddenError(f"`{name}` can't be called in a program."))

    def _asked(self, op: str, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Makes a call whose arguments are looked at first, as the language's are."""
        try:
            if func is torch.Tensor.view:
                integers.check_view(*args, *keywords.values())
            reach.check_given((*args[func is APPLIED :], *keywords.values()))
            if op:
                integers.check_gradient(op, args, keywords)
                guards.check_arguments(op, args, keywords)
                forecast.check_parts(op, args, keywords)
                forecast.check_memory(op, args, keywords, 0, self.memory_limit)
        except JvpError as error:
            raise self.watch.end(error) from None
        return func(*args, **keywords)

    def _unnoted(self, func: Any, args: Any, keywords: Any) -> Any:
        """What a call gives that is being noted down."""
        recorder, self.recorder = self.recorder, None
        try:
            return self.__torch_function__(func, (), args, keywords)
        finally:
            self.recorder = recorder

    def _shared(self, _: str, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """What leads to memory, trusts what it gets, or is called while torch goes back through a graph, without its guard."""
        if func is torch.Tensor.register_hook:
            return func(args[0], _guarded(self, args[1]))
        try:
            if func is not torch.Tensor.__deepcopy__:  # whose memo holds all that is copied
                reach.check_given((*args, *keywords.values()))
            return INSTEAD[func](*args, **keywords)
        except JvpError as error:
            raise self.watch.end(error) from None

    def inside(self) -> AbstractContextManager[Any]:
        """The guard and the wall for a function of the program; nothing where the guard is there, which stands within the wall.

        torch takes a guard away while it carries a call out that the guard has passed on: what it calls of the program meanwhile
        (hooks, backward) has it again. A call is a turn.
        """
        self._turn()
        if torch._C._is_torch_function_mode_enabled() and (
            type(torch._C._get_function_stack_at(0)) is _Guard
            or any(type(mode) is _Guard for mode in _get_current_function_mode_stack())
        ):
            return NOTHING
        return _again(self) if is_walled() else _behind(self)

    def _derivative(self, _: str, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Makes a derivative call, and counts it if it is one of the program's own."""
        if self.watch.depth >= MOST_NESTED:
            raise self.watch.end(LimitError(f"Derivatives in derivatives, {MOST_NESTED} deep, can't be asked for in a program."))
        line = 0 if self.watch.depth else _direct_line()
        after = _after(func, args, keywords)
        number = self.watch.counts(line, lambda: read_call(func, args, keywords), after) if line else 0
        if not GIVEN.issuperset(map(type, keywords.values())):
            with self:  # torch would go through what the program generates without the guard
                keywords = {key: x if type(x) in GIVEN else tuple(x) for key, x in keywords.items()}
        finds_nan = self.watch.finds_nan and after is not After.CREATED  # else torch would read the code of each step's place
        with torch.autograd.set_detect_anomaly(True) if finds_nan else NOTHING:
            given = self.watch.inside(number, func, *args, **keywords)
        self.watch.given = given if number else self.watch.given
        return given


def _exact(args: Sequence[Any], keywords: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Arguments with nothing in them of the program's own classes that Python has a type for."""
    return reach.exacted(args), {name: reach.exacted(value) for name, value in keywords.items()} if keywords else keywords


@lru_cache(maxsize=8192)
def _manner(func: Callable[..., Any]) -> tuple[Callable[..., Any] | None, str, bool]:
    """How a call of a function of torch's is made: by which method of the guard, None: as it is; the catalogue's name of the
    function, empty of one of torch's own library; whether small arguments are all right.
    """
    if func in DERIVATIVES:
        return _Guard._derivative, "", False
    if func in INSTEAD or func is torch.Tensor.register_hook:
        return _Guard._shared, "", False
    if func in FILLED:
        return _Guard._filled, "", False
    if getattr(func, "__name__", "") == "__get__":  # an attribute: which, is looked at where it is read
        return None, "", True
    op = operation_of(func)
    name = resolve_name(func) or getattr(func, "__name__", "")
    if not op and func is not APPLIED and not UNNAMED.fullmatch(name):
        return _Guard._refused, name, False
    free = func is not torch.Tensor.view and (not op or (guards.is_free(op) and forecast.is_bounded(op)))
    return _Guard._asked, op, free


def _after(func: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> After:
    kept, creates = graph_after(func, args, keywords)
    return After.CREATED if creates else After.KEPT if kept else After.GIVEN_UP


def _direct_line() -> int:
    """The line of a derivative call that is being made, where it is one of the program's own; 0 of a function that it calls."""
    frame = sys._getframe(2)
    while frame is not None and reach.OURS not in frame.f_globals:  # Python announces it where the code of a frame is read
        module = frame.f_globals.get("__name__", "")
        if module not in HANDED_ON and not module.startswith("jvpcli."):
            return 0
        frame = frame.f_back  # type: ignore[assignment]
    return 0 if frame is None else frame.f_lineno
