"""Whatever was asked on the lines before it, an answer of a batch is the document that the command alone prints."""

from __future__ import annotations

import json
import math
import random
import re

import pytest

from jvpcli.answers import inspect, question
from jvpcli.answers.batch import request_of
from jvpcli.cli.answers import Soon, answer, answers_together
from jvpcli.request import Request
from many_functions import FUNCTIONS

KINKED = [
    ("x.abs() + F.relu(w)", [(3,), (3,)]),
    ("torch.maximum(x, w)", [(2, 2), (2, 2)]),
    ("x.sqrt() * x.log()", [(4,)]),
    ("torch.round(x) + x", [(3,)]),
    ("x / x", [(3,)]),
    ("torch.where(x > 1, x, x**2)", [(4,)]),
    ("(x * 0, x - x, w.detach() * x)", [(2,), (2,)]),
    ("a = x * w; b = a.sum(); (a / b, b, x.argmax())", [(3,), (3,)]),
    ("sum(x[i] for i in range(3)) if x.sum() > 0 else x.prod()", [(3,)]),
    ("torch.linalg.eigh(x + x.T)[1]", [(2, 2)]),
    ("torch.complex(x, w).abs()", [(2,), (2,)]),
    ("x.repeat_interleave(w.long().clamp(0, 3))", [(3,), (3,)]),
    ("x[w.argsort()] * w", [(3,), (3,)]),
    ("F.dropout(x, 0.5) + torch.randn(4)", [(4,)]),
    ("x.half().exp()", [(3,)]),
]

ONE = ["torch.relu({0})", "{0}.abs()", "torch.sqrt({0})", "torch.exp({0})", "torch.sort({0})[0]", "{0}.cumsum(0)",
       "torch.softmax({0}, 0)", "({0}).clamp(-1, 1)", "torch.sign({0}) * x", "({0}).flip(0)", "torch.log({0})",
       "({0}).max() + x", "torch.norm({0}) * w"]  # fmt: skip
TWO = ["({0}) + ({1})", "({0}) * ({1})", "({0}) / ({1})", "torch.maximum({0}, {1})", "torch.where({0} > {1}, {0}, {1})",
       "torch.outer({0}, {1}).sum(1)"]  # fmt: skip


def composed(draw, depth):
    """A random function of vectors x and w of one length: smooth or not, and of bounded domain or not."""
    if not depth:
        return draw.choice("xw")
    parts = draw.choice([*ONE, *TWO])
    return parts.format(composed(draw, depth - 1), composed(draw, draw.randint(0, depth - 1)))


RANDOM = [(f"({composed(random.Random(seed), 3)}) * x + w", [(3,), (3,)]) for seed in range(12)]

NUMBERS = {
    "ordinary": lambda draw: round(draw.gauss(0, 2), 3),
    "whole": lambda draw: float(draw.randint(-1, 1)),  # ties, zeros and kinks
    "ones": lambda draw: 1.0,
    "not finite": lambda draw: draw.choice(["NaN", "Infinity", "-Infinity", 0.0, 1.0]),
    "large": lambda draw: draw.choice([1e30, -1e30, 1e-30, 3e38]),
}
WEIGHTS = [None, None, "ones", "randn", "zeros", "1,2", "onehot:0"]


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """However slow a machine is, no line is left out for the time that it takes, or others."""
    monkeypatch.setattr("jvpcli.cli.answers.TOGETHER_SECONDS", math.inf)
    monkeypatch.setattr("jvpcli.cli.answers.SOON", math.inf)


def filled(shape, draw, number):
    if not shape:
        return number(draw)
    return [filled(shape[1:], draw, number) for _ in range(shape[0])]


def requests(expression, shapes, draw, count):
    """Several for one expression: mostly at its shapes, and all kinds of numbers, dtypes and weights."""
    for kind in [*NUMBERS, *draw.choices(list(NUMBERS), k=count - len(NUMBERS))]:
        found = {"expression": expression, "inputs": {}}
        for name, shape in zip("xwb", shapes, strict=False):
            if draw.random() < 0.04:
                shape = (*shape, 2)
            found["inputs"][name] = filled(shape, draw, NUMBERS[kind])
        found["dtype"] = draw.choice(["float32"] * 6 + ["float64", "bfloat16"])
        weight = draw.choice(WEIGHTS)
        if weight is not None:
            found["grad_outputs"] = weight
        if draw.random() < 0.2:
            found["tangent"] = "randn"
        if draw.random() < 0.2:
            found["mode"] = draw.choice(["forward", "reverse"])
        yield found


def line_of(request):
    return json.dumps({"id": 7, **request}).encode()


