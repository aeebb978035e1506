"""Which call for a derivative a program is about, and what comes before it.  Only the text is read; nothing of it is run."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jvpcli.attributes import cached_property
from jvpcli.errors import ForbiddenError
from jvpcli.language.calls import (
    COMPOSED,
    GRAPH_OPTIONS,
    Pasted,
    asked,
    asked_twice,
    has_graph,
    is_backward,
    is_block,
    is_constant,
    is_functional,
    is_true,
    is_vjp,
    items,
    layers,
    maker,
    makes_function,
    name_of,
    parameters_of,
    parsed,
    path,
    text_of,
    transformed,
    without_places,
)
from jvpcli.language.dependence import imported, needed, root_of
from jvpcli.language.given import derives, given
from jvpcli.language.leaves import without_leaves
from jvpcli.language.names import assigned, copied, free_names, method_of, read_first
from jvpcli.language.statements import (
    NAMESPACES,
    all_read,
    assignment,
    called_by,
    cleared,
    functions_of,
    is_passed_over,
    is_plain,
    is_shown,
    modules_of,
    names_changed,
    names_made,
    of_leaf,
    read_with_graph,
    reads_grad,
    sources,
    updates,
)
from jvpcli.language.training import remade


@dataclass(frozen=True)
class Place:
    """A call for a derivative, and where it stands: in which statement, and as what text.

    Attributes:
        place: of the statement.
        call: the call; of a function that a `vjp` before has made, that is `vjp(f, x)[1](v)`.
        node: the call as it is written.
        start: the statements before this one come before the call.
    """

    place: int
    call: ast.Call
    node: ast.Call
    start: int


@dataclass(frozen=True)
class Subject:
    """What is meant: what comes before it, what it asks for, and the call with those that it adds up with; none of a value."""

    before: list[ast.stmt]
    asked: Pasted
    calls: tuple[Place, ...]


def calls_of(statements: Sequence[ast.stmt], code: str) -> Iterator[Place]:
    """The calls for derivatives that are carried out once, in their order; not those in blocks and functions."""
    own = set(assigned(statements))
    pulls: dict[str, tuple[int, ast.expr]] = {}
    functions: dict[str, ast.Call] = {}
    for place, statement in enumerate(statements):
        names = names_made(statement)
        for node in _inner_first(statement):
            pulled = pulls.get(_given_weights(node))
            if pulled is not None:
                made, value = pulled
                alone = made == place - 1 and free_names(node).isdisjoint(names_made(statements[made])[:1])
                yield Place(place, _pulled_at_once(value, node), node, made if alone else place)
                continue
            callee = _with_made(node.func, functions)
            call = node if callee is node.func else ast.Call(callee, node.args, node.keywords)
            if root_of(call) in own and not is_backward(node):
                continue
            elif len(names) in (2, 3) and is_vjp(node) and isinstance(statement, ast.Assign) and node is statement.value:
                if not any(_gives_weights(part, names[1]) for part in statements[place + 1 :]):
                    yield Place(place, node, node, place)
                else:
                    pulls[names[1]] = place, node
            elif _is_derivative(call, code):
                yield Place(place, call, node, place)
        named = _with_made(statement.value, functions) if isinstance(statement, ast.Assign) and len(names) == 1 else None
        anew = {*assigned([statement]), getattr(statement, "name", "")}
        functions = {name: function for name, function in functions.items() if anew.isdisjoint({name, *free_names(function)})}
        if isinstance(named, ast.Call) and makes_function(named) and root_of(named) not in own:
            functions[names[0]] = named


def _with_made(function: ast.expr, functions: Mapping[str, ast.Call]) -> ast.expr:
    """`jacrev(f)` of `g`, and `vmap(jacrev(f))` of `vmap(g)`, where g stands for `jacrev(f)`; any other expression itself."""
    if isinstance(function, ast.Name):
        return functions.get(function.id, function)
    if not isinstance(function, ast.Call) or not makes_function(function) or not function.args:
        return function
    inner, *others = function.args
    made = _with_made(inner, functions)
    return function if made is inner else ast.Call(function.func, [made, *others], function.keywords)


def _is_derivative(call: ast.Call, code: str) -> bool:
    """Whether a call gives a derivative, and no function that does."""
    if asked(call, code) is not None or is_functional(call):
        return True
    return maker(call) is not call and bool(call.args) and transformed(call) is not None


def _inner_first(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in a statement, those in the arguments of others before them; not in what runs another time or not at all."""
    if isinstance(node, (ast.Lambda, ast.FunctionDef, ast.comprehension, ast.GeneratorExp, ast.ListComp)) or (
        isinstance(node, ast.stmt) and is_block(node)
    ):
        return
    parts: Sequence[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call) and not is_backward(node) and not isinstance(node.func, ast.Attribute):
        parts = [*node.args, *node.keywords]  # a function that is made here is a part of its call
    for part in parts:
        yield from _inner_first(part)
    if isinstance(node, ast.Call):
        yield node


