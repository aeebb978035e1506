"""A program that asks for a derivative itself, as the request that it makes.  Only the text is read; nothing of it is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jvpcli.errors import JvpError, UsageError
from jvpcli.language import is_torchs_own, may_ask_for_derivative, may_construct, may_pass_over, refusals
from jvpcli.language.calls import CHECKS, UNUSED_OPTIONS, Pasted, is_backward, is_block, name_of, text_of
from jvpcli.language.dependence import needed, with_seed, without_needless_draws
from jvpcli.language.given import (
    with_open_dictionaries,
    with_printed,
)
from jvpcli.language.leaves import (
    from_intermediates,
    plainly_made,
    separate,
    with_named_leaves,
    with_weights,
    without_leaves,
    without_needless_asking,
    without_needless_imports,
)
from jvpcli.language.names import assigned, free_names, read_first
from jvpcli.language.parse import STATEMENTS, head, parse, read_program
from jvpcli.language.sessions import is_session
from jvpcli.language.source import SourceText
from jvpcli.language.statements import (
    FLAGS,
    called_by,
    is_passed_over,
    modules_of,
    opened,
    reads_grad,
    with_imports,
    without_annotations,
)
from jvpcli.language.subject import Place, Reader, Subject, calls_of, follows, mode_in_forward, uses_graph
from jvpcli.language.training import (
    anew,
    refuse_anew,
    refuse_moved,
    refuse_partly_anew,
    refuse_partly_cleared,
    refuse_training,
)
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

    Of a program that can be run as it stands it holds, with `may_run`, what was asked, else its text; and of one that is refused,
    why.

    Raises:
        JvpError: it is refused, and can't be run as it stands.
    """
    if not _can_run(request):
        return _as_read(request)
    held: dict[str, Any] = {"pasted": request} if may_run else {"runnable": request.expression}
    try:
        return replace(_as_read(request), **held)
    except JvpError as error:
        if request.call is not None and _is_read(replace(request, call=None)):
            raise  # the calls are those that the language knows
        return replace(request, refusal=error, **held)


def _is_read(request: Request) -> bool:
    """Whether the language reads a program, as far as its text tells."""
    try:
        meant = _as_read(request)
        if may_construct(meant.expression):  # the rest is known once its modules are made
            read_program(meant.expression)
        else:
            parse(meant.expression, meant.inputs.keys())
    except JvpError:
        return False
    return True


def _can_run(request: Request) -> bool:
    """Whether a program can be run as it stands: several statements, nothing of a file, sizes of numbers."""
    text = request.expression
    return isinstance(text, str) and ("\n" in text or ";" in text) and not (request.shape or request.imports)


def _as_read(request: Request) -> Request:
    """What a request means whose expression is a program that asks for a derivative itself: that derivative.

    What the request says counts before what the program says.

    Raises:
        UsageError: the program has no call of the number that is asked for, or the command has no answer for the call.
        JvpError: a call of some number is asked for, of a text that can't be read.
    """
    text = request.expression
    if not isinstance(text, str):
        return request
    own = not request.imports or is_torchs_own(text)
    seed = request.seed if request.seed_given else None
    twice = request.command == "hessian"
    pasted = read_pasted(text, request.call, twice, seed) if own else None
    if pasted is None:
        if request.call is not None:
            read_program(text)  # what can't be read says so itself
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
        all_used=pasted.all_used and not request.wrt,
    )
    if pasted.seed is not None and not request.seed_given:
        meant = replace(meant, seed=pasted.seed, seed_given=True)
    if request.command == "check":  # at the numbers that the program draws, but for a function that is checked itself
        drawn = not any(each.explained and any(name in each.source for name in CHECKS) for each in pasted.calls)
        meant = replace(meant.checked(), seed_given=meant.seed_given or drawn)
    refuse_lacking(meant)
    return meant


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
    source: str, number: int | None = None, twice: bool = False, seed: int | None = None
) -> Pasted | None:
    """What a program's text asks for, by the leaves that it makes, and by a call for a derivative.

    That is the call number `number`, from 1, or the one that ends the program.  With `twice` the second derivative is asked
    for anyway, and a call of it means its function.  `seed` is where random numbers begin, if that is given: the program's own
    gives way to it.  None where there is no call and no leaf, or the text can't be read.

    Raises:
        UsageError: there is no call of that number.
        ForbiddenError: it steps an optimizer, asks for a derivative in a block, changes weights behind a use of them, clears
            some gradients alone, takes a derivative in forward mode of what says how gradients are recorded, or does what is
            seen elsewhere by what the language does not have.
        ExpressionSyntaxError: it calls `x.requires_grad()`, which is no method.
    """
    program = _program(source, seed) if may_ask_for_derivative(source) else None
    if program is None:
        return None
    calls = list(calls_of(program.statements, program.code))
    if number is not None and calls and not 0 < number <= len(calls):
        raise no_such_call(number, _listed(calls, (), program))
    reader = Reader(program.statements, program.code, twice, calls)
    subject = _alone(program, reader, reader.ending() if number is None or not calls else reader.chosen(calls[number - 1]))
    _refuse_called_flags(program, subject)
    _refuse_changes(program, reader, subject)
    parts = _apart(program, reader, subject)
    if program.text.pieces or not (reader.calls or parts.leaves or parts.subject or program.changed):
        return None
    meant = () if parts.subject is None else parts.subject.calls
    told = Pasted(
        "\n".join(map(ast.unparse, program.body)) if program.changed else source,
        notes=program.notes,
        calls=_listed(calls, [reader.calls.index(each) for each in meant], program),
        passed_over=passed_over(program.tree, program.text),
    )
    if parts.subject is None and not parts.leaves and number is None:  # its calls are equations of it
        return told
    return _as_asked(program, reader, parts, told)