def in_a_batch(request):
    return without_id(b"".join(part for _, part in answer(line_of(request), None)))


def without_id(document):
    assert document.startswith(b'{"id":7,')
    return b"{" + document[len(b'{"id":7,') :]


def argv_of(request):
    words = ["inspect", request["expression"], f"--dtype={request['dtype']}", "--json"]
    words += [f"--{name}={json.dumps(value)}" for name, value in request["inputs"].items()]
    words += [f"--{o.replace('_', '-')}={request[o]}" for o in ("tangent", "mode", "grad_outputs") if o in request]
    return words


def compared(document):
    """The document, without the commands in an error's hints: of a line whose numbers are JSON's there are none."""
    found = json.loads(document)
    found.get("error", {}).pop("hints", None)
    return json.dumps(found) if "error" in found else document.strip()


@pytest.mark.parametrize(("expression", "shapes"), [*FUNCTIONS, *KINKED, *RANDOM])
def test_a_line_among_others_is_answered_as_alone(jvp, expression, shapes):
    """Each request comes after others for the same program, and beside them, and is compared with the command on its own."""
    draw = random.Random(expression)
    asked = list(requests(expression, shapes, draw, len(NUMBERS)))
    found = [in_a_batch(request) for request in asked]
    beside = answers_together([line_of(request) for request in asked], None, known_soon(asked[0]))
    assert any(beside)
    for request, first, again in zip(asked, found, beside, strict=True):
        question._courses.cache_clear()  # a process of its own knows of no other request
        alone = jvp(*argv_of(request)).out.encode()
        assert compared(first) == compared(alone), argv_of(request)
        assert again is None if b'"ok":false' in first[:30] else without_id(again) == first


def known_soon(request):
    """What a worker knows once it has answered the request in no time."""
    soon = Soon()
    soon.note(request_of(request), 0.0)
    return soon


def test_what_is_not_known_to_take_no_time_is_answered_alone():
    loop = "y = x\nfor _ in range(2):\n    y = y.sin()\ny"
    one, other = ({"expression": text, "inputs": {"x": [1.0, 2.0]}} for text in ("x.sin()", loop))
    texts = [line_of(each) for each in (one, other, one, one | {"timeout": 5}, one | {"memory_limit": "1GB"})]
    soon = known_soon(one)
    alone = [None if found is None else without_id(found) for found in answers_together(texts, None, soon)]
    assert alone == [in_a_batch(one), None, None, None, None]  # those behind come with the next ones
    for text in texts[3:]:
        assert answers_together([text], None, soon) == [None]
    soon.note(request_of(one), math.inf)
    assert answers_together(texts[:1], None, soon) == [None]


def test_lines_of_different_texts_are_answered_together_as_alone():
    """Also beside one that fails, and one that is no program: those and what stands behind the latter are left out."""
    draw = random.Random(0)
    asked = [next(requests(expression, shapes, draw, len(NUMBERS))) for expression, shapes in [*FUNCTIONS, *KINKED, *RANDOM]]
    asked.insert(3, {"expression": "x @ x @ x", "inputs": {"x": [1.0, 2.0]}})
    found = answers_together([line_of(request) for request in [*asked, {"expression": "x +"}, asked[0]]], None, Soon())
    alone = [in_a_batch(request) for request in asked]
    together = [b'"ok":false' not in document[:30] for document in alone]
    assert sum(together) > len(asked) / 2
    assert not together[3]
    expected = [document if is_there else None for document, is_there in zip(alone, together, strict=True)]
    assert [document and without_id(document) for document in found] == [*expected, None, None]


def test_lines_that_wait_for_one_that_takes_its_time_are_left_to_be_answered_alone():
    first, second = inspect.inspect_together([Request("x.sin()", inputs={"x": [1.0]})] * 2, 0.0)
    assert first is not None
    assert second is None
    assert inspect.inspect_together([Request("x @ w", inputs={"x": [1.0]})] * 2, 0.0) == [None, None]


def test_what_torch_warns_of_once_in_a_process_is_told_on_every_line():
    request = {"expression": "x.T * 2", "inputs": {"x": [1.0, 2.0]}}
    first, again = in_a_batch(request), in_a_batch(request)
    assert first == again
    assert [each["code"] for each in json.loads(again)["warnings"]] == ["torch_warning"]


def test_what_is_said_because_of_a_value_is_found_out_at_each_point():
    """A power jumps where its base and its exponent are zero: the lines before had other numbers."""
    ordinary, zeros = ({"expression": "x**w", "inputs": {"x": [number, 2.0], "w": [number, 2.0]}} for number in (1.5, 0.0))
    for _ in range(4):
        in_a_batch(ordinary)
    (notice,) = json.loads(in_a_batch(zeros))["warnings"]
    assert (notice["claim"], notice["message"][:29]) == ("step", "there is a jump at w[0] = 0: ")


