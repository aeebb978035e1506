"""One line of a batch in, one document out: what the command itself prints with --json, and the line's id."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from jvpcli.answers import report_of
from jvpcli.answers.batch import request_of
from jvpcli.cli.compute import FREE_PART, refuse
from jvpcli.cli.output import failures_as_errors
from jvpcli.errors import BadValueError, JvpError
from jvpcli.language import may_construct
from jvpcli.language.limits import json_float
from jvpcli.language.parse import parse
from jvpcli.render import escaped_json
from jvpcli.render.json import error_to_json, layout, pieces, to_json
from jvpcli.request import Request
from jvpcli.system import memory

if TYPE_CHECKING:
    from jvpcli.answers.again import Known

PART, DONE, FAILED, INSTEAD, TIMEOUT = range(5)
"""What a worker tells of a line: a part of its document with more to come; the last part, of an answer or of one that
tells of a failure; the whole document of a failure, which makes void what came before; the seconds that it may take."""

SOON = 0.005
"""Seconds up to which the answer to a line has taken no time: others of its text may be computed together."""

TOGETHER_SECONDS = 0.5
"""That lines may take which are computed together; then one of them goes on, and the others are answered alone."""

MOST_TEXTS = 64
"""Texts of which it is known that they take no time, and forms of which it is known what lines of them have in common."""

MOST_TRIES = 8
"""Lines of one form that are looked at for what others have in common with them: more where that has answered many."""

WORTH = 4
"""Lines that are answered by what is known of others for each more that is looked at."""

HEADER = struct.Struct("<BQ")
"""Before a part of an answer: what it is, and its length."""

SECONDS = struct.Struct("<d")
"""A TIMEOUT's content."""


def read_object(line: bytes) -> dict[str, Any]:
    """The JSON object on a line.

    Raises:
        BadValueError: it is not strict JSON, or no object.
    """
    try:
        found = _JSON.decode(line.decode("utf-8-sig"))
        if b"\\u" in line:
            json.dumps(found, ensure_ascii=False, default=str).encode("utf-8")  # half a character cannot be written again
    except UnicodeDecodeError:
        raise BadValueError("the line is not UTF-8") from None
    except UnicodeEncodeError:
        raise BadValueError("the line holds half a character, as \\ud800 is, which no text can hold") from None
    except json.JSONDecodeError as error:
        raise BadValueError(
            f"the line is not JSON: {error.msg[:1].lower()}{error.msg[1:]} (character {error.pos + 1})",
            hints=('A line looks like {"expression": "torch.outer(x,x)", "inputs": {"x": [1,2,3,4]}}.',),
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        reason = "a whole number has thousands of digits" if reason.startswith("Exceeds the limit") else reason
        raise BadValueError(f"the line cannot be read: {reason}") from None
    if not isinstance(found, dict):
        raise BadValueError("the line is JSON, but not an object with an `expression`")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f'{word} is not JSON; it is written "{word}", as a string')


_JSON = json.JSONDecoder(parse_constant=_no_constant, parse_float=json_float)


@dataclass(frozen=True, slots=True)
class Answer:
    """A document of one line, without its newline, and whether the line failed.

    The document is bytes, or where it is long a file, which is to be closed once it has been written out.
    """

    document: bytes | IO[bytes]
    failed: bool
    size: int


class Form(NamedTuple):
    """What is made of a request.

    Attributes:
        compute: its answer, as data.
        document: of the request and its answer, as a JSON object in pieces.
        failure: of what is wrong with it, as a JSON object.
        files: whether a VALUE may name a file to read.
    """

    compute: Callable[[Request], Any]
    document: Callable[[Request, Any], Iterator[bytes]]
    failure: Callable[[JvpError], bytes]
    files: bool


def _computed(request: Request) -> Any:
    return report_of(request)  # found when it is called: tests put another in its place


def _document(request: Request, report: Any) -> Iterator[bytes]:
    return pieces(layout(report))


PRINTED = Form(_computed, _document, error_to_json, files=True)
"""What the command itself prints with --json."""