@dataclass(frozen=True)
class _Program:
    """A program as it is read.

    Attributes:
        source: the text that was given.
        text, tree: what of it was typed, and its statements, with what runs in the place of an `if` on a flag.
        body: these in the language's own words.
        statements: the same one by one, behind each other, and each leaf under a name.
        seed: where random numbers begin, if the program says so.
        notes: what is to be said of how it was read.
        changed: whether the body has other words than the text.
    """

    source: str
    text: SourceText
    tree: ast.Module
    body: list[ast.stmt]
    statements: list[ast.stmt]
    seed: int | None
    notes: tuple[str, ...]
    changed: bool

    @property
    def code(self) -> str:
        """The text in which the parts of the tree have their places."""
        return "\n".join(self.text.lines)


@dataclass(frozen=True)
class _Parts:
    """A program, apart.

    Attributes:
        subject: what is meant; None: the value that the program ends with.
        kept: the statements before it, but for those that make leaves.
        leaves: their names, with what each is made of: its VALUE.
    """

    subject: Subject | None
    kept: list[ast.stmt]
    leaves: dict[str, str]


def _program(source: str, seed: int | None) -> _Program | None:
    """A text as a program; None where it can't be read.

    Raises:
        ForbiddenError: it steps an optimizer, or asks for a derivative in a block.
    """
    try:
        text, tree = read_program(source.strip())
    except JvpError:
        return None
    _refuse_foreign(tree, text)
    refuse_training(text, [*opened(tree.body)])
    imported = with_imports(without_annotations(tree.body))
    body = with_printed(imported)
    changed = body != imported or len(body) > len(tree.body)
    done, named = with_named_leaves(with_open_dictionaries([*opened(body)]))
    statements, own_seed = with_seed([part for statement in done for part in separate(statement)], seed)
    return _Program(source, text, tree, body, statements, own_seed, (*named, *_about_anomalies(tree, text)), changed)


