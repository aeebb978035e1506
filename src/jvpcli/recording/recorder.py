"""The recorder: every call of torch that a program makes, with its operands, its results and its place.

It is one of torch's own function modes, so that what runs is what would run without it.  A call is kept no longer than the
tensors that it gave, or that were computed from them with a gradient: a training loop holds what autograd's graph holds.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, wraps
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode_temporarily
from torch.utils.hooks import BackwardHook

from jvpcli.language.readings import traits, written_by
from jvpcli.recording.calls import Attempt, Call, Cut, Given, Hook, ModuleHooks, Reading, Result, Whole, Write
from jvpcli.recording.derivatives import asked, graph_after, inputs_of, leaves_gradients
from jvpcli.recording.nodes import FREED, MADE, graph_nodes, is_leaf, node_of
from jvpcli.recording.places import RECORDING, Place, Point, pieces, user_point

DEEPEST = 32
"""Steps without a gradient, one upon the other, that are kept: a mask of a mask; beyond, a value counts as given."""

MOST_WRITES = 4096
"""Changes in place that are remembered, for an error that names one."""


@dataclass(eq=False, slots=True)
class _Made:
    """What is known of one tensor: by which call it was made, of the call's result which part it is, and its version then."""

    reference: weakref.ref[Tensor]
    call: Call
    path: tuple[int, ...]
    version: int

    def is_left(self, x: Tensor) -> bool:
        """Whether the tensor is as the call left it: what changes one without a graph, through a view too, is no step."""
        return x.requires_grad or _version(x) == self.version


Watcher = Callable[[Callable[..., Any], Sequence[Any], dict[str, Any], Callable[[], Any]], Any]
"""Told of a derivative call before it is made: the function, its arguments, and what makes it."""