class Soon:
    """Which texts were answered soon: lines of them that wait are answered together, and of new texts without blocks.

    Attributes:
        is_last: whether the last line was answered soon.
    """

    def __init__(self) -> None:
        self.is_last = False
        self._texts: dict[str, bool] = {}
        self._known: dict[str, Known | None] = {}
        self._tries: dict[str, float] = {}

    def note(self, request: Request, seconds: float) -> None:
        """How long the answer to a request took."""
        self.is_last = seconds < SOON and request.command == "inspect"
        self._texts.pop(request.expression, None)
        self._texts[request.expression] = self.is_last
        if len(self._texts) > MOST_TEXTS:
            del self._texts[next(iter(self._texts))]

    def holds(self, request: Request) -> bool:
        """Whether a request is of such a text, or of a new one without blocks, and asks for nothing that takes another time.

        Raises:
            JvpError: the text is refused.
        """
        plain = not (request.imports or request.save or request.timeout or request.memory_limit)
        if not plain or request.command != "inspect":
            return False
        soon = self._texts.get(request.expression)
        return _is_flat(request) if soon is None else soon

    def known(self, fields: Mapping[str, Any]) -> Known | None:
        """How a line of such a text is answered whose words are known already."""
        expression = fields.get("expression")
        return self._known.get(_form(fields)) if isinstance(expression, str) and self._texts.get(expression) else None

    def helped(self, fields: Mapping[str, Any], count: int) -> None:
        """So many lines of the form of one were answered by what is known."""
        form = _form(fields)
        if form in self._tries:
            self._tries[form] = max(1.0, self._tries[form] - count / WORTH)

    def learn(self, fields: Mapping[str, Any], request: Request) -> None:
        """Tries to answer the request so that the words of others of its form are known."""
        from jvpcli.answers.again import known

        if not self._texts.get(request.expression):
            return
        form = _form(fields)
        tries = self._tries[form] = self._tries.pop(form, 0) + 1
        if len(self._tries) > MOST_TEXTS:
            oldest = next(iter(self._tries))
            del self._tries[oldest]
            self._known.pop(oldest, None)
        if 1 < tries <= MOST_TRIES:  # of a form that no other line has nothing need be known
            with suppress(JvpError):  # whoever asks for it by itself gets to know why
                self._known[form] = known(request, self._known.get(form))


def _is_flat(request: Request) -> bool:
    """Whether its program has no blocks, functions, modules or derivative calls, so that none of its steps stands for many."""
    assert isinstance(request.expression, str)
    names = request.inputs.keys() | request.shape.keys()
    return not may_construct(request.expression) and not parse(request.expression, names).has_statements


def _form(fields: Mapping[str, Any]) -> str:
    """All of a line but for its id and the values of its inputs."""
    inputs = fields.get("inputs")
    names = [*inputs] if isinstance(inputs, Mapping) else inputs
    return str([{name: value for name, value in fields.items() if name not in ("id", "inputs")}, names])


def answers_together(
    lines: Sequence[bytes], most_memory: int | None, soon: Soon, may_run: bool = False
) -> list[bytes | None]:
    """The documents of several lines, each computed by itself, stage after stage; None for one to be answered alone.

    That is whatever `soon` does not hold, whatever fails, and what is late for another that takes its time: its answer is that of
    `answer`, with `may_run` as there.
    """
    from jvpcli.answers.inspect import inspect_together  # and torch with it

    found: list[bytes | None] = [None] * len(lines)
    with suppress(JvpError), failures_as_errors(), limited(most_memory):
        identities, requests = list[bytes](), dict[int, Request]()
        forms: dict[Known, dict[int, Mapping[str, Any]]] = {}

        def ask(place: int, fields: Mapping[str, Any]) -> bool:
            request = request_of(fields, may_run)
            if request.refusal is not None or not soon.holds(request):
                return False
            request = refuse(request, request.command)
            requests[place] = replace(request, memory_limit=most_memory, pasted=None, runnable=None)
            return True

        with suppress(JvpError):  # from the first on that can't be read, as from one that may take its time
            for place, line in enumerate(lines):
                fields = read_object(line)
                identities.append(identity_of(fields))
                known = soon.known(fields)
                if known is not None:
                    forms.setdefault(known, {})[place] = fields
                elif ask(place, fields):
                    soon.learn(fields, requests[place])
                else:
                    break
        for known, asked in forms.items():
            documents = known.documents([fields["inputs"] for fields in asked.values()])
            for place, document in zip(asked, documents, strict=True):
                found[place] = document and with_id(document, identities[place])
            soon.helped(next(iter(asked.values())), sum(document is not None for document in documents))
            others = [place for place in asked if found[place] is None and ask(place, asked[place])]
            for place in others[:1]:
                soon.learn(asked[place], requests[place])
        if not requests:
            return found
        began, soon.is_last = perf_counter(), False
        reports = inspect_together([*requests.values()], TOGETHER_SECONDS)
        each = (perf_counter() - began) / len(requests)
        for (place, request), report in zip(requests.items(), reports, strict=True):
            if report is not None:
                found[place] = with_id(to_json(report), identities[place])
                soon.note(request, each)
    return found


