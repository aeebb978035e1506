"""`%load_ext jvpcli` in a real kernel: `%jvp`, `%%jvp`, their completion, and errors of cells explained."""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

import pytest

import jvpcli

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

SOURCE = str(Path(jvpcli.__file__).parents[1])

COMPLETED = """
from IPython.core.completer import provisionalcompleter
def completed(line):
    with provisionalcompleter():
        found = get_ipython().Completer.completions(line, len(line))
        return [line[:c.start] + c.text + line[c.end:] for c in found]
"""

CELLS = {
    "load": "%load_ext jvpcli",
    "tensors": "import torch\nx, v, words = torch.tensor([1., 2, 3, 4]), torch.diag(torch.ones(4)), 'text'",
    "inspect": "%jvp inspect torch.outer(x, x)",
    "weighted": "r = %jvp inspect torch.outer(x, x) -g v\nprint(r.vjp['x'].tolist())",
    "given": "r = %jvp inspect x * 2 --x 1,2\nprint(r.outputs['y'].tolist())",
    "cell": "%%jvp trace --x 1,2\ny = x * x\ny.sum()",
    "check": "%jvp check x - 1",
    "program": "%%jvp inspect\nclass Odd:\n    def __enter__(self): return 3.\n    def __exit__(self, *e): pass\n"
    "w = torch.tensor([1., 2.], requires_grad=True)\nwith Odd() as k: (k * w ** 2).sum().backward()",
    "quotes": "r = %jvp inspect torch.einsum('i,i->', x, x)\nprint(r.vjp['x'].tolist())",
    "json": '%jvp inspect --json "x * 2" --x 3',
    "explain": "%jvp explain grad can be implicitly created only for scalar outputs",
    "refused": "%jvp inspect x @ torch.ones(3)",
    "unknown": "%jvp inspect x * words",
    "module": "net = torch.nn.Tanh()\n%jvp inspect net(x)",
    "timeout": "%jvp inspect x --timeout 3",
    "serve": "%jvp serve --port 0",
    "error": "W = torch.ones(3, 2)\nz = W @ x",
    "noted": "import jvpcli\njvpcli.inspect(lambda a: a @ W, x)",
    "cut": "def scaled(a):\n    return a * float(a.sum())\nprint(jvpcli.check(scaled, x).report.explanation)",
    "backward": """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]
class Net(torch.nn.Module):
    def forward(self, x):
        return Square.apply(x)
print(jvpcli.check(Square.apply, x).report.explanation, jvpcli.check(Net(), x).verdict)""",
    "plain": "1 / 0",
    "batch": '%%jvp batch\n{"id": 7, "expression": "x*x", "inputs": {"x": 3}}',
    "completion": COMPLETED + "[completed(line) for line in "
    "('%jvp insp', '%jvp inspect torch.softma', '%jvp inspect x --gr', '%jvp inspect x --mode=f', '%%jvp tra')]",
}


@pytest.fixture(scope="module")
def outputs():
    """What each cell of one notebook has put out."""
    cells = {name: nbformat.v4.new_code_cell(source) for name, source in CELLS.items()}
    notebook = nbformat.v4.new_notebook(cells=list(cells.values()))
    path = os.pathsep.join(filter(None, (SOURCE, os.environ.get("PYTHONPATH"))))
    client = nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=300)
    client.execute(env={**os.environ, "PYTHONPATH": path})
    return {name: cell.outputs for name, cell in zip(cells, notebook.cells, strict=True)}


def printed(outputs, stream="stdout"):
    return "".join(each.text for each in outputs if each.output_type == "stream" and each.name == stream)


def error(outputs):
    (each,) = [each for each in outputs if each.output_type == "error"]
    return each.ename, re.sub(r"\x1b\[[\d;]*m", "", "\n".join(each.traceback))


def test_a_result_is_shown_as_text_and_as_a_page(outputs):
    (shown,) = outputs["inspect"]
    assert shown.data["text/plain"] == str(jvpcli.inspect("torch.outer(x, x)", x=[1, 2, 3, 4]))
    assert 'class="jvp' in shown.data["text/html"]
    (checked,) = outputs["check"]
    assert checked.data["text/plain"] == str(jvpcli.check("x - 1", x=[1, 2, 3, 4]))
    (traced,) = outputs["cell"]
    assert traced.data["text/plain"] == str(jvpcli.trace("y = x * x\ny.sum()", x=[1, 2]))