def _given_weights(call: ast.Call) -> str:
    """`pull` of `pull(v)`, and of `vmap(pull)(vs)`, which takes several at once."""
    mapped = call.func if isinstance(call.func, ast.Call) and name_of(call.func) == "vmap" else None
    plain = mapped is not None and len(mapped.args) == 1 and not mapped.keywords
    return path(mapped.args[0] if mapped is not None and plain else call.func)


def _gives_weights(node: ast.AST, pull: str) -> bool:
    return any(isinstance(part, ast.Call) and _given_weights(part) == pull for part in ast.walk(node))


AS_VALUE = "what the call gives stands here as a value; create_graph=True changes no number of it, and gives it a graph"


WITHOUT_GRAPH = ("no_grad", "inference_mode", "set_grad_enabled")


def mode_in_forward(subject: Subject) -> ast.expr | None:
    """Where a function says that gradients aren't recorded, which means nothing to the forward mode that a call takes."""
    made = [maker(each.call) for each in subject.calls if not is_functional(each.call)]
    if {"jacfwd", "hessian", "jvp"}.isdisjoint(map(name_of, made)):
        return None
    parts = [part for each in subject.before for part in ast.walk(each) if isinstance(part, ast.FunctionDef)]
    modes = [mode for part in parts for mode in part.decorator_list]
    within = [each for part in parts for each in ast.walk(part) if isinstance(each, ast.With)]
    modes += [item.context_expr for each in within for item in each.items]
    names = [path(mode.func if isinstance(mode, ast.Call) else mode).rpartition(".")[2] for mode in modes]
    return next((mode for mode, name in zip(modes, names, strict=True) if name in WITHOUT_GRAPH), None)


