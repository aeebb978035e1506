"""A program that asks for a derivative itself, as the request that it makes.  Only the text is read; nothing of it is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from jvpcli.errors import JvpError, UsageError
from jvpcli.language import is_torchs_own, may_ask_for_derivative, may_pass_over, refusals
from jvpcli.language.accumulation import with_held
from jvpcli.language.calls import CHECKS, UNUSED_OPTIONS, Pasted, is_backward, is_block, text_of
from jvpcli.language.dependence import needed, running, with_seed, without_needless_draws
from jvpcli.language.given import (
    with_open_dictionaries,
    with_open_tuples,
    with_printed,
)
from jvpcli.language.helpers import in_place
from jvpcli.language.hooks import looking_hooks
from jvpcli.language.leaves import (
    from_intermediates,
    plainly_made,
    separate,
    with_filled_leaves,
    with_named_leaves,
    with_own_names,
    with_weights,
    without_leaves,
    without_needless_asking,
    without_needless_imports,
)
from jvpcli.language.lengths import Count
from jvpcli.language.loaders import with_batches
from jvpcli.language.names import assigned, free_names, read_first
from jvpcli.language.parse import STATEMENTS, head
from jvpcli.language.sessions import is_session
from jvpcli.language.source import SourceText, read_source
from jvpcli.language.statements import (
    FLAGS,
    assignment,
    called_by,
    is_passed_over,
    names_made,
    opened,
    reads_grad,
    sources,
    unused_name,
    with_imports,
    without_annotations,
)
from jvpcli.language.subject import Place, Reader, calls_of, follows, mode_in_forward, uses_graph
from jvpcli.language.training import Training
from jvpcli.language.turns import is_collection, one_turn
from jvpcli.options import COMMAND_LINE, command, options_of
from jvpcli.report import Call, PassedOver
from jvpcli.request import Request

LACKING = {
    "is_grads_batched": "takes one v, and is_grads_batched=True gives several",
    "tangent": "follows the backward pass alone, and this call pushes a tangent forward",
}
"""Why a command has no option for what a call gives."""


NO_LEAF = "PyTorch raises, since {0} is made without requires_grad=True; here {0} is an input"


def as_meant(request: Request, may_run: bool = False) -> Request:
    """What a request means whose expression is a program that asks for a derivative itself.

    With `may_run` it holds what was asked, too, of a program that can be run as it stands; of one that is refused, why.

    Raises:
        JvpError: it is refused, and may not be run as it stands.
    """
    runs = may_run and _can_run(request)
    try:
        return replace(_as_read(request), pasted=request if runs else None)
    except JvpError as error:
        if not runs:
            raise
        return replace(request, pasted=request, refusal=error)


def _can_run(request: Request) -> bool:
    """Whether a program can be run as it stands: it has several lines, and nothing is given to it."""
    text = request.expression
    given = request.inputs or request.shape or request.imports or request.call is not None
    return isinstance(text, str) and "\n" in text and not given and request.command in ("inspect", "trace", "check")


def _as_read(request: Request) -> Request:
    """What a request means whose expression is a program that asks for a derivative itself: that derivative.

    What the request says counts before what the program says.

    Raises:
        UsageError: the program has no call of the number that is asked for, or the command has no answer for the call.
    """
    text = request.expression
    if not isinstance(text, str):
        return request
    own = not request.imports or is_torchs_own(text)
    seed = request.seed if request.seed_given else None
    twice = request.command == "hessian"
    pasted = read_pasted(text, request.call, twice, seed, partial(_number, request)) if own else None
    if pasted is None:
        if request.call is not None:
            raise UsageError(
                f"there is no derivative call number {request.call} in the expression",
                explanation="It has none: torch.autograd.grad, backward, torch.func.* or torch.autograd.functional.*.",
            )
        return replace(request, passed_over=_left_out(text)) if may_pass_over(text) else request
    inputs = {name: x for name, x in {**pasted.inputs, **request.inputs}.items() if name not in pasted.unused}
    weights = [value for _, value in (*request.grad_outputs, *request.tangent)]
    told = [pasted.expression, *pasted.wrt, *pasted.grad_outputs, *pasted.tangent, *weights, *inputs.values()]
    beside = words([text]) - words(told)  # what only the rest of the program reads
    meant = replace(
        request,
        expression=pasted.expression,
        inputs=_in_order({name: x for name, x in inputs.items() if name not in beside}),
        wrt=request.wrt or pasted.wrt or None,
        grad_outputs=request.grad_outputs or tuple((None, text) for text in pasted.grad_outputs),
        tangent=request.tangent or tuple((None, text) for text in pasted.tangent),
        is_grads_batched=request.is_grads_batched or pasted.is_grads_batched,
        call=None,
        calls=pasted.calls or None,
        passed_over=pasted.passed_over or None,
        notes=pasted.notes,
        earlier=None if request.call is not None or request.inputs or pasted.earlier is None else replace(
            request, expression=pasted.earlier.expression, inputs=pasted.earlier.inputs
        ),
        all_used=pasted.all_used and not request.wrt,
    )
    if pasted.seed is not None and not request.seed_given:
        meant = replace(meant, seed=pasted.seed, seed_given=True)
    if request.command == "check":  # at the numbers that the program draws, but for a function that is checked itself
        drawn = not any(each.explained and any(name in each.source for name in CHECKS) for each in pasted.calls)
        meant = replace(meant.checked(), seed_given=meant.seed_given or drawn)
    refuse_lacking(meant)
    return meant


def _number(request: Request, text: str) -> int | None:
    """The whole number that a program's text ends with, at the inputs of a request; None where it can't be run."""
    from jvpcli.language.values import read_value  # few programs ask for that

    try:
        return int(read_value(text, name="turns", seed=request.seed, memory_limit=request.memory_limit))
    except JvpError:
        return None


def said_of(meant: Request) -> list[str]:
    """What is to be told of how a program was read, and what of it has no effect."""
    passed_over = ", ".join(f"{each.what} on line {each.line}" for each in meant.passed_over or ())
    return [*meant.notes, *([f"passed over: {passed_over}"] if passed_over else [])]


def words(values: Iterable[object]) -> set[str]:
    """The words of the texts among some values; names that they read are among them."""
    return {word for text in values if isinstance(text, str) for word in re.findall(r"[^\W\d]\w*", text)}


def _in_order(inputs: Mapping[str, object]) -> dict[str, object]:
    """The inputs, each behind those that its VALUE reads, else in their order."""
    found: dict[str, object] = {}
    places = {name: place for place, name in enumerate(inputs)}

    def put(name: str, waiting: tuple[str, ...]) -> None:
        value = inputs[name]
        for other in sorted(words([value]) & {*inputs}, key=places.__getitem__):
            if other not in (*found, *waiting):
                put(other, (*waiting, other))
        found.setdefault(name, value)

    for name in inputs:
        put(name, (name,))
    return found


def refuse_lacking(request: Request) -> None:
    """Refuse what a call gives that the command has no option for.

    Raises:
        UsageError: there is such a thing.
    """
    known = options_of(COMMAND_LINE, request.command)
    for name, reason in LACKING.items():
        if getattr(request, name) and name not in known:
            instead = command(request, name="inspect")
            raise UsageError(f"jvp {request.command} {reason}; jvp inspect answers it", hints=(instead,) if instead else ())


def read_pasted(
    source: str,
    number: int | None = None,
    twice: bool = False,
    seed: int | None = None,
    count: Count = lambda _: None,
) -> Pasted | None:
    """What a program's text asks for, by the leaves that it makes, and by a call for a derivative.

    That is the call number `number`, from 1, or the one that ends the program.  With `twice` the second derivative is asked
    for anyway, and a call of it means its function.  `seed` is where random numbers begin, if that is given: the program's own
    gives way to it.  `count` runs a text, for how many turns a loop makes.  None where there is no call and no leaf, or the text
    can't be read.

    Raises:
        UsageError: there is no call of that number.
        ForbiddenError: it takes a derivative in forward mode of what says how gradients are recorded, or does what is seen
            elsewhere by what the language does not have.
        ExpressionSyntaxError: it calls `x.requires_grad()`, which is no method.
    """
    if not may_ask_for_derivative(source):
        return None
    try:
        text, tree = read_source(source.strip())
    except JvpError:
        return None
    _refuse_foreign(tree, text)
    code = "\n".join(text.lines)
    body = with_batches(tree.body) if "DataLoader" in source else tree.body
    imported = with_imports(without_annotations(body))
    body = with_printed(imported)
    changed = body != imported or len(body) > len(tree.body)
    done, named = with_named_leaves(with_open_dictionaries(with_filled_leaves(in_place([*opened(body)]))))
    parts, own_seed = with_seed([part for statement in done for part in separate(statement)], seed)
    turn = one_turn(parts, code, count)
    written = turn.statements
    places = list(calls_of(written, code))
    nodes = [each.node for each in places]
    if number is not None and places and not 0 < number <= len(places):
        raise _no_such_call(number, _listed(nodes, (), text, code))
    end = len(written) if number is None or not places else places[number - 1].place + 1
    inputs: tuple[str, ...] = ()
    plain = with_open_tuples(written[:end])
    while True:
        statements = [*with_own_names(plain, inputs), *written[end:]]
        calls = list(calls_of(statements, code))
        others = {*assigned(statements)} - {*assigned(plain)}
        reader = Reader(statements, code, twice, calls, others)
        subject = reader.ending() if number is None or not calls else reader.chosen(calls[number - 1])
        own = {} if subject is None else without_leaves(subject.before, code)[1]
        if inputs or subject is None or not subject.asked.wrt or own.keys() & subject.asked.wrt:
            break
        inputs = subject.asked.wrt  # made anew under one name, each has its own
    _refuse_called_flags(tree, subject.calls[-1].node.lineno if subject is not None and subject.calls else len(text.lines), text)
    before, found = (statements, None) if subject is None else (subject.before, subject.asked)
    kept, leaves = without_leaves(before, code)
    if subject is not None and found is not None:
        if subject.calls and follows(subject, kept):
            subject = reader.as_value(subject)
            found = subject.asked
        if (mode := mode_in_forward(subject)) is not None:
            raise refusals.in_forward(ast.unparse(mode)).with_context(span=text.span(mode), source=text.source)
        cut = from_intermediates(found, kept, leaves, code)
        if cut is None:  # the gradient by something that nothing after it reads: PyTorch says so itself
            kept, leaves = without_leaves(statements[: subject.calls[-1].place + 1] if subject.calls else statements, code)
            subject = found = None
        else:
            if subject.calls and uses_graph(subject.calls[-1].call):
                found = replace(found, notes=(*found.notes, *map(NO_LEAF.format, plainly_made(found.wrt, kept))))
            kept, leaves = cut
    if text.pieces or not (calls or leaves or subject or changed):
        return None
    explained = [] if subject is None else [calls.index(each) for each in subject.calls]
    of_turn = subject is None or not subject.calls or subject.calls[-1].place >= turn.start
    training = Training.of(before)
    steps: list[ast.stmt] = [*turn.earlier]
    stepped = [name for name in leaves if name in training.moves(*before)]
    made = [*leaves]
    rest = [] if found is None else _asking(found).body
    if stepped:
        early, kept = training.behind_steps(stepped, before, kept, rest)
        steps = [*turn.earlier, *(part for part in early if part in turn.statements[turn.start :])] if turn.earlier else early
        values = "\n".join(text_of(part, code) for part in steps)
        leaves = {**leaves, **{name: f"{values}\n{name}" for name in stepped}}
    if found is not None and of_turn and (left := turn.left(code)):
        left = {name: value for name, value in left.items() if name not in stepped}
        stays = {id(part) for part in turn.statements[turn.start :]}
        if training.moves(*before) & training.modules:  # the turns before are there, and make what they read themselves
            own = {name: unused_name(f"{name}_", statements) for name in left if not is_collection(name, before)}
            place = next((place for place, part in enumerate(kept) if id(part) in stays), len(kept))
            kept[place:place] = [assignment(name, other) for name, other in own.items()]
            left = {other: left[name] for name, other in own.items()}
        else:
            made_by = {part: {*assigned([part])} for part in kept}
            kept = [part for part in kept if id(part) in stays or not made_by[part] or not made_by[part] <= left.keys()]
        leaves = {**leaves, **left}
    makers = {names_made(part)[0]: part for part in before if {*names_made(part)} & leaves.keys()}
    kept = training.from_the_start(kept, makers, rest)
    own_text = "\n".join(map(ast.unparse, body)) if changed else source
    told = Pasted(own_text, notes=tuple(named), calls=_listed(nodes, explained, text, code), passed_over=passed_over(tree, text))
    if subject is None and not leaves and number is None:  # its calls are equations of it
        return told
    shown = kept[-1:] if found is None else []  # what a program prints last is its result
    said = [part for part in shown if called_by(part) == "print"]
    kept = [part for part in kept if not is_passed_over(part) or training.carries(part) or part in said]
    if found is not None and subject is not None and statements != written:  # leaves before the last are another question
        earlier = [each for each in calls if each not in subject.calls and each.place < len(subject.before)]
        if earlier and not is_session(source.splitlines()):  # which goes on where one has failed
            told = replace(told, earlier=_apart(earlier, statements, code))
        if not training.moves(*kept):  # what trains needs all
            kept = needed(_asking(found), kept)
    if found is not None and of_turn and not {*turn.carried} <= {*made} and not found.wrt:  # the leaves, and nothing else carried
        read = _read_by([found.expression, *map(ast.unparse, kept)])
        trains = ["*"] if training.moves(*kept) & training.modules else []
        found = replace(found, wrt=(*(name for name in made if name in read), *trains))
    if found is not None and subject is not None and subject.calls and leaves and not found.wrt:
        read = _read_by([found.expression, *map(ast.unparse, kept)])
        modules = _whose_gradients(statements, subject.calls[-1].place, training) & read
        asked = (*(name for name in made if name in read), *(f"{name}.parameters()" for name in sorted(modules)))
        found = replace(found, wrt=asked if modules else ())
    if found is not None and subject is not None and subject.calls and is_backward(subject.calls[-1].call):
        ran = turn.ran if of_turn and turn.ran else statements[: subject.calls[-1].place]
        ran = [part for part in ran if part not in [statements[each.place] for each in subject.calls[:-1]]]
        plain = [part for part in ran if training.modules.isdisjoint(assigned([part]))]
        read = sources(free_names(subject.calls[-1].call), plain)
        weights = [name for name in (*made, *training.modules) if name in read]
        may_hold = bool((of_turn and turn.ran) or training.changes(ran) & {*weights})  # else earlier calls are parts themselves
        found, held = with_held(found, ran, weights if may_hold and not turn.adds_up else [], code, count)
        leaves = {**leaves, **held}
    if found is not None:
        added, found = with_weights(found, kept, code)
        kept = [*kept, *added]
    kept = without_needless_draws(kept, [] if found is None else ast.parse(found.expression).body)
    kept = without_needless_asking(kept, "" if found is None else found.expression)
    kept = without_needless_imports(kept, "" if found is None else found.expression)
    lines = [*(text_of(statement, code) for statement in kept), *([] if found is None else [found.expression])]
    expression = ("\n" if any(map(is_block, kept)) else "; ").join(lines)
    found = replace(
        found or told,
        expression=expression,
        inputs=leaves,
        seed=own_seed,
        notes=tuple(dict.fromkeys(
            (*(turn.notes if of_turn else ()), *(named if found is not None else ()), *(found or told).notes)
        )),
        calls=told.calls,
        earlier=told.earlier,
        passed_over=_not_done(told.passed_over, [*kept, *steps], training, text),
    )
    meant = _without_unused(_of_what_is_read(found))
    about = (f"{name} is a leaf whose name is given to another one later" for name in meant.inputs if name in others)
    return replace(meant, notes=(*meant.notes, *about))


def _refuse_foreign(tree: ast.Module, text: SourceText) -> None:
    """Refuse what the language does not have and what may do what is seen elsewhere; a `class` is named where it is used.

    Raises:
        ForbiddenError: a name that is set inside of an expression, a generator, or a statement that may ask for a derivative.
    """
    for node in ast.walk(tree):
        foreign = isinstance(node, ast.stmt) and type(node) not in (*STATEMENTS, ast.ClassDef)
        asks = foreign and may_ask_for_derivative(ast.unparse(node))
        if asks or isinstance(node, (ast.Yield, ast.YieldFrom, ast.NamedExpr)):
            raise refusals.node(type(node)).with_context(span=head(text.source, text.span(node)), source=text.source)


def _asking(meant: Pasted) -> ast.Module:
    """What a request reads at the end of its program; of `net.0.weight`, which is no Python, that is the module."""
    roots = (name.partition(".")[0] for name in meant.wrt)
    return ast.parse("\n".join([meant.expression, *roots, *meant.grad_outputs, *meant.tangent]))


def _refuse_called_flags(tree: ast.Module, last: int, text: SourceText) -> None:
    """Refuse `x.requires_grad()` up to a line, at which Python ends; a session goes on behind it.

    Raises:
        ExpressionSyntaxError: it stands there.
    """
    if is_session(text.source.splitlines()):
        return
    run = (part for part in tree.body if not isinstance(part, (ast.FunctionDef, ast.ClassDef)))
    calls = (node for part in run for node in ast.walk(part) if isinstance(node, ast.Call) and node.lineno <= last)
    for node in calls:
        if isinstance(node.func, ast.Attribute) and node.func.attr in FLAGS:
            raise refusals.called_flag(ast.unparse(node.func)).with_context(span=text.span(node), source=text.source)


def _apart(calls: Sequence[Place], statements: Sequence[ast.stmt], code: str) -> Pasted | None:
    """Some calls that go through the graph, with what they need, as a program of their own; None where there are none."""
    asking = [statements[each.place] for each in calls if uses_graph(each.call)]
    made = needed(ast.Module(asking, []), statements[: calls[-1].place])
    kept, leaves = without_leaves([part for part in statements if part in asking or part in made], code)
    return Pasted("\n".join([*(text_of(part, code) for part in kept), "torch.zeros(())"]), leaves) if asking else None


def passed_over(tree: ast.Module, text: SourceText) -> tuple[PassedOver, ...]:
    """The statements of a program that are not carried out: `print`, assertions, the steps of an optimizer."""
    found, hooks = [], looking_hooks(tree)
    for node in ast.walk(tree):
        shows = node in tree.body[-1:] and isinstance(node, ast.Expr)  # what it prints is what is asked
        shows |= isinstance(node, ast.stmt) and called_by(node) in CHECKS  # which are among the calls
        if isinstance(node, ast.stmt) and (is_passed_over(node) or node in hooks) and not shows:
            what = "assert" if isinstance(node, ast.Assert) else "register_hook" if node in hooks else called_by(node)
            found.append(PassedOver(what, _line(node, text)))
    return tuple(found)


def _not_done(
    passed: Sequence[PassedOver], done: Sequence[ast.stmt], training: Training, text: SourceText
) -> tuple[PassedOver, ...]:
    """What is passed over, but for steps that are carried out."""
    nodes = [part for statement in done for part in running(statement)]
    steps = [part for part in nodes if isinstance(part, ast.Expr) and hasattr(part, "lineno") and training.carries(part)]
    lines = {_line(part, text) for part in steps}
    return tuple(each for each in passed if each.what != "step" or each.line not in lines)


def _left_out(source: str) -> tuple[PassedOver, ...] | None:
    """What is passed over of a program that asks for no derivative itself."""
    try:
        text, tree = read_source(source.strip())
    except JvpError:
        return None
    return (passed_over(tree, text) or None) if len(tree.body) > 1 else None


def _line(node: ast.stmt | ast.expr, text: SourceText) -> int:
    """The line of the text on which a part of it begins, from 1."""
    return text.source.count("\n", 0, text.position(node.lineno, node.col_offset)) + 1


def _listed(nodes: Sequence[ast.Call], explained: Sequence[int], text: SourceText, code: str) -> tuple[Call, ...]:
    """The calls as they are told."""
    return tuple(
        Call(place + 1, _line(node, text), text_of(node, code), place in explained) for place, node in enumerate(nodes)
    )


def _no_such_call(number: int, calls: Sequence[Call]) -> UsageError:
    listed = "; ".join(f"{call.number}: line {call.line}, {call.source}" for call in calls)
    return UsageError(f"there is no derivative call number {number}", explanation=f"The calls are {listed}.")


def _of_what_is_read(pasted: Pasted) -> Pasted:
    """Without the leaves that nothing reads."""
    read = _read_by([pasted.expression, *pasted.grad_outputs, *pasted.tangent]) | {*pasted.wrt}
    while more := _read_by(text for name, text in pasted.inputs.items() if name in read) - read:
        read |= more
    return replace(pasted, inputs={name: text for name, text in pasted.inputs.items() if name in read})


def _whose_gradients(statements: Sequence[ast.stmt], place: int, training: Training) -> set[str]:
    """The modules whose gradients are read behind a statement."""
    plain = {part.name for part in statements if isinstance(part, ast.ClassDef) and not part.bases}
    objects = [part for part in statements if isinstance(part, ast.Assign) and called_by(ast.Expr(part.value)) in plain]
    read = set[str]().union(*(free_names(part) for part in statements[place + 1 :] if reads_grad(part)))
    return (read & training.modules) - {*assigned(objects)}


def _read_by(texts: Iterable[str]) -> set[str]:
    """The names that parts of a program read, and do not make themselves before."""
    bodies = [ast.parse(text).body for text in texts]
    return set().union(*(
        set().union(*map(free_names, body)) - ({*assigned(body)} - read_first(body)) for body in bodies
    ))  # fmt: skip


def _without_unused(pasted: Pasted) -> Pasted:
    """With what nothing reads apart from the rest of what is differentiated to, where the call allows that."""
    if not any(note.startswith(tuple(UNUSED_OPTIONS)) for note in pasted.notes):
        return pasted
    read = {node.id for node in ast.walk(ast.parse(pasted.expression)) if isinstance(node, ast.Name)}
    unused = tuple(name for name in pasted.wrt if name not in read)
    if not unused or len(unused) == len(pasted.wrt):
        return pasted
    inputs = {name: text for name, text in pasted.inputs.items() if name not in unused}
    note = f"nothing reads {', '.join(unused)}, which is left out here: the result is for the others"
    wrt = tuple(name for name in pasted.wrt if name in read)
    return replace(pasted, inputs=inputs, wrt=wrt, unused=unused, notes=(*pasted.notes, note))