def answer(
    line: bytes,
    most_memory: int | None,
    form: Form = PRINTED,
    soon: Soon | None = None,
    may_run: bool = False,
    **fields_given: Any,
) -> Iterator[tuple[int, bytes]]:
    """The answer to a line, in parts; `most_memory` bounds what reading, computing and writing may take, in bytes.

    `soon` notes how long it took.  `may_run`: a program that the language does not read may be run by Python itself.
    `fields_given` stand for the line's fields of these names, whatever it says itself.
    """
    identity, began = b"", perf_counter()
    try:
        with failures_as_errors(), limited(most_memory):
            fields = read_object(line) | fields_given
            identity = identity_of(fields)
            request = request_of(fields, may_run)
            del fields
            if request.timeout is not None:
                yield TIMEOUT, SECONDS.pack(request.timeout)
            request = refuse(request, request.command)
            allowed = min((size for size in (request.memory_limit, most_memory) if size), default=None)
            with limited(allowed if allowed != most_memory else None):  # which is on already
                report = form.compute(replace(request, memory_limit=allowed, timeout=None, files=form.files))
                document = form.document(request, report)
                part = with_id(next(document), identity)
                for following in document:
                    yield PART, part
                    part = following
                if soon is not None and request.refusal is None:
                    soon.note(request, perf_counter() - began)
                yield FAILED if request.command == "check" and not report.passed else DONE, part
    except JvpError as error:
        yield INSTEAD, with_id(form.failure(error), identity)


def answer_of_failed(line: bytes, verdict: bytes, most_memory: int | None) -> Iterator[tuple[int, bytes]]:
    """The answer to a line of which it is known already how it failed: `verdict` is that document, and lacks the id."""
    identity = b""
    with suppress(JvpError), failures_as_errors(), limited(most_memory):
        identity = identity_of(read_object(line))
    yield INSTEAD, with_id(verdict, identity)


def failure(error: JvpError) -> Answer:
    """The answer of a line that was not read."""
    return failed_as(error_to_json(error))


def failed_as(document: bytes) -> Answer:
    """The answer of a line with a failure's document."""
    return Answer(document, True, len(document))


def limited(size: int | None) -> AbstractContextManager[None]:
    """The memory limit, if there is one."""
    return nullcontext() if size is None else memory.limited(size)


def with_id(document: bytes, identity: bytes) -> bytes:
    """The document with the id in front, if the line had one."""
    return b'{"id":' + identity + b"," + document[1:] if identity else document


def identity_of(fields: Mapping[str, Any]) -> bytes:
    """The id among the fields of a line, as it is written again; empty where there is none.

    Raises:
        BadValueError: a number in it, such as 1e400, is too large for that.
    """
    try:
        return escaped_json(_ID.encode(fields["id"]).encode()) if "id" in fields else b""
    except (TypeError, ValueError):
        raise BadValueError(
            "a number in the `id` is too large for a float, and JSON has no word for infinity"
        ) from None


_ID = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def default_memory(jobs: int) -> int | None:
    """What a line may take if nothing else was asked for: its job's part of the free memory."""
    free = memory.free_memory()
    return int(FREE_PART * free / jobs) if free else None