@dataclass(frozen=True)
class Reader:
    """The statements of a program, and its calls: which of them is meant.

    Attributes:
        statements: in order.
        code: the program's text, in which they stand.
        twice: whether a call of a second derivative means its function.
        calls: all calls for derivatives.
    """

    statements: list[ast.stmt]
    code: str
    twice: bool
    calls: Sequence[Place]

    def ending(self) -> Subject | None:
        """The call that the program ends with, or the value that it makes of derivatives by no leaf.

        None where something is made of what the call gives: it is one of the program's equations then.
        """
        found = self._ending_call() or self._ending_value()
        leaves = without_leaves(self.statements, self.code)[1].keys()
        to_be_given = read_first(self.statements) - NAMESPACES - {*dir(builtins)}.union(*map(imported, self.statements))
        return found or (None if leaves or to_be_given else self._ending_call(alone=True))

    def _ending_value(self) -> Subject | None:
        """The last value that is made of derivatives, where it reads no leaf: by the tensors that they are given."""
        for place in reversed(range(len(self.statements))):
            statement, before = self.statements[place], self.statements[:place]
            value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
            printed = _printed_call(statement)
            if printed is None and (value is None or _shows(statement, {*assigned(before)})):
                continue
            value = printed or value
            if value is None or not derives(value, before):
                continue
            wrt = self._given(value, before)
            if not wrt:
                return None
            (*before, last), changed = _with_graphs([*before, ast.Expr(value)])
            assert isinstance(last, ast.Expr)
            return Subject(before, Pasted(text_of(last.value, self.code), wrt=wrt, notes=(AS_VALUE,) if changed else ()), ())
        return None

    def _given(self, value: ast.expr, before: Sequence[ast.stmt]) -> tuple[str, ...]:
        """The tensors that the derivatives in a value are given, where it is made of neither leaves nor names to be given."""
        made_of = sources(free_names(value), before) - {*dir(builtins)}.union(*map(imported, before))
        return given(value, before) if made_of <= {*assigned(before)} - {*without_leaves(before, self.code)[1]} else ()

    def _ending_call(self, alone: bool = False) -> Subject | None:
        """The call that the program ends with; `alone`: there is no input, to which a graph of what a call gives could lead."""
        carried_out = [each for each in self.calls if not isinstance(self.statements[each.place], ast.Assert)]
        for each in reversed(carried_out or self.calls):
            statement, rest = self.statements[each.place], self.statements[each.place + 1 :]
            shown = _around(statement, each.node)
            if shown is None and isinstance(statement, (ast.Expr, ast.Assign)) and self._is_only_graphless(statement.value, each):
                shown = [statement.value]
            if shown is None and _is_compared(statement, each.node):
                shown = []
            if shown is None or (shown and not is_constant(each.call) and not any(map(is_plain, shown))):
                return None
            if _is_used(statement, each.call, rest, self._without_graph(each)) or (
                has_graph(each.call) and (rest or not is_backward(each.call)) and not (alone and is_functional(each.call))
            ):
                return None
            found = self.chosen(each)
            looks = [*shown, *(layer for part in rest[-1:] for layer in _looks(part, {*names_made(statement)}) or ())]
            notes = tuple(f"{ast.unparse(layer)} {LOOKED_AT}" for layer in looks[:1])
            return replace(found, asked=replace(found.asked, notes=(*found.asked.notes, *notes)))
        return None

    def _without_graph(self, each: Place) -> set[str]:
        """The names before a call that no leaf is in, and so no graph."""
        before = self.statements[: each.place]
        leaves = without_leaves(before, self.code)[1].keys()
        return {name for name in assigned(before) if name not in leaves and not all_read({name}, before) & leaves}

    def _is_only_graphless(self, value: ast.expr, each: Place) -> bool:
        """Whether what is made of a call's result has no graph, as the result has none, nor what else it is made of."""
        if not is_constant(each.call) or is_backward(each.call):
            return False
        beside = read_with_graph(value, each.node)
        before = self.statements[: each.place]
        return not any(derives(part, before) for part in beside) and not (
            all_read({part.id for part in beside}, before) & without_leaves(before, self.code)[1].keys()
        )

    def chosen(self, each: Place) -> Subject:
        """A call as what is meant."""
        meant = (asked_twice(each.call, self.code) if self.twice else None) or asked(each.call, self.code)
        before, function = self.statements[: each.start], transformed(each.call)
        anew = {name for part in before if is_block(part) for name in assigned([part])}
        moved = any(name in anew and (_listed(name, before) != [name] or parameters_in(name, before)) for name in meant.wrt) if (
            meant is not None
        ) else False  # a block has made the dictionary anew, and what it is made of first is gone
        if meant is None or moved or (function is not None and not _is_same(each.call, function, meant, before, self.code)):
            return self.as_value(Subject(self.statements[: each.place], Pasted(""), (each,)))
        names = [name for each in meant.wrt for name in _listed(each, before)]
        wrt = [parameters_in(name, before) or name for name in names]
        along = [name for each in meant.tangent for name in _listed(each, before)]
        meant = replace(meant, wrt=tuple(wrt), tangent=tuple(along))
        rest = self.statements[each.place + 1 :]
        if retained := _retained(before, rest) if is_backward(each.call) else []:
            first = [name for name in retained if not {*retained} & (all_read({name}, before) - {name})]
            others, made_of = (name for name in retained if name not in first), ", ".join(first)
            notes = (f"{name}.grad is another question, as {name} is made of {made_of}" for name in others)
            meant = replace(meant, wrt=tuple(first), notes=(*meant.notes, *notes))
        if is_backward(each.call):
            meant = replace(meant, notes=(*meant.notes, *_about_clipping(rest)))
        return self._added_up(Subject(before, meant, (each,)))

    def as_value(self, subject: Subject) -> Subject:
        """What a call gives, as a value that is differentiated, with what the statement takes of it."""
        each = subject.calls[-1]
        shown = [layer for layer in layers(getattr(self.statements[each.place], "value", None)) if not _prints(layer)]
        depth = next((depth for depth, layer in enumerate(shown) if layer is each.call), None)
        if depth is not None:
            plain = [place for place, layer in enumerate(shown[:depth]) if is_plain(layer)]
            shown, depth = shown[len(plain) and plain[-1] + 1 :], depth - (len(plain) and plain[-1] + 1)
        value = copied(each.call if depth is None else shown[0])
        notes: tuple[str, ...] = ()
        if _make_graph(list(layers(value))[depth or 0]):
            notes = (AS_VALUE,)
        expression = ast.unparse(value) if notes or depth is None else text_of(shown[0], self.code)
        before = self.statements[: each.place]
        return Subject(before, Pasted(expression, wrt=self._given(each.call, before), notes=notes), (each,))

    def made_of(self, each: Place) -> set[str]:
        """The names that stand for something by themselves, and that what a call of backward differentiates is made of."""
        before = self.statements[: each.place]
        return sources(free_names(each.call), [part for part in before if not (_passes_back(part) or cleared(part))])

    @cached_property
    def weights(self) -> set[str]:
        """The names of leaves and modules."""
        return {*without_leaves(self.statements, self.code)[1], *modules_of(self.statements)}

    def holding(self, each: Place) -> set[str]:
        """The weights whose gradients a call of backward adds to; where none has a name, all that it is made of."""
        made = self.made_of(each)
        return made & self.weights or made

    def _is_left(self, each: Place, last: Place) -> bool:
        """Whether what a call of backward adds to `.grad` is there yet at a later one."""
        statement = self.statements[each.place]
        if not (_passes_back(statement) and isinstance(statement, ast.Expr) and statement.value is each.node):
            return False
        between = self.statements[each.place + 1 : last.place]
        gone = remade(between).union(*map(cleared, between))
        roots = {name.partition(".")[0] for name in gone}  # one that has no name here may be of all
        return roots <= {*assigned(self.statements)} - self.holding(each)

    def _together(self, last: Place) -> list[Place]:
        """The calls of backward whose gradients `.grad` holds as well at a later one, the last first."""
        return [each for each in reversed(self.calls) if each.place < last.place and self._is_left(each, last)]

    def _frees(self, last: Place) -> bool:
        """Whether one of the calls up to the last frees a part of the graph that a later one of them goes through again."""
        freed: set[ast.stmt] = set()
        for each in (each for each in self.calls if each.place <= last.place and uses_graph(each.call)):
            graph = self._graph(each)
            if not freed.isdisjoint(graph):
                return True
            freed |= set() if _keeps_graph(each.call) else graph
        return False

    def _graph(self, each: Place) -> set[ast.stmt]:
        """The statements that make what a call differentiates of something else."""
        before = needed(each.call, self.statements[: each.place])
        return {part for part in before if isinstance(part, (ast.Assign, ast.AugAssign)) and self._is_step(part)}

    def _is_step(self, statement: ast.Assign | ast.AugAssign) -> bool:
        return of_leaf(statement.value) is None and bool(free_names(statement.value) - NAMESPACES)

    def _added_up(self, subject: Subject) -> Subject:
        """A call of backward together with those before it whose gradients `.grad` holds as well.

        Where one before frees what another goes through, they stay where they are: what PyTorch raises there is raised.
        """
        (last,) = subject.calls
        stays = [ast.copy_location(ast.Expr(last.node), last.node)] if self._frees(last) else []
        earlier = self._together(last) if is_backward(last.call) else []
        found = {each: part for each in earlier if (part := asked(each.call, self.code)) is not None}
        if not found:
            return replace(subject, before=[*subject.before, *stays])
        if any(part.wrt != subject.asked.wrt for part in found.values()):
            note = "what earlier calls of backward, by other inputs, have added to .grad is not in the result"
            return replace(subject, asked=replace(subject.asked, notes=(note, *subject.asked.notes)))
        kept, outputs, weights = [*subject.before], _outputs(subject.asked), [*subject.asked.grad_outputs]
        for each, part in found.items():  # the last first, so that places stay
            later = [one for one in kept[each.place + 1 :] if not is_passed_over(one) and not _shows(one, set())]
            changed = set().union(*map(names_changed, later))
            read = any(map(reads_grad, (*later, last.call)))
            kept[each.place : each.place + 1] = [self.statements[each.place]] if stays or read else []
            number = self.calls.index(each) + 1
            named = ((outputs, _outputs(part), f"backward_{number}"), (weights, part.grad_outputs, f"v_{number}"))
            for texts, own, name in named:
                names = {text: name + "_" * k for k, text in enumerate(own) if _reads(text, changed, functions_of(kept))}
                kept[each.place : each.place] = [assignment(name, f"({text}).clone()") for text, name in names.items()]
                texts[:0] = [names.get(text, text) for text in own]  # where its names mean something else at the end
        note = (
            f"of {len(found) + 1} calls of backward PyTorch adds the gradients up in .grad, and so does the result; "
            "where they share a part of the graph, all but the last need retain_graph=True"
        )
        combined = replace(
            subject.asked,
            expression=f"({', '.join(outputs)})",
            grad_outputs=tuple(weights),
            notes=(note, *subject.asked.notes),
        )
        return Subject([*kept, *stays], combined, (*reversed(found), last))