class Recorder(TorchFunctionMode):
    """Notes down the calls of torch inside a `with` block; after it everything that was made can still be asked for.

    Args:
        derivative: is handed each call of `torch.autograd.grad` and `.backward`, and makes it.

    Attributes:
        retains: whether the last backward pass has kept its graph for another one, which may be of numbers overwritten by then.
    """

    def __init__(self, derivative: Watcher | None = None) -> None:
        super().__init__()
        self._derivative = derivative
        self._made: dict[int, _Made] = {}
        self._count = 0
        self._modules: list[Any] = []
        self._storages: dict[int, tuple[Any, list[Call]]] = {}
        self._roots: dict[int, tuple[Any, Point | None]] = {}
        self._frozen: dict[int, tuple[weakref.ref[Tensor], Point | None]] = {}
        self._constants = set[int]()  # what has no gradient and took part in steps that have one, by `id`
        self.retains = False
        self._given = weakref.WeakValueDictionary[tuple[int, int, bool], Given]()  # each once, while a call holds it
        self._before = weakref.WeakKeyDictionary[Given, Tensor]()  # numbers of leaves that were overwritten since
        self.writes: deque[Write] = deque(maxlen=MOST_WRITES)
        self.numbers: deque[tuple[Any, Call]] = deque(maxlen=MOST_WRITES)
        self.last_pass: Point | None = None
        self.failed: Attempt | None = None

    # Beginning and end

    def __enter__(self) -> Recorder:
        self.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stop()

    def start(self) -> None:
        """From here on what torch's modes are not told of is noted down, too, by the recorder of the innermost mode."""
        REPLACED.count(recorders=1)

    def stop(self) -> None:
        """No longer."""
        REPLACED.count(recorders=-1)
        self._modules.clear()

    @property
    def recorder(self) -> Recorder:
        """The recorder of a mode: itself."""
        return self

    def begin(self, module: Any) -> None:
        """A module runs from here on, up to `end`."""
        if not self._modules:
            self._roots[id(module)] = (weakref.ref(module), user_point(RECORDING))
        self._modules.append(module)

    def end(self) -> None:
        """The module that has begun last has run."""
        self._modules.pop()

    # A call

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Makes the call, and notes it down."""
        keywords = kwargs or {}
        return self.note(func, args, keywords, lambda: func(*args, **keywords))

    def note(self, func: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, which is a call of a function; noted down."""
        if func in PASSED_OVER or _is_transformed(args, keywords):
            result = make()
            if func in SWITCHES:
                self._switched(args[0])
            if func is Tensor.register_hook:
                self._hooked(args[0], result)
            return result
        if func in DERIVATIVES:
            self.last_pass = user_point()
            make = _marking(make, func, args, keywords, (self._count, self.last_pass))
            self.retains, _ = graph_after(func, args, keywords)
            if self._derivative is not None:
                derivative, inner = self._derivative, make
                make = lambda: derivative(func, args, keywords, inner)  # noqa: E731
        tensors = _tensors_in(keywords.values(), _tensors_in(args, []))
        may_write = traits(func)[0] or "out" in keywords or "inplace" in keywords
        writes = may_write and bool(written_by(getattr(func, "__name__", ""), args, keywords))
        if func in UNTOLD or not (torch.is_grad_enabled() or any(map(self._is_followed, tensors, repeat(writes)))):
            return self._with_numbers(make, func, args, keywords, tensors if writes else ())
        given = _as_given((tuple(args), keywords))
        call = Call(self._count, func, None, None, user_point(), tuple(self._modules), torch.is_grad_enabled(), casts_in_force())
        self._count += 1
        versions = [_version(x) for x in tensors]
        origins = {id(x): self.origin(x, copy=writes and k == 0) for k, x in enumerate(tensors)}
        producers = [node.name() if (node := node_of(x)) is not None else "" for x in tensors] if writes else []
        if getattr(func, "__name__", "") in DRAWING:
            stream = keywords.get("generator") or torch.default_generator
            call.state = stream, stream.get_state()
        numbers = self._overwritten(tensors if writes else ())
        held = {x: x.grad for x in inputs_of(func, args, keywords)} if leaves_gradients(func, args, keywords) else None
        result = self._attempted(make, func, args, keywords)
        if held is not None:
            self._left_in_grad(call, func, args, keywords, held)
        self._before.update(numbers)
        changed = [k for k, x in enumerate(tensors) if _version(x) != versions[k]]
        self._note(call, given, result, origins, tensors, [tensors[k] for k in changed])
        for k in changed if writes else ():
            x = tensors[k]
            if self._may_be_kept(x):
                self._note_write(x, versions[k], producers[k], call.number, call.point)
        return result

    def _is_followed(self, x: Tensor, writes: bool) -> bool:
        """Whether a call outside of any graph that takes a tensor is noted down: one that updates leaves is not."""
        return id(x) in self._made or (x.requires_grad and not (writes and is_leaf(x)))

    def _with_numbers(
        self, make: Callable[[], Any], func: Any, args: Any, keywords: Any, written: Sequence[Tensor]
    ) -> Any:
        """What a call gives with which nothing is differentiated; what it writes to may be kept by a step for its derivative."""
        kept = [(x, _version(x)) for x in written if self._may_be_kept(x)]
        numbers = self._overwritten(written)
        result = self._attempted(make, func, args, keywords)
        for x, before in kept:
            if _version(x) != before:
                self._note_write(x, before, "", self._count, user_point())
        self._before.update(numbers)
        return result

    def _overwritten(self, written: Sequence[Tensor]) -> dict[Given, Tensor]:
        """The numbers of leaves that a call is about to write to, where a graph is kept, and calls that took them."""
        leaves = [x for x in written if is_leaf(x)] if self.retains else []
        taken = [self._given.get((id(x), _version(x), required)) for x in leaves for required in (False, True)]
        return {given: given.tensor.detach().clone() for given in taken if given is not None}

    def _may_be_kept(self, x: Tensor) -> bool:
        """Whether a step may have kept a tensor for its derivative, or what it is a view of."""
        whole = _whole(x)
        return x.requires_grad or whole.requires_grad or id(whole) in self._constants

    def _note_write(self, x: Tensor, before: int, producer: str, number: int, point: Point | None) -> None:
        """Notes a change in place."""
        shapes = tuple(x.shape), tuple(_whole(x).shape)
        self.writes.append(Write(number, weakref.ref(x), shapes, before, producer, point))

    def _attempted(self, make: Callable[[], Any], func: Any, args: Any, keywords: Any) -> Any:
        """What the call gives; of one that raises the operands are kept, from which it is explained."""
        try:
            return make()
        except BaseException as error:
            if self.failed is None or self.failed.error is not error:
                self.failed = Attempt(func, tuple(args), keywords, user_point(), tuple(self._modules), error)
            raise

    def _note(
        self,
        call: Call,
        given: Any,
        result: Any,
        origins: Mapping[int, Given | Result],
        tensors: Sequence[Tensor],
        changed: Sequence[Tensor],
    ) -> None:
        """Notes a call down: what it was given, and which tensors it gave or changed."""
        results = list(_paths(result))
        news = [(path, x) for path, x in results if id(x) not in origins]
        graphs = []
        for x in (*(x for _, x in news), *changed):
            if (node := node_of(x)) is not None:
                graphs.append(x)
                node.metadata[MADE] = call.point
        call.differentiable = bool(graphs)
        kept = {id(x): self._kept(origins[id(x)], call, x) for x in tensors}
        call.arguments, call.keywords = _with_origins(given, kept)
        for x in changed:
            if any(x is y for y in graphs):
                self._mark(x, call, next((path for path, y in results if y is x), ()))
                self._storage(x).append(call)
            else:
                self._made.pop(id(x), None)  # its numbers are given from here on
        for path, x in news:
            if not is_leaf(x):
                self._mark(x, call, path)
        plain = not results and (isinstance(result, (float, int, complex, list)) or hasattr(result, "__array_interface__"))
        if plain and any(x.requires_grad or id(x) in self._made for x in tensors):
            self.numbers.append((result, call))

    def _left_in_grad(self, call: Call, func: Any, args: Any, keywords: Any, held: Mapping[Tensor, Tensor | None]) -> None:
        """Notes down the gradients that a backward pass with a graph of its own has left in `.grad`, added to what was there."""
        _, outputs, _, weights = asked(func, args, keywords)
        given = ((tuple(outputs), tuple(held), weights), {"create_graph": True, "allow_unused": True})
        taken = self._step(call, torch.autograd.grad, given)
        for k, (x, before) in enumerate(held.items()):
            if (g := x.grad) is None or g is before:
                continue
            if before is None:
                self._mark(g, taken, (k,))
            else:
                self._mark(g, self._step(call, Tensor.add, ((before, Result(taken, (k,))), {})), ())
            if (node := node_of(g)) is not None:
                node.metadata[MADE] = call.point

    def _step(self, call: Call, function: Callable[..., Any], given: Any) -> Call:
        """A step with a graph that torch takes inside of a call."""
        step = replace(call, number=self._count, function=function, differentiable=True, results={})
        self._count += 1
        origins = {id(x): self._kept(self.origin(x), step, x) for x in pieces(given) if isinstance(x, Tensor)}
        step.arguments, step.keywords = _with_origins(given, origins)
        return step

    def whole(self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Carries out what torch's modes are not told the steps of, and notes it down as one step, of all that it reads."""
        if peek_interpreter_stack() is not None:
            return function(*arguments, **keywords)
        with Reading() as reading:
            result = function(*arguments, **keywords)
        read = {id(x): x for x in (*pieces((arguments, keywords)), *reading.outside.values()) if isinstance(x, Tensor)}
        if torch.is_grad_enabled() and any(x.requires_grad or key in self._made for key, x in read.items()):
            tensors = tuple(read.values())
            step = Whole(function, arguments, keywords, tensors)
            call = Call(self._count, step, None, None, user_point(), tuple(self._modules), True, casts_in_force())
            self._count += 1
            self._note(call, (tensors, {}), result, {key: self.origin(x) for key, x in read.items()}, tensors, [])
        return result

    def _switched(self, x: Tensor) -> None:
        """Notes where a tensor was told to require no gradient."""
        if x.requires_grad:
            self._frozen.pop(id(x), None)
        else:
            self._frozen[id(x)] = (weakref.ref(x), user_point())

    def _hooked(self, x: Tensor, handle: Any) -> None:
        """Notes a hook of a tensor; where it is taken away, torch takes it out of the same mapping."""
        hooks: Any = x._backward_hooks
        hooks[handle.id] = Hook(hooks[handle.id])
        if (made := self._found(x)) is not None:
            made.call.hooks[made.path] = hooks

    def _found(self, x: Tensor) -> _Made | None:
        """What is known of a tensor, and not of an earlier one in the same place of memory."""
        made = self._made.get(id(x))
        return made if made is not None and made.reference() is x else None

    def _mark(self, x: Tensor, call: Call, path: tuple[int, ...]) -> None:
        key = id(x)

        def gone(reference: Any, made: dict[int, _Made] = self._made) -> None:
            known = made.get(key)
            if known is not None and known.reference is reference:
                del made[key]

        reference = weakref.ref(x, gone)
        self._made[key] = _Made(reference, call, path, _version(x))
        call.results[path] = reference

    def _storage(self, x: Tensor) -> list[Call]:
        """The calls that have changed the memory of a tensor."""
        from torch.multiprocessing.reductions import StorageWeakRef

        reference = StorageWeakRef(x.untyped_storage())
        if len(self._storages) > 256:
            self._storages = {key: held for key, held in self._storages.items() if not held[0].expired()}
        return self._storages.setdefault(reference.cdata, (reference, []))[1]

    def _kept(self, origin: Given | Result, call: Call, x: Tensor) -> Given | Result | Cut:
        """How a call holds what it was given, so that nothing lives longer than autograd's graph would have it live."""
        if call.differentiable and not x.requires_grad:
            if len(self._constants) >= MOST_WRITES:
                self._constants.clear()
            self._constants.add(id(_whole(x)))
        if isinstance(origin, Given):
            return origin
        if origin.call.function is torch.autograd.grad and not origin.call.differentiable:
            origin = replace(origin, numbers=_numbers(origin, x))
        if call.differentiable:
            return origin if origin.call.differentiable or origin.call.depth <= DEEPEST else _numbers(origin, x)
        if not origin.call.differentiable and origin.call.depth < DEEPEST:
            call.depth = max(call.depth, origin.call.depth + 1)
            return origin
        return _numbers(origin, x)

    # What is known of a tensor

    def origin(self, x: Tensor, copy: bool = False) -> Given | Result:
        """Where a tensor comes from; with `copy` a given one is copied, since it is about to be changed."""
        made = self._found(x)
        if made is None or not made.is_left(x):
            if copy and torch.is_grad_enabled() and not is_leaf(x):
                with torch._C.DisableTorchFunction():
                    return Given(x.detach().clone(), 0)
            known = id(x), _version(x), x.requires_grad  # which nothing else is while it is held
            return self._given.get(known) or self._given.setdefault(known, Given(x, *known[1:]))
        writes = tuple(self._storage(x)) if self._storages and x.layout is torch.strided else ()
        return Result(made.call, made.path, writes, required=x.requires_grad)

    def is_as_left(self, x: Tensor, call: Call) -> bool:
        """Whether a tensor that a call gave still has the numbers that it gave it."""
        origin = self.origin(x)
        return isinstance(origin, Result) and origin.call is call and not origin.writes

    def numbers_then(self, given: Given) -> Tensor:
        """What a given tensor held as a step was given it, if a graph was kept while it was overwritten; else what it holds."""
        return self._before.get(given, given.tensor)

    def frozen_at(self, x: Tensor) -> Place | None:
        """Where a tensor was told to require no gradient, if that was seen."""
        reference, point = self._frozen.get(id(x), (None, None))
        return point.place() if reference is not None and reference() is x and point is not None else None

    def root_point(self, modules: Sequence[Any]) -> Point | None:
        """Where the user's code called the outermost of some modules."""
        reference, point = self._roots.get(id(modules[0]), (None, None)) if modules else (None, None)
        return point if reference is not None and reference() is modules[0] else None


def path_of(modules: Sequence[Any]) -> str:
    """The dotted path of the innermost of some modules, in the outermost: `encoder.0.self_attn`; empty for that itself."""
    if not modules:
        return ""
    root, inner = modules[0], modules[-1]
    return next((name for name, module in root.named_modules() if module is inner), "")


def casts_in_force() -> tuple[tuple[str, torch.dtype], ...]:
    """The autocast that is on: kinds of devices, each with the dtype."""
    if not torch._C._is_any_autocast_enabled():
        return ()
    return tuple([(kind, torch.get_autocast_dtype(kind)) for kind in CASTING if torch.is_autocast_enabled(kind)])


CASTING = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices that torch casts on by itself."""


# What torch's modes are not told of


def recorder_here() -> Recorder | None:
    """The recorder that is on in this thread: modes are a thread's own."""
    for mode in reversed(_get_current_function_mode_stack()):
        if (found := getattr(mode, "recorder", None)) is not None:
            return found
    return None


def _on_top() -> Recorder | None:
    """The recorder that is on in this thread, where no mode of somebody else's would have to be told first."""
    recorder = recorder_here()
    top = getattr(_get_current_function_mode_stack()[-1], "recorder", None) if recorder is not None else None
    return recorder if top is recorder else None


def _recorded(function: Any) -> Callable[..., Any]:
    """A function as one whose calls are noted down."""

    @wraps(function)
    def recorded(*arguments: Any, **keywords: Any) -> Any:
        recorder = _on_top()
        if recorder is None:
            return function(*arguments, **keywords)
        with _pop_mode_temporarily():
            return recorder.__torch_function__(function, (), arguments, keywords)

    return recorded


def _recorded_apply(apply: Any) -> Any:
    """`Function.apply`, of any class, as a call that is noted down."""

    @wraps(apply.__func__)
    def recorded(cls: Any, /, *arguments: Any, **keywords: Any) -> Any:
        return _recorded(apply.__get__(None, cls))(*arguments, **keywords)

    return classmethod(recorded)


def _recorded_hooks(setup: Any) -> Callable[..., Any]:
    """A method that puts a module's backward hooks around a call of it, as a step that is noted down."""
    of_inputs = setup.__name__ == BackwardHook.setup_input_hook.__name__

    @wraps(setup)
    def recorded(self: Any, values: Any) -> Any:
        recorder = _on_top()
        if recorder is None:
            return setup(self, values)
        hooks = vars(self).get("jvp") or vars(self).setdefault("jvp", ModuleHooks(self))
        with _pop_mode_temporarily():
            step = hooks.backward_hook_of_inputs if of_inputs else hooks.backward_hook_of_outputs
            return recorder.note(step, (values,), {}, lambda: setup(self, values))

    return recorded


@cache
def _in_its_place(call: Callable[..., Any]) -> Callable[..., Any]:
    """`Module.__call__`, of which a recorder knows as it runs."""

    @wraps(call)
    def called(self: Any, /, *arguments: Any, **keywords: Any) -> Any:
        recorder = None if torch.compiler.is_compiling() else recorder_here()
        if recorder is None:
            return call(self, *arguments, **keywords)
        if type(self).__module__ == "torch._dynamo.eval_frame":
            with _suspended():
                return call(self, *arguments, **keywords)
        recorder.begin(self)
        try:
            return call(self, *arguments, **keywords)
        finally:
            recorder.end()

    return called


@contextmanager
def _suspended() -> Iterator[None]:
    """Inside, nothing is noted down in this thread: what torch compiles must find nothing of ours."""
    if _on_top() is None:
        yield
        return
    REPLACED.count(suspended=1)
    try:
        with _pop_mode_temporarily():
            yield
    finally:
        REPLACED.count(suspended=-1)


def _left_alone(compile_: Callable[..., Any]) -> Any:
    """`torch.compile`, whose results run with nothing noted down."""

    @wraps(compile_)
    def compiling(model: Any = None, **options: Any) -> Any:
        if model is None:
            return lambda model: compiling(model, **options)
        with _suspended():
            compiled: Any = compile_(model, **options)
        if isinstance(compiled, torch.nn.Module):
            return compiled  # whose call is replaced, as any module's

        @wraps(compiled)
        def called(*arguments: Any, **keywords: Any) -> Any:
            with _suspended():
                return compiled(*arguments, **keywords)

        return called

    return compiling


class _Replaced:
    """What stands in torch while recorders are on: once for all threads, so that no recorder takes away another's.

    Whether a call is noted down, and by which recorder, is seen as it is made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorders = self._suspended = 0
        self._own: dict[tuple[Any, str], tuple[Any, Any]] = {}

    def count(self, recorders: int = 0, suspended: int = 0) -> None:
        """So many more recorders are on, and suspended."""
        with self._lock:
            self._recorders += recorders
            self._suspended += suspended
            for owner, name, replace in REPLACEMENTS:
                self._put(owner, name, replace, bool(self._recorders) and not (self._suspended and name in UNKNOWN))

    def _put(self, owner: Any, name: str, replace: Callable[[Any], Any], wanted: bool) -> None:
        """Replaces an attribute, or gives it back; not where somebody else has replaced it since."""
        here = vars(owner)[name]
        if wanted and (owner, name) not in self._own:
            self._own[owner, name] = here, (ours := replace(here))
            setattr(owner, name, ours)
        elif not wanted and (owner, name) in self._own:
            before, ours = self._own.pop((owner, name))
            if here is ours:
                setattr(owner, name, before)


DERIVATIVES = (torch.autograd.grad, torch.autograd.backward, Tensor.backward)
TELLS_OF_BACKWARD = "has_torch_function" in torch.autograd.backward.__code__.co_names
"""Whether torch's modes are told of `torch.autograd.backward`, as they are of the other two: in 2.6 they are not."""

REPLACEMENTS: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (torch.nn.Module, "__call__", _in_its_place),
    (torch.nn.Module, torch.nn.Module.__call__.__name__, _in_its_place),  # the name that it is pickled by
    (torch.autograd.Function, "apply", _recorded_apply),
    (BackwardHook, "setup_input_hook", _recorded_hooks),
    (BackwardHook, "setup_output_hook", _recorded_hooks),
    (torch, "compile", _left_alone),
    (torch, "from_numpy", _recorded),
    *(() if TELLS_OF_BACKWARD else ((torch.autograd, "backward", _recorded),)),
)
"""What is called in torch without its modes being told: where it stands, its name, and what stands in its place."""

