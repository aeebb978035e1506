"""Sessions that Python runs between guards: they go on behind what they raise, as at Python's own prompt."""

from __future__ import annotations

import code
import contextlib
import io
import json

import pytest
import torch

from jvpcli.closed.execution import Settings, compiled, run_through
from jvpcli.errors import ForbiddenError

SESSIONS = {
    "a leaf that is written to, behind two statements on a line": """\
>>> a = torch.arange(4., requires_grad=True)
>>> a[0] = 7; a = a.detach()
Traceback (most recent call last):
RuntimeError: a view of a leaf Variable that requires grad is being used in an in-place operation.
>>> b = a.clone()
>>> b[0] = 7
>>> b.pow(2).sum().backward()
""",
    "a graph that is used up": """\
>>> from functools import reduce
>>> a = torch.tensor([1., 2., 3.], requires_grad=True)
>>> y = reduce(lambda x, t: x * t, a.unbind())
>>> y.backward()
>>> y.backward()
Traceback (most recent call last):
RuntimeError: Trying to backward through the graph a second time
>>> (a ** 2).sum().backward()
""",
    "a function that raises in a loop": """\
>>> a = torch.ones(2, requires_grad=True)
>>> def f(n):
...     if n > 1:
...         raise ValueError(n)
...     return n * a
...
>>> for n in range(3):
...     y = f(n)
...     (y * y).sum().backward()
...
>>> y.requires_grad
>>> (a ** 3).sum().backward()
""",
}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_goes_on_behind_what_it_raises(jvp, name):
    scope = {"torch": torch}
    python = code.InteractiveConsole(scope)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for line in SESSIONS[name].splitlines():
            if line.startswith((">>> ", "...")):
                python.push(line[4:])
    document = json.loads(jvp("inspect", SESSIONS[name], "--json").out)
    assert document["vjp"]["a"]["value"] == scope["a"].grad.tolist()
    assert "the session goes on behind line" in document["warnings"][-1]["message"]
    script = "\n".join(line[4:] for line in SESSIONS[name].splitlines() if line.startswith((">>> ", "...")))
    document = json.loads(jvp("inspect", script, "--json").out)  # which ends there
    assert "error" in document or "the program ends on line" in document["warnings"][-1]["message"]


def test_of_what_a_session_raises_the_last_counts_that_is_not_for_want_of_another():
    text = ">>> class Odd: pass\n>>> y = undefined\n>>> x = torch.ones(2) @ torch.ones(3)\n>>> x.sum().backward()\n"
    for session in (text, text.replace("@", "*").replace("3", "2")):
        seen, error = run_through(compiled(session), Settings())
        assert type(error) is RuntimeError
        assert len(seen.lines) == session.count("*")


def test_what_is_refused_ends_a_session():
    text = ">>> x = torch.ones(2, requires_grad=True)\n>>> import subprocess\n>>> x.sum().backward()\n"
    for refused in (text, text.replace("import subprocess", "x.__globals__"), text.replace("import subprocess", "input()")):
        with contextlib.suppress(ForbiddenError):
            seen, error = run_through(compiled(refused), Settings())
            assert isinstance(error, ForbiddenError)
            assert not seen.lines