def _passes_back(statement: ast.stmt) -> bool:
    """Whether a statement calls backward, and does no more: it changes no value."""
    return isinstance(statement, ast.Expr) and is_backward(statement.value)


def parameters_in(name: str, before: Sequence[ast.stmt]) -> str:
    """`net.parameters()` of a name that is given to a list or dictionary of these; empty for any other name."""
    made = [part.value for part in before if isinstance(part, ast.Assign) and names_made(part) == [name]]
    return parameters_of(made[-1]) if made else ""


def _listed(name: str, before: Sequence[ast.stmt]) -> list[str]:
    """The names in the list or dictionary that a name stands for; any other name alone."""
    made = [part.value for part in before if isinstance(part, ast.Assign) and names_made(part) == [name]]
    last = made[-1] if made else None
    held = last.values if isinstance(last, ast.Dict) else items(last) if isinstance(last, (ast.List, ast.Tuple)) else []
    found = [path(item) for item in held] or [name]
    return found if all(map(str.isidentifier, found)) else [name]


def _reads(text: str, names: set[str], functions: Sequence[ast.stmt]) -> bool:
    """Whether an expression reads one of some names, by itself or by a function, or a gradient, to which a call may add.

    A weight that is left to PyTorch reads none.
    """
    if text.startswith("implicit"):
        return False
    return reads_grad(parsed(text)) or bool(all_read(free_names(parsed(text)), functions) & names)