UNKNOWN = ("__call__", torch.nn.Module.__call__.__name__, "from_numpy")
"""Of these the names that torch's compiler must find as they are."""

REPLACED = _Replaced()

SWITCHES = (Tensor.requires_grad.__set__, Tensor.requires_grad_)  # type: ignore[attr-defined]
PROPERTIES = (
    "shape", "dtype", "device", "requires_grad", "grad", "grad_fn", "is_leaf", "ndim", "_version", "_base", "layout", "names",
    "output_nr", "is_sparse", "is_quantized", "is_meta", "is_nested", "is_cuda", "is_cpu", "_backward_hooks",
)  # fmt: skip
METHODS = (
    "size", "dim", "stride", "numel", "is_floating_point", "is_complex", "is_contiguous", "element_size", "__len__",
    "storage_offset", "data_ptr", "__repr__", "__format__", "__hash__", "register_hook", "retain_grad", "is_shared",
    "untyped_storage", "requires_grad_", "is_inference", "__deepcopy__",
)  # fmt: skip
FUNCTIONS = ("is_floating_point", "is_complex", "is_tensor", "is_grad_enabled", "get_default_dtype", "numel", "is_inference")
PASSED_OVER = frozenset(
    [getattr(Tensor, name).__get__ for name in PROPERTIES if hasattr(Tensor, name)]
    + [getattr(Tensor, name) for name in METHODS if hasattr(Tensor, name)]
    + [getattr(torch, name) for name in FUNCTIONS]
    + list(SWITCHES)
)
"""What gives no numbers, or a leaf of its own."""

