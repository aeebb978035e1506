"""Functions that write to tensors from outside of themselves: every question leaves those as they are, and has one answer."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import jvpcli

X = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
weight = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64, requires_grad=True)
count = torch.zeros((), dtype=torch.float64)
settings = {"scale": torch.ones(1, dtype=torch.float64), "name": "none"}


def halved(x):
    with torch.no_grad():
        weight.mul_(0.5)
    return weight * x**2


def counted(x):
    count.add_(1)
    return (count * x).sin()


def by_data(x):
    weight.data = weight.data + 1
    return (weight * x).sum()


def by_entry(x):
    with torch.no_grad():
        weight[1:][0] = 7.0
    return (weight * x).sum() * x


def in_a_dict(x):
    settings["scale"].mul_(3)
    return settings["scale"] * x


def of_a_closure():
    kept = torch.zeros(2, 3, dtype=torch.float64)

    def moving(x):
        kept[1].add_(1.0)
        return kept * x**3

    return moving, kept


class Averaged(nn.Module):
    """A second set of weights that follows the first, as momentum contrast has it."""

    def __init__(self):
        super().__init__()
        self.fast = nn.Parameter(torch.tensor([2.0, 4.0, 6.0], dtype=torch.float64))
        self.slow = nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)
        self.last = torch.zeros(3, dtype=torch.float64)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.slow.data = 0.5 * self.slow.data + 0.5 * self.fast.data
        self.steps += 1
        self.last.copy_(x.detach())
        return (self.slow * x).tanh() * self.fast


means, variances = ({k: torch.full((3,), start, dtype=torch.float64) for k in range(3)} for start in (0.0, 1.0))


def normalised(x):
    """Running statistics that are no module's buffers."""
    y = F.batch_norm(torch.stack([x, x**2]), means[0], variances[0], training=True)
    z = torch.batch_norm(torch.stack([x, 3 * x.sin()]), None, None, means[1], variances[1], True, 0.1, 1e-5, False)
    return y + z + F.instance_norm(torch.stack([x, x**3], 1)[None], running_mean=means[2], running_var=variances[2])[0].T


def plainly_normalised(x):
    y, z, w = torch.stack([x, x**2]), torch.stack([x, 3 * x.sin()]), torch.stack([x, x**3])
    return sum((each - each.mean(0)) / (each.var(0, correction=0) + 1e-5).sqrt() for each in (y, z, w))


ROWS = torch.tensor([0, 2])
tables = [torch.tensor([[3.0, 0.0, 4.0], [1.0, 1.0, 1.0], [0.0, 2.0, 0.0]], dtype=torch.float64) for _ in range(2)]


def looked_up(x):
    """Rows of a table that are longer than 1 are scaled in it."""
    return F.embedding(ROWS, tables[0], max_norm=1.0) * x + F.embedding_bag(ROWS[:, None], tables[1], None, 1.0) * x**2


def plainly_looked_up(x):
    return torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], dtype=torch.float64) * (x + x**2)


class Keeping(nn.Module):
    """Keeps tensors in a list, in a dict, and in a dict in a list."""

    def __init__(self):
        super().__init__()
        self.kept = [torch.ones(3, dtype=torch.float64), {"more": torch.ones(3, dtype=torch.float64)}]
        self.others = {"scale": torch.ones(3, dtype=torch.float64)}

    def forward(self, x):
        self.kept[0].add_(1)
        self.kept[1]["more"].add_(2)
        self.others["scale"].add_(3)
        return self.kept[0] * self.kept[1]["more"] * self.others["scale"] * x**2


keeping = Keeping()
entries, nested = [torch.zeros(3, dtype=torch.float64)], {"of": ([torch.ones(3, dtype=torch.float64)],)}


class Couple(NamedTuple):
    first: torch.Tensor
    others: tuple[torch.Tensor, str]


class Pair(tuple):
    """One that is made of something else than what it holds."""

    def __new__(cls, first, last):
        return super().__new__(cls, (first, last))


couple = Couple(torch.ones(3, dtype=torch.float64), (torch.zeros(3, dtype=torch.float64), "none"))
pair, greatest = Pair(torch.ones(3, dtype=torch.float64), "last"), torch.ones(3, 3, dtype=torch.float64).max(0)
alias = {"same": entries[0], "part": entries[0][1:]}


def in_lists(x):
    """And in tuples, one of which it replaces; what it writes to has further names, and so has a part of it."""
    global couple
    entries[0].add_(1)
    pair[0].add_(1)
    greatest.values.add_(1)
    nested["of"][0][0].mul_(3)
    couple.first.mul_(2)
    couple.others[0].add_(1)
    couple = couple._replace(first=couple.first * 2)
    outer = alias["same"] * alias["part"][0] * nested["of"][0][0] * pair[0] * greatest[0]
    return outer * couple.first * couple.others[0] * x**2


moving, kept = of_a_closure()
averaged = Averaged()