def _outputs(meant: Pasted) -> list[str]:
    """The texts of what is differentiated, one for each weight."""
    return [meant.expression] if len(meant.grad_outputs) == 1 else [ast.unparse(each) for each in items(parsed(meant.expression))]


def uses_graph(call: ast.Call) -> bool:
    """Whether a call goes through the graph of what there is: `y.backward()`, `torch.autograd.grad(y, x)`."""
    return not isinstance(call.func, ast.Call) and name_of(call) in ("grad", "backward")


def _keeps_graph(call: ast.Call) -> bool:
    """Whether a call that goes through the graph leaves it as it is."""
    return any(keyword.arg in GRAPH_OPTIONS and is_true(keyword.value) for keyword in call.keywords)


def _pulled_at_once(made: ast.expr, call: ast.Call) -> ast.Call:
    """`pull(v)` of `_, pull = vjp(f, x)` as `vjp(f, x)[1](v)`; in vmap, too."""
    pull = ast.Subscript(made, ast.Constant(1), ast.Load())
    function = ast.Call(call.func.func, [pull], []) if isinstance(call.func, ast.Call) else pull
    return ast.Call(function, call.args, call.keywords)


LOOKED_AT = "is made of what the call gives, and has no derivative in PyTorch: the call itself is explained"


def _around(statement: ast.stmt, node: ast.expr) -> list[ast.expr] | None:
    """What a statement makes of a call that it shows, the last first; None where the call is a part of something else.

    To print it, or to take it out of its tuple, is not to make something of it.
    """
    found: list[ast.expr] = []
    for layer in layers(statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None):
        if layer is node:
            return found
        if not _takes_part(layer):
            found.append(layer)
    return None