UNTOLD = frozenset([vars(torch._C.TensorBase)["grad"].__set__, torch._C._set_grad_enabled])
"""What computes nothing, but may be refused."""


def _marking(
    make: Callable[[], Any], func: Any, args: Any, keywords: Mapping[str, Any], mark: tuple[int, Point | None]
) -> Callable[[], Any]:
    """A backward pass that leaves a mark on the nodes that it frees, once it has gone through them."""

    def marked() -> Any:
        keeps, _ = graph_after(func, args, keywords)
        _, outputs, _, _ = asked(func, args, keywords)
        nodes = {} if keeps else graph_nodes(y for y in outputs if isinstance(y, Tensor))
        result = make()
        for node in nodes:
            if not hasattr(node, "variable"):
                node.metadata[FREED] = mark
        return result

    return marked


def _numbers(origin: Result, x: Tensor) -> Cut:
    """The numbers of a tensor apart from the tensor itself, which may go."""
    with torch._C.DisableTorchFunction():
        alias = x.detach()
    return Cut(alias, _version(alias), weakref.ref(origin.call), origin.path)


def _whole(x: Tensor) -> Tensor:
    """The tensor that a view is one of; else the tensor itself."""
    return x if x._base is None else x._base


def _version(x: Tensor) -> int:
    try:
        return int(x._version)
    except RuntimeError:  # under inference_mode nothing is counted
        return -1