def _about_anomalies(tree: ast.Module, text: SourceText) -> Iterator[str]:
    """What is to be said where anomaly detection is switched on: no step is looked at for it here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in ("detect_anomaly", "set_detect_anomaly"):
            given = [*node.args, *[each.value for each in node.keywords]]
            if not any(isinstance(each, ast.Constant) and each.value is False for each in given):
                yield DETECTED.format(line=_line(node, text))
                return


DETECTED = "under anomaly detection (line {line}) PyTorch raises where a step of a backward pass gives NaN"


def _alone(program: _Program, reader: Reader, subject: Subject | None) -> Subject | None:
    """What is meant; of a session in which a leaf takes the name of another one, with what it needs alone before it.

    A session goes on behind a call that raises.  A script ends there, so that all that stands before is a part of it.
    """
    if subject is None or not is_session(program.source.splitlines()) or not anew(subject.before, reader.weights):
        return subject
    return replace(subject, before=needed(_asking(subject.asked), subject.before))


def _apart(program: _Program, reader: Reader, subject: Subject | None) -> _Parts:
    """A program with its leaves apart from the rest, and what is meant by them.

    Raises:
        ForbiddenError: it takes a derivative in forward mode of what says how gradients are recorded.
    """
    kept, leaves = without_leaves(reader.statements if subject is None else subject.before, program.code)
    if subject is None:
        return _Parts(None, kept, leaves)
    if subject.calls and follows(subject, kept):
        subject = reader.as_value(subject)
    if (mode := mode_in_forward(subject)) is not None:
        raise refusals.in_forward(ast.unparse(mode)).with_context(span=program.text.span(mode), source=program.text.source)
    cut = from_intermediates(subject.asked, kept, leaves, program.code)
    if cut is None:  # the gradient by something that nothing after it reads: PyTorch says so itself
        end = subject.calls[-1].place + 1 if subject.calls else None
        return _Parts(None, *without_leaves(reader.statements[:end], program.code))
    if subject.calls and name_of(subject.calls[-1].call) in CHECKS:  # by what requires a gradient alone
        constants = plainly_made(subject.asked.wrt, kept)
        wrt = tuple(name for name in subject.asked.wrt if name not in constants)
        subject = replace(subject, asked=replace(subject.asked, wrt=wrt or subject.asked.wrt))
    if subject.calls and uses_graph(subject.calls[-1].call):
        notes = map(NO_LEAF.format, plainly_made(subject.asked.wrt, kept))
        subject = replace(subject, asked=replace(subject.asked, notes=(*subject.asked.notes, *notes)))
    return _Parts(subject, *cut)


def _as_asked(program: _Program, reader: Reader, parts: _Parts, told: Pasted) -> Pasted:
    """What is meant as a request: the expression with what it needs, and the leaves that are read in it."""
    asked = None if parts.subject is None else parts.subject.asked
    kept = _carried_out(parts)
    if parts.subject is not None and parts.subject.calls and parts.leaves and not parts.subject.asked.wrt:
        asked = replace(parts.subject.asked, wrt=_read_behind(reader, parts, kept))
    if asked is not None:
        added, asked = with_weights(asked, kept, program.code)
        kept = [*kept, *added]
    expression = "" if asked is None else asked.expression
    kept = without_needless_draws(kept, ast.parse(expression).body)
    kept = without_needless_imports(without_needless_asking(kept, expression), expression)
    lines = [*(text_of(statement, program.code) for statement in kept), *([] if asked is None else [expression])]
    found = replace(
        asked or told,
        expression=("\n" if any(map(is_block, kept)) else "; ").join(lines),
        inputs=parts.leaves,
        seed=program.seed,
        notes=tuple(dict.fromkeys((*program.notes, *(asked or told).notes))),
        calls=told.calls,
        passed_over=told.passed_over,
    )
    return _without_unused(_of_what_is_read(found))


def _carried_out(parts: _Parts) -> list[ast.stmt]:
    """The statements that are carried out before what is meant."""
    shown = parts.kept[-1:] if parts.subject is None else []  # what a program prints last is its result
    return [part for part in parts.kept if not is_passed_over(part) or (part in shown and called_by(part) == "print")]


def _read_behind(reader: Reader, parts: _Parts, kept: Sequence[ast.stmt]) -> tuple[str, ...]:
    """What a call of backward without names is by, where the gradients of modules are read behind it; none: by all leaves."""
    assert parts.subject is not None
    read = _read_by([parts.subject.asked.expression, *map(ast.unparse, kept)])
    modules = _whose_gradients(reader.statements, parts.subject.calls[-1].place) & read
    names = (*(name for name in parts.leaves if name in read), *(f"{name}.parameters()" for name in sorted(modules)))
    return names if modules else ()


def _refuse_foreign(tree: ast.Module, text: SourceText) -> None:
    """Refuse what the language does not have and what may do what is seen elsewhere.

    Raises:
        ForbiddenError: a name that is set inside of an expression, a generator, or a statement that may ask for a derivative.
    """
    for node in ast.walk(tree):
        foreign = isinstance(node, ast.stmt) and type(node) not in STATEMENTS
        asks = foreign and may_ask_for_derivative(ast.unparse(node))
        if asks or isinstance(node, (ast.Yield, ast.YieldFrom, ast.NamedExpr)):
            raise refusals.node(type(node)).with_context(span=head(text.source, text.span(node)), source=text.source)


def _asking(meant: Pasted) -> ast.Module:
    """What a request reads at the end of its program; of `net.0.weight`, which is no Python, that is the module."""
    roots = (name.partition(".")[0] for name in meant.wrt)
    return ast.parse("\n".join([meant.expression, *roots, *meant.grad_outputs, *meant.tangent]))


def _refuse_called_flags(program: _Program, subject: Subject | None) -> None:
    """Refuse `x.requires_grad()` up to what is meant, at which Python ends; a session goes on behind it.

    Raises:
        ExpressionSyntaxError: it stands there.
    """
    text = program.text
    if is_session(text.source.splitlines()):
        return
    last = subject.calls[-1].node.lineno if subject is not None and subject.calls else len(text.lines)
    run = (part for part in program.tree.body if not isinstance(part, ast.FunctionDef))
    calls = (node for part in run for node in ast.walk(part) if isinstance(node, ast.Call) and node.lineno <= last)
    for node in calls:
        if isinstance(node.func, ast.Attribute) and node.func.attr in FLAGS:
            raise refusals.called_flag(ast.unparse(node.func)).with_context(span=text.span(node), source=text.source)


def _refuse_changes(program: _Program, reader: Reader, subject: Subject | None) -> None:
    """Refuse weights that change behind a use, up to what is meant, and gradients of which some are cleared there.

    Raises:
        ForbiddenError: some do, or are.
    """
    last = subject.calls[-1] if subject is not None and subject.calls else None
    end = len(reader.statements) if last is None else last.place + 1
    refuse_moved(program.text, reader.statements[: end - 1], reader.weights)
    refuse_anew(program.text, reader.statements[:end] if subject is None else subject.before, reader.weights)
    backward = [each for each in reader.calls if is_backward(each.call) and each.place < end]
    for each in backward[:-1] if last is not None and is_backward(last.call) else ():
        between, held = reader.statements[each.place + 1 : end - 1], reader.holding(each)
        refuse_partly_cleared(program.text, between, held)
        refuse_partly_anew(program.text, between, held)


def passed_over(tree: ast.Module, text: SourceText) -> tuple[PassedOver, ...]:
    """The statements of a program that are not carried out: `print` and assertions."""
    found = []
    for node in ast.walk(tree):
        shows = node in tree.body[-1:] and isinstance(node, ast.Expr)  # what it prints is what is asked
        shows |= isinstance(node, ast.stmt) and called_by(node) in CHECKS  # which are among the calls
        if isinstance(node, ast.stmt) and is_passed_over(node) and not shows:
            found.append(PassedOver("assert" if isinstance(node, ast.Assert) else called_by(node), _line(node, text)))
    return tuple(found)


def _left_out(source: str) -> tuple[PassedOver, ...] | None:
    """What is passed over of a program that asks for no derivative itself."""
    try:
        text, tree = read_program(source.strip())
    except JvpError:
        return None
    return (passed_over(tree, text) or None) if len(tree.body) > 1 else None


def _line(node: ast.stmt | ast.expr, text: SourceText) -> int:
    """The line of the text on which a part of it begins, from 1."""
    return text.source.count("\n", 0, text.position(node.lineno, node.col_offset)) + 1


def _listed(calls: Sequence[Place], explained: Sequence[int], program: _Program) -> tuple[Call, ...]:
    """The calls as they are told."""
    nodes = [each.node for each in calls]
    return tuple(
        Call(place + 1, _line(node, program.text), text_of(node, program.code), place in explained)
        for place, node in enumerate(nodes)
    )


def no_such_call(number: int, calls: Sequence[Call]) -> UsageError:
    """What is told where a program has other derivative calls than the one that is asked about."""
    listed = "; ".join(f"{call.number}: line {call.line}, {call.source}" for call in calls)
    return UsageError(f"there is no derivative call number {number}", explanation=f"The calls are {listed}.")


def _of_what_is_read(pasted: Pasted) -> Pasted:
    """Without the leaves that nothing reads."""
    read = _read_by([pasted.expression, *pasted.grad_outputs, *pasted.tangent]) | {*pasted.wrt}
    while more := _read_by(text for name, text in pasted.inputs.items() if name in read) - read:
        read |= more
    return replace(pasted, inputs={name: text for name, text in pasted.inputs.items() if name in read})


def _whose_gradients(statements: Sequence[ast.stmt], place: int) -> set[str]:
    """The modules whose gradients are read behind a statement."""
    read = set[str]().union(*(free_names(part) for part in statements[place + 1 :] if reads_grad(part)))
    return read & modules_of(statements)


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