def _takes_part(layer: ast.expr) -> bool:
    """Whether a layer around a call only prints it, or takes it out of its tuple."""
    return _prints(layer) or (isinstance(layer, ast.Subscript) and isinstance(layer.slice, ast.Constant))


def _printed_call(statement: ast.stmt) -> ast.expr | None:
    """`f(x)` of `print("f:", f(x))`, and of `print(torch.allclose(f(x), y))`; None for any other statement."""
    call = statement.value if isinstance(statement, ast.Expr) and called_by(statement) == "print" else None
    given_ = call.args if isinstance(call, ast.Call) else []
    shown = [part for part in given_ if not isinstance(part, (ast.Constant, ast.JoinedStr))]
    shown = shown[0].args[:1] if len(shown) == 1 and isinstance(shown[0], ast.Call) and _compares(shown[0]) else shown
    plain = len(shown) == 1 and isinstance(shown[0], ast.Call) and isinstance(shown[0].func, (ast.Name, ast.Call))
    return shown[0] if plain else None


def _prints(layer: ast.expr) -> bool:
    return isinstance(layer, ast.Call) and path(layer.func) in ("print", "list", "tuple")


def _about_clipping(rest: Sequence[ast.stmt]) -> tuple[str, ...]:
    """What is to be said where gradients are clipped behind a call of backward."""
    clipped = [name for part in rest if (name := called_by(part)).startswith("clip_grad_")][:1]
    return tuple(f"{name} changes .grad behind the call: the result is the gradient before that" for name in clipped)


def _retained(before: Sequence[ast.stmt], rest: Sequence[ast.stmt]) -> list[str]:
    """The values that keep their gradient, by `y.retain_grad()`, and whose `.grad` is read afterwards, and that of no leaf.

    Raises:
        ForbiddenError: one is changed in place, which makes it another value under the same name.
    """
    nodes = [node for part in rest for node in ast.walk(part)]
    read = {path(node.value) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "grad"}
    kept = [root_of(part.value) for part in before if isinstance(part, ast.Expr) and method_of(part) == "retain_grad"]
    found = [name for name in kept if name in read] if read <= {*kept} else []
    for part in before:
        target = part.target if isinstance(part, ast.AugAssign) else None
        changed = part.value if method_of(part).endswith("_") and isinstance(part, ast.Expr) else target
        if changed is not None and root_of(changed) in found:
            raise ForbiddenError(f"`{root_of(changed)}` keeps its gradient, and is changed in place: it is another value then.")
    return found