DRAWING = frozenset(
    {"dropout", "rrelu", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "bernoulli", "multinomial", "normal",
     "poisson", "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "dropout1d", "dropout2d",
     "dropout3d", "gumbel_softmax", "lstm", "gru", "rnn_tanh", "rnn_relu", "scaled_dot_product_attention",
     "multi_head_attention_forward", "fractional_max_pool2d", "fractional_max_pool3d", "bernoulli_", "normal_", "uniform_",
     "exponential_", "geometric_", "log_normal_", "cauchy_", "random_"}
)  # fmt: skip
"""What may draw random numbers."""


def _is_transformed(args: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """Whether a call is one of a transform of torch.func: inside of vmap are those that get tensors of the rows."""
    inner = peek_interpreter_stack()
    if inner is None:
        return False
    tensors = _tensors_in(keywords.values(), _tensors_in(args, []))
    functorch = torch._C._functorch
    return inner.key() != functorch.TransformType.Vmap or any(map(functorch.is_functorch_wrapped_tensor, tensors))


NESTS = (tuple, list, dict)
"""What may hold tensors among a call's arguments."""


def _tensors_in(parts: Iterable[Any], found: list[Tensor]) -> list[Tensor]:
    """Those found before and those among some arguments, in their order."""
    for part in parts:
        if isinstance(part, Tensor):
            found.append(part)
        elif isinstance(part, NESTS):
            _tensors_in(part.values() if isinstance(part, dict) else part, found)
    return found


def _as_given(value: Any) -> Any:
    """Arguments as they are before a call, which may change its lists and dicts."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([_as_given(part) if isinstance(part, NESTS) else part for part in value])
    return {key: _as_given(part) for key, part in value.items()} if isinstance(value, dict) else value


def _with_origins(value: Any, origins: Mapping[int, Any]) -> Any:
    """Arguments with where they come from in the place of tensors, each of which is among the `origins` by its `id`."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([_with_origins(part, origins) if isinstance(part, NESTS) else origins.get(id(part), part) for part in value])
    if isinstance(value, dict):
        return {key: _with_origins(part, origins) for key, part in value.items()}
    return origins.get(id(value), value)


def _paths(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each tensor of a result, with the indices that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from _paths(part, (*path, index))
