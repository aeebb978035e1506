"""What Python is written with: programs that depend on it are answered as plain Python runs them, or refused with the cause."""

from __future__ import annotations

import textwrap

import pytest
from executed import as_run, by_python, fits

from jvpcli.closed.execution import Settings, compiled, run_through
from jvpcli.errors import ForbiddenError
from jvpcli.render.json import to_dict

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nx = torch.tensor([1., 2.], requires_grad=True)\n"

PROGRAMS = {
    "generators that stop inside of blocks": """
        from contextlib import contextmanager
        seen = []
        @contextmanager
        def mode(net, *rest, k=2., **named):
            "told"
            was = net.training
            net.eval()
            try:
                with torch.no_grad():
                    yield net(torch.ones(2)) * k
            except ValueError as error:
                seen.append(len(str(error)))
            finally:
                net.train(was)
        class Walk:
            def over(self, tree, /):
                try:
                    if not isinstance(tree, list):
                        yield tree
                    else:
                        for each in tree:
                            yield from self.over(each)
                finally:
                    seen.append(1)
        class Twice(Walk):
            def over(self, tree, /):
                for each in super().over(tree):
                    try:
                        yield 2 * each
                    finally:
                        seen.append(.5)
        net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        with mode(net, 1, k=3., z=4) as y:
            seen.append(net.training + 3.)
            raise ValueError("abc")
        (x * y * sum(Twice().over([1., [2., [3.]]])) * sum(seen) * (2. if net.training else 1.)).sum().backward()
        """,
    "generators that are told something": """
        def added():
            total = 0
            while True:
                try:
                    given = yield total
                except KeyError as error:
                    given = len(error.args)
                if given is None:
                    return total * 10
                total += given
        def outer():
            found = yield from added()
            yield found
        walk = outer()
        next(walk), walk.send(2), walk.throw(KeyError("a", "b"))
        (x * walk.send(None)).sum().backward()
        walk.close()
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_those_of_plain_python(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + textwrap.dedent(PROGRAMS[name])
    expected = by_python(text, monkeypatch)
    found = [*to_dict(as_run(text))["vjp"].values()]
    assert found
    assert all(any(fits(each, gradient) for gradient in expected) for each in found), (found, expected)


REFUSED = {
    "The generator on line 2 stops inside of `with` or `try`, and is thrown away there": """
        def counted():
            try:
                yield 1.
            finally:
                print("end")
        for k in counted():
            break
        """,
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_is_refused_is_told_with_its_line_and_cause(told: str) -> None:
    try:
        error = run_through(compiled(textwrap.dedent(REFUSED[told])), Settings())[1]
    except ForbiddenError as refused:
        error = refused
    assert isinstance(error, ForbiddenError)
    assert str(error).startswith(told)


def test_nothing_of_a_generator_runs_behind_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Its end would run without the guards where it is thrown away: in the middle of what numpy goes through, for one."""
    text = """
ended = []
class Swallowed:
    def __enter__(self): return self
    def __exit__(self, *error): return True
def stopping():
    while True:
        with Swallowed():
            try: yield 1
            finally: ended.append(1)
def held():
    it = stopping(); next(it); return it
it = held(); ring = [held()]; ring.append(ring); del ring
"""
    code = compiled(text)
    names: dict[str, object] = {}
    from jvpcli.closed import execution

    class Kept(execution.Program):
        def __init__(self, *given):
            super().__init__(*given)
            names.update(program=self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution, "Program", Kept)
        assert run_through(code, Settings())[1] is None
    assert names["program"].globals["ended"] == []
    names.clear()
    assert capsys.readouterr().err == ""