def _make_graph(call: ast.expr) -> bool:
    """Make a call give a value with a graph, where it gives one without; whether that could be done."""
    if not isinstance(call, ast.Call) or not is_constant(call) or is_backward(call):
        return False
    if makes_function(call):
        return False
    if is_functional(call) and len(call.args) > (2 if name_of(call) in ("jacobian", "hessian") else 3):
        return False
    call.keywords = [keyword for keyword in call.keywords if keyword.arg != "create_graph"]
    call.keywords.append(ast.keyword("create_graph", ast.Constant(True)))
    return True


def _with_graphs(statements: Sequence[ast.stmt]) -> tuple[list[ast.stmt], bool]:
    """The statements with what calls for derivatives give as values with a graph, and whether any is changed by that."""
    found: list[ast.stmt] = []
    own = {name for part in statements for name in assigned([part])}
    for statement in statements:
        again = copied(statement)
        calls = [part for part in ast.walk(again) if isinstance(part, ast.Call)]
        functions = [part for call in calls for part in (call.func, *call.args[:1])]  # torch.func.grad(f), which is called
        changed = [_make_graph(part) for part in calls if part not in functions and root_of(part) not in own]
        found.append(without_places(again) if any(changed) else statement)
    return found, any(old is not new for old, new in zip(statements, found, strict=True))


UNDERSTOOD = frozenset(
    {"func", "inputs", "v", "primals", "tangents", "argnums", "has_aux", "create_graph", "strict", "vectorize", "strategy",
     "outer_jacobian_strategy", "chunk_size", "randomness", "eps", "atol", "rtol", "raise_exception", "nondet_tol",
     "check_undefined_grad", "check_grad_dtypes", "check_batched_grad", "check_forward_ad", "check_backward_ad",
     "check_batched_forward_grad", "fast_mode", "masked", "gen_non_contig_grad_outputs", "check_fwd_over_rev",
     "check_rev_over_rev"}
)  # fmt: skip
"""Keywords of calls on functions whose meaning a request keeps; has_aux=True only of those that give the derivative alone."""


def _is_same(call: ast.Call, function: ast.expr, meant: Pasted, before: Sequence[ast.stmt], code: str) -> bool:
    """Whether the derivative of a function by its arguments is that of its value by the inputs that stand for them.

    It is where neither the function nor its other arguments read any of these inputs, nor what is made of them, and where
    naming its parameters after them changes nothing else.
    """
    made = maker(call)
    keywords = {keyword.arg for keyword in made.keywords}
    flags = [keyword.value for keyword in made.keywords if keyword.arg == "has_aux" and name_of(made) not in (*COMPOSED, "vjp")]
    given_ = [*made.args[1:], *(keyword.value for keyword in made.keywords if keyword.arg != "func")]
    others = [*given_, *(part for part in call.args if part is not function)]
    if made is not call and (call.keywords or (not is_vjp(made) and len(made.args) > 2)):  # for the function; has_aux
        return False
    if not keywords <= UNDERSTOOD or any(not isinstance(flag, ast.Constant) or flag.value for flag in flags):
        return False
    if any(isinstance(node, ast.Starred) for part in others for node in ast.walk(part)):
        return False
    given = {*meant.wrt, *meant.inputs.values()}
    fixed = [part for part in call.args if made is not call and not is_vjp(made) and text_of(part, code) not in given]
    renamed = {part.partition(" = ")[0] for part in meant.expression.split("; ")[:-1]}
    reads = all_read(free_names(function).union(*map(free_names, fixed)), before)
    beside = set().union(*map(free_names, others))
    return not renamed & (reads | beside | {*assigned(before)}) and not reads & {*meant.wrt}