def test_a_program_in_a_cell_is_run_as_on_the_command_line(outputs):
    (shown,) = [each for each in outputs["program"] if each.output_type == "execute_result"]
    assert "∂L/∂w = [ 6., 12.]" in shown.data["text/plain"]
    assert "as_python" in printed(outputs["program"], "stderr")


def test_names_are_the_notebook_s_tensors_unless_they_are_given(outputs):
    assert printed(outputs["weighted"]) == "[2.0, 4.0, 6.0, 8.0]\n"  # the diagonal of x xᵀ
    assert printed(outputs["given"]) == "[2.0, 4.0]\n"
    assert printed(outputs["quotes"]) == "[2.0, 4.0, 6.0, 8.0]\n"


def test_other_commands_print_as_in_a_shell(outputs):
    assert printed(outputs["json"]).startswith('{"schema":1,"ok":true,"expression":"x * 2"')
    assert printed(outputs["explain"]).startswith("backward() or grad() was called on a tensor with several entries\n")
    assert printed(outputs["batch"]).startswith('{"id":7,"schema":1,"ok":true,')


def test_what_is_refused_has_no_traceback(outputs):
    for name, kind, words in (
        ("refused", "ShapeMismatchError", "A dot product of vectors with 4 and 3 entries"),
        ("timeout", "UsageError", "--timeout can't be kept here: it would end the notebook's process"),
        ("serve", "UsageError", "jvp serve answers until it is ended, and the notebook would wait for that"),
        ("unknown", "UnknownNameError", "words"),
        ("module", "UnknownNameError", "`net` is the notebook's own: jvpcli.inspect(net, …) takes it as it is"),
    ):
        found, text = error(outputs[name])
        assert found == kind, text
        assert words in text
        assert "Traceback" not in text
        assert "Cell In" not in text
        assert printed(outputs[name], "stderr") == ""


def test_a_cell_s_error_is_explained_below_its_traceback(outputs):
    kind, text = error(outputs["error"])
    assert (kind, "z = W @ x" in text) == ("RuntimeError", True)
    kinds = [kind for kind, _ in groupby(each.output_type for each in outputs["error"])]  # a stream may come in pieces
    assert kinds == ["error", "stream"]
    below = printed(outputs["error"], "stderr")
    assert "A matrix product of (3, 2) and (4,): the inner sizes 2 and 4 differ" in below
    assert "W  shape (3, 2), float32" in below
    cited = re.search(r"Cell In\[\d+\], line 2", text)
    assert cited is not None
    assert f"{cited[0]}: W @ x" in below  # as IPython's own traceback has it
    assert "\x1b" not in below


def test_a_line_of_a_cell_is_cited_by_the_cell_s_number(outputs):
    assert re.match(r"`return a \* float\(a\.sum\(\)\)` \(Cell In\[\d+\], line 2\) cuts the graph", printed(outputs["cut"]))


def test_classes_of_a_cell_are_examined_and_cited(outputs):
    number = list(CELLS).index("backward") + 1
    told = f"`Square.backward` (Cell In[{number}], line 6) does not compute the derivative of forward. "
    told += "In each of the 4 entries found to differ autograd has 0.5 times what differences give."
    assert printed(outputs["backward"]) == f"{told} wrong_backward\n"


def test_nothing_is_told_twice_or_of_what_is_not_known(outputs):
    _, text = error(outputs["noted"])
    below = printed(outputs["noted"], "stderr")
    assert (text + below).count("the inner sizes 4 and 3 differ") == 1
    assert [each.output_type for each in outputs["plain"]] == ["error"]


def test_commands_options_and_functions_are_completed(outputs):
    (shown,) = outputs["completion"]
    found = eval(shown.data["text/plain"])
    assert found[0] == ["%jvp inspect"]
    for completions, wanted in zip(found[1:], ("torch.softmax", "--grad-outputs", "--mode=forward", "%%jvp trace"), strict=True):
        assert any(each.endswith(wanted) for each in completions)