def test_the_requests_are_answered_by_courses():
    """Else the test above would compare nothing: from the third evaluation at the same shapes on the steps are known."""
    request = {"expression": "torch.outer(x, x)", "inputs": {"x": [1.0, 2.0]}}
    question._courses.cache_clear()
    for _ in range(3):
        in_a_batch(request)
    (courses,) = [question._courses(*key) for key in [_key(request)]]
    assert courses.course is not None
    assert courses.course.known.facts


def _key(request):
    from jvpcli.answers.question import pose

    problem = pose(request_of(request))
    return problem.function.source, tuple((n, x.shape, x.dtype) for n, x in problem.inputs.items()), problem.wrt, None


SMOOTH = [
    ("torch.outer(x, w)", {}),
    ("torch.outer(x, x)", {"mode": "reverse"}),
    ("(x * w).sum()", {}),
    ("(torch.sin(x) @ w, x * w)", {"dtype": "float64"}),
    ("F.softmax(x, 0)", {}),
    ("x.norm() * x.prod()", {}),
    ("x[1:] - x[:-1]", {"grad_outputs": [1.5, 0.0]}),
    ("torch.stack([x[0] * x[1], x[2].sin(), x.sum()])", {"grad_outputs": "onehot:1"}),
    ("torch.diag(x) @ w", {"grad_outputs": "randn", "seed": 3}),
    ("a = x.exp(); b = w.cumsum(0); (a / (1 + b**2), torch.tanh(a).prod())", {}),
    ("x * 1e-30 * w", {}),
    ("torch.clamp(x, -1, 1) + w.sin()", {}),
    ("torch.relu(x * w) * w", {}),
    ("x.max() + w", {}),
    ("torch.sort(x)[0] * w", {"grad_outputs": [1.0, 0.5, 2.0]}),
    ("torch.maximum(x, w)[[0, 2]]", {}),
    ("F.leaky_relu(x).cumsum(0) - x.abs()", {}),
]
"""Texts whose words follow from so little that lines of them are filled with their numbers, and what is asked besides."""


@pytest.mark.parametrize(("expression", "asked"), SMOOTH)
def test_lines_whose_words_are_known_say_what_they_say_alone(monkeypatch, expression, asked):
    """Of ordinary numbers nothing but the numbers is found out; of zeros, ties, and what overflows the ordinary way tells."""
    draw, ordinary = random.Random(expression), list[int]()
    monkeypatch.setattr(inspect, "inspect_together", lambda found, seconds, known=inspect.inspect_together: (
        ordinary.append(len(found)), known(found, seconds))[1])  # fmt: skip
    names = [name for name in "xw" if name in re.findall(r"\w+", expression)]

    def line(kind):
        number = NUMBERS[kind]
        return {"expression": expression, "inputs": {name: filled((3,), draw, number) for name in names}, **asked}

    first = line("ordinary")
    soon = known_soon(first)
    for _ in range(30):
        answers_together([line_of(line("ordinary")) for _ in range(3)], None, soon)
    ordinary.clear()
    plain = [line("ordinary") for _ in range(12)]
    special = [line(kind) for kind in (*NUMBERS, "whole", "large", "not finite")]
    special.append({**first, "inputs": {name: [1.0, -0.0, 5e-324] for name in names}})
    special.append({**first, "inputs": {name: [1.0, 2.0] for name in names}})
    found = answers_together(list(map(line_of, plain)), None, soon)
    assert sum(ordinary) < 6  # where tanh is flat for once, another entry is zero
    found += answers_together(list(map(line_of, special)), None, soon)
    for request, document in zip([*plain, *special], found, strict=True):
        question._courses.cache_clear()
        alone = in_a_batch(request)
        assert document is None if b'"ok":false' in alone[:30] else without_id(document) == alone, request


def test_of_a_form_that_no_other_line_has_nothing_more_is_found_out(monkeypatch):
    """Lines that each ask for something else take as long as they would alone, and are not kept."""
    learned = list[int]()
    monkeypatch.setattr("jvpcli.answers.again.known", lambda request, before: learned.append(request.seed))
    others = [{"expression": "x.sin()", "inputs": {"x": [1.0, 2.0]}, "seed": seed} for seed in range(70)]
    soon = known_soon(others[0])
    assert all(answers_together(list(map(line_of, others)), None, soon))
    assert learned == []
    assert all(answers_together(list(map(line_of, [others[0], *others[-2:]])), None, soon))
    assert learned == [68, 69]