FUNCTIONS = [
    # function, the tensors that it writes to, its value by what those are before
    (halved, lambda: [weight], lambda x: weight.detach() * 0.5 * x**2),
    (counted, lambda: [count], lambda x: ((count + 1) * x).sin()),
    (by_data, lambda: [weight], lambda x: ((weight.detach() + 1) * x).sum()),
    (by_entry, lambda: [weight], lambda x: (torch.tensor([1.0, 7.0, 2.0], dtype=torch.float64) * x).sum() * x),
    (in_a_dict, lambda: [settings["scale"]], lambda x: 3 * x),
    (in_lists, lambda: [*entries, *alias.values(), nested["of"][0][0], couple.first, couple.others[0], pair[0], greatest[0]],
     lambda x: 48 * x**2),
    (moving, lambda: [kept], lambda x: torch.tensor([[0.0], [1.0]], dtype=torch.float64) * x**3),
    (looked_up, lambda: tables, plainly_looked_up),
    (keeping, lambda: [keeping.kept[0], keeping.kept[1]["more"], keeping.others["scale"]], lambda x: 24 * x**2),
    (normalised, lambda: [*means.values(), *variances.values()], plainly_normalised),
    (averaged, lambda: [*averaged.state_dict().values(), averaged.last],
     lambda x: (torch.tensor([1.5, 2.5, 3.5], dtype=torch.float64) * x).tanh() * averaged.fast.detach()),
]  # fmt: skip
QUESTIONS = [jvpcli.inspect, jvpcli.trace, jvpcli.check, jvpcli.hessian, jvpcli.jacobian]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(("function", "written", "plain"), FUNCTIONS)
def test_a_question_leaves_the_tensors_of_a_function_as_they_are(question, function, written, plain):
    before = [(tensor, tensor.detach().clone()) for tensor in written()]
    for _ in range(2):
        question(function, x=X)
    assert all(a is b for (a, _), b in zip(before, written(), strict=True)) or function is averaged
    assert all(torch.equal(tensor, copy) for tensor, copy in before)
    assert all(torch.equal(tensor, copy) for tensor, (_, copy) in zip(written(), before, strict=True))


@pytest.mark.parametrize(("function", "written", "plain"), FUNCTIONS)
def test_its_derivative_is_that_of_one_call(function, written, plain):
    expected = torch.autograd.functional.jacobian(plain, X)
    assert torch.allclose(jvpcli.inspect(function, x=X, wrt="x").jacobian["y", "x"].to_dense(), expected)
    assert torch.allclose(jvpcli.trace(function, x=X, wrt="x").vjp["x"], expected.reshape(-1, 3).sum(0))
    assert jvpcli.check(function, x=X, wrt="x").verdict == "pass"


def test_a_function_that_follows_its_input_through_one_is_cut_there():
    def remembering(x):
        count.add_(x.detach().sum())
        return count * x

    result = jvpcli.check(remembering, x=X)
    assert (result.verdict, float(count)) == ("graph_break", 0.0)
    assert result.report.step.source == "count.add_(x.detach().sum())"


IMPORTED = """\
import torch
from torch import nn

count = torch.zeros(())
weight = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
settings = {"scale": torch.ones(1)}
net = nn.Linear(3, 3)

def counted(x):
    count.add_(1)
    return (count * x).sin()

def halved(x):
    x = x * 1
    x += 1  # its own
    with torch.no_grad():
        weight.mul_(0.5)
    return weight * x**2

def both(x):
    settings["scale"].mul_(3)
    return settings["scale"] * halved(x) + net(x) * 0

class Writing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        count.add_(2)
        return x * count

    @staticmethod
    def backward(ctx, g):
        return g * 2

def sent(x):
    return Writing.apply(x)
"""
MINE = [
    # an expression, and its value at what the file begins with
    ("counted(x)", lambda x: x.sin()),
    ("counted(x) + counted(2 * x)", lambda x: x.sin() + (2 * x).sin()),
    ("halved(x)", lambda x: torch.tensor([0.5, 1.5, 1.0]) * (x + 1) ** 2),
    ("both(x) * counted(x)", lambda x: torch.tensor([1.5, 4.5, 3.0]) * (x + 1) ** 2 * x.sin()),
    ("sent(x)", lambda x: 2 * x),
]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(("expression", "plain"), MINE)
def test_functions_of_a_file_leave_its_tensors_as_they_are(tmp_path, question, expression, plain):
    (tmp_path / "mine.py").write_text(IMPORTED)
    imports = [str(tmp_path / "mine.py")]
    question(expression, x=X.float(), imports=imports)
    own = vars(sys.modules["jvpcli_import_mine"])
    assert float(own["count"]) == 0
    assert own["weight"].tolist() == [1, 3, 2]
    assert own["settings"]["scale"].tolist() == [1]


@pytest.mark.parametrize(("expression", "plain"), MINE)
def test_a_function_of_a_file_has_the_derivative_of_one_call(tmp_path, expression, plain):
    (tmp_path / "mine.py").write_text(IMPORTED)
    imports, x = [str(tmp_path / "mine.py")], X.float()
    expected = torch.autograd.functional.jacobian(plain, x)
    torch.testing.assert_close(jvpcli.inspect(expression, x=x, imports=imports).jacobian["y", "x"].to_dense(), expected)
    torch.testing.assert_close(jvpcli.jacobian(expression, x=x, imports=imports)["y", "x"].to_dense(), expected)
    torch.testing.assert_close(jvpcli.trace(expression, x=x, imports=imports).vjp["x"], expected.sum(0))
    assert jvpcli.check(expression, x=x, imports=imports).verdict == "pass"


def test_a_parameter_that_is_written_to_is_differentiated_where_it_is_given(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\nnet = nn.Linear(3, 2, dtype=torch.float64)\n"
        "def clamped(x):\n    net.weight.data.clamp_(-0.1, 0.1)\n    return net(x) ** 2\n"
        "def plain(x):\n    return net(x) ** 2\n"
    )
    imports = [str(tmp_path / "mine.py")]
    assert jvpcli.check("plain(x)", x=X, imports=imports, wrt=["net.weight"]).passed
    for name in ("plain", "clamped"):
        assert jvpcli.check(f"{name}(x)", x=X, imports=imports, wrt=["x", "net.bias"]).passed
        found = jvpcli.inspect(f"{name}(x)", x=X, imports=imports, wrt=["net.weight"]).jacobian["y", "net.weight"]
        assert int((found != 0).sum()) == 6