def follows(subject: Subject, kept: Sequence[ast.stmt]) -> bool:
    """Whether a value that is asked by is made of another, and the call's gradient by that one goes through it."""
    wrt = {*subject.asked.wrt}
    if transformed(subject.calls[-1].call) is not None:  # a function's arguments stand for themselves
        return False
    made = [(place, part) for place, part in enumerate(kept) if isinstance(part, ast.Assign) and wrt & {*names_made(part)}]
    return any(all_read(free_names(part.value), kept[:place]) & wrt for place, part in made)


def _is_used(statement: ast.stmt, call: ast.Call, rest: Sequence[ast.stmt], plain: set[str]) -> bool:
    """Whether something is made of what a derivative call gives: not where it is only shown, or a weight updated by it.

    `plain` are names without a graph.
    """
    results = set(names_made(statement))
    for part in rest:
        used = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)} & results
        if is_backward(call) and reads_grad(part):
            used.add(".grad")
        if used and isinstance(part, ast.Assign) and (_is_named(part, results) or (
            is_constant(call) and not has_graph(call) and _beside_gradients(part.value) <= results | plain
        )):
            results |= {*names_made(part)}
            continue
        if isinstance(part, ast.Assign) and not used and {name.id for name in read_with_graph(part.value, part)} <= plain:
            plain |= {*names_made(part)}
        if not used or _shows(part, results, is_constant(call)) or updates(part):
            continue
        if isinstance(part, (ast.Expr, ast.Assign, ast.AugAssign)):
            return True
    return False


COMPARING = frozenset({"allclose", "equal", "isclose", "assert_close", "assert_allclose"})
"""Calls that only compare what there is."""


def _compares(layer: ast.expr) -> bool:
    return isinstance(layer, ast.Compare) or (isinstance(layer, ast.Call) and name_of(layer) in COMPARING)


def _is_compared(statement: ast.stmt, node: ast.expr) -> bool:
    """Whether a statement only compares what a call gives with something, or prints whether they are alike."""
    for layer in layers(statement.value if isinstance(statement, ast.Expr) else None):
        if _compares(layer):
            parts = [part for part in ast.iter_child_nodes(layer) if isinstance(part, ast.expr)]
            return any(_around(ast.Expr(part), node) == [] for part in parts)
    return False


def _shows(statement: ast.stmt, results: set[str], constant: bool = True) -> bool:
    """`print(…)`, or one of the results, or `x.grad`, as it stands; of one that is constant also what is made of it alone."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Tuple):  # x.grad, y.grad
        return all(_shows(ast.Expr(part), results, constant) for part in statement.value.elts)
    looks = _looks(statement, results)
    compared = isinstance(statement, ast.Expr) and any(map(_compares, layers(statement.value)))
    return isinstance(statement, ast.Assert) or is_shown(statement) or compared or (
        looks is not None and (constant or not looks or any(map(is_plain, looks)))
    )


def _beside_gradients(node: ast.AST) -> set[str]:
    """The names that a value reads, but those of which it reads the gradient alone."""
    if isinstance(node, ast.Attribute) and node.attr == "grad":
        return set()
    if isinstance(node, ast.Call) and (parameters_of(node) or parameters_of(node, True)):
        return set()
    if isinstance(node, ast.Name):
        return {node.id} - NAMESPACES
    return set().union(*map(_beside_gradients, ast.iter_child_nodes(node)))


def _is_named(statement: ast.Assign, results: set[str]) -> bool:
    """Whether a statement only gives a name to one of the results, a part of it, or `x.grad`."""
    return _looks(ast.Expr(statement.value), results) == [] and all(isinstance(each, ast.Name) for each in statement.targets)


def _looks(statement: ast.stmt, results: set[str]) -> list[ast.expr] | None:
    """What a statement makes of one of the results, or of `x.grad`, alone; None where it does something else."""
    for layer in layers(statement.value if isinstance(statement, ast.Expr) else None):
        if (isinstance(layer, ast.Name) and layer.id in results) or (isinstance(layer, ast.Attribute) and layer.attr == "grad"):
            return _around(statement, layer)
    return None
