"""Programs pasted as they stand: what jvp answers is what Python gives, running the same text."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable

from jvpcli.answers import report_of
from jvpcli.errors import JvpError
from jvpcli.language.pasted import as_meant
from jvpcli.request import Request

PASTES = {
    "a session": """
>>> import torch
>>> x = torch.tensor([1., 2., 3., 4.], requires_grad=True)
>>> y = torch.outer(x, x)
>>> y.shape
torch.Size([4, 4])
>>> y.backward(torch.ones_like(y))
>>> x.grad
tensor([20., 20., 20., 20.])
""",
    "a notebook": """
In [1]: import torch

In [2]: x = torch.arange(3.).requires_grad_()
   ...: w = 2 * torch.ones(3)

In [3]: def f(t):
   ...:     return (t * w) ** 2
   ...:

In [4]: f(x).sum().backward()

In [5]: x.grad
Out[5]: tensor([ 0.,  8., 16.])
""",
    "the autograd tutorial": """
import torch

a = torch.tensor([2., 3.], requires_grad=True)
b = torch.tensor([6., 4.], requires_grad=True)
Q = 3*a**3 - b**2
external_grad = torch.tensor([1., 1.])
Q.backward(gradient=external_grad)
# check if collected gradients are correct
print(9*a**2 == a.grad)
print(-2*b == b.grad)
""",
    "old names": """
import torch
from torch.autograd import Variable
x = Variable(torch.FloatTensor([1, 2, 3]), requires_grad=True)
c = Variable(torch.Tensor([3, 1, 2]))
y = x * 2
while y.data.norm() < 1000:
    y = y * 2
gradients = torch.FloatTensor([0.1, 1.0, 0.0001])
y.backward(gradients)
print(x.grad)
""",
    "flags set later": """
x = torch.linspace(0, 1, 4)
w = torch.ones(4)
x.requires_grad = True
w.requires_grad_()
loss = ((x - 2) * w).pow(2).mean()
print(f"loss {loss.item()}")
assert loss > 0
loss.backward()
print(x.grad, w.grad)
""",
    "a training loop": """
import torch
import torch.nn as nn
import torch.nn.functional as F

w = nn.Parameter(torch.tensor([[1., -1.], [0.5, 2.]]))
b = nn.Parameter(torch.zeros(2))
data, target = torch.tensor([[1., 2.]]), torch.tensor([[0., 1.]])
optimizer = torch.optim.SGD([w, b], lr=0.1)
for epoch in range(1):
    optimizer.zero_grad()
    out = F.linear(data, w, b)
    loss = F.mse_loss(torch.sigmoid(out), target)
    loss.backward()
    print(epoch, loss.item())
""",
    "two at once": """
x, w = torch.tensor([1., 2.], requires_grad=True), torch.tensor([3., 4.], requires_grad=True)
k = torch.tensor([5., 6.])
(x * w * k).sum().backward()
""",
    "in numpy's words": """
import numpy as np
import torch
data = np.array([1.0, 2.0, 3.0])
x = torch.tensor(data, requires_grad=True)
(x ** 2).sum().backward()
""",
    "two backwards": """
x = torch.tensor([1., 2.], requires_grad=True)
y = (x ** 2).sum()
y.backward(retain_graph=True)
z = (y * x).sum()
z.backward()
x.grad
""",
    "two backwards, cleared between": """
x = torch.tensor([1., 2.], requires_grad=True)
(x ** 2).sum().backward()
x.grad.zero_()
(x ** 3).sum().backward()
x.grad
""",
    "a leaf that needs what is before": """
n = 3
base = torch.eye(n)
x = (base * 2).clone().requires_grad_()
scale = float(n)
(x.sum(0) * scale).pow(2).sum().backward()
""",
    "what is not needed follows": """
x = torch.tensor([1., 2.], requires_grad=True)
loss = (x ** 2).sum()
loss.backward()
lr = 0.1
with torch.no_grad():
    x -= lr * x.grad
print("done")
""",
    "indented, with its first line cut": """x = torch.tensor([1., 2.], requires_grad=True)
    for k in range(2):
        y = x * k
    y.sum().backward()
    """,
    "a gradient used on": """
x = torch.tensor([1., 2.], requires_grad=True)
y = (x ** 3).sum()
g = torch.autograd.grad(y, x, create_graph=True)[0]
penalty = (g.norm() - 1) ** 2
penalty.backward()
x.grad
""",
    "a main block, and blocks in a loop": """
import torch

def model(t, w):
    return torch.tanh(t * w)

if __name__ == "__main__":
    w = torch.tensor([1., -2.], requires_grad=True)
    data = torch.tensor([0.5, 0.25])
    if data.sum() > 0:
        data = data * 2
    for epoch in range(1):
        loss = model(data, w)
        if epoch == 0:
            loss = loss * 3
        else:
            loss = loss * 5
        loss.sum().backward()
""",
    "a fit by hand": """
import math
dtype = torch.float
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
x = torch.linspace(-math.pi, math.pi, 20, device=device, dtype=dtype)
y = torch.sin(x)
a = torch.ones((), dtype=dtype, requires_grad=True)
b = torch.full((), 2., dtype=dtype, requires_grad=True)
for t in range(1):
    loss = (a + b * x - y).pow(2).sum()
    if t % 100 == 99:
        print(t, loss.item())
    loss.backward()
""",
    "one of two leaves is cleared": """
w = torch.ones(2, requires_grad=True)
(w * 3).sum().backward()
inp = torch.ones(2, requires_grad=True)
(inp * 2).sum().backward()
inp.grad.zero_()
(inp * 5).sum().backward()
print(inp.grad)
""",
    "what is changed before it is a leaf": """
from torch.autograd import Variable
def twice(t):
    t *= 2
a = torch.ones(2)
a.zero_()
b = torch.ones(2)
twice(b)
v = Variable(a, requires_grad=True)
w = b.clone().requires_grad_()
n = v.sum() * 3 + (v ** 2 * w ** 2).sum() + (w ** 3).sum()
n.backward()
""",
    "what is read before it is a leaf": """
x = torch.tensor([1., 2.])
y = torch.sin(x)
z = x.sum() * 3
x.requires_grad = True
loss = (x * y).sum() * z
loss.backward()
""",
    "weights of a list of the program": """
x = torch.tensor([2., 5.], requires_grad=True)
y = 2 * x ** 2
weights = [1.0, 0.1]
y.backward(torch.tensor(weights))
""",
    "weights that are a gradient": """
x = torch.tensor([2., 5.], requires_grad=True)
h = x ** 2
g = h.detach().requires_grad_()
(g ** 3).sum().backward()
h.backward(gradient=g.grad)
""",
    "a function that is defined again between its calls, and a number that tensors are added to": """
w = torch.tensor([1., 2.], requires_grad=True)
opt = torch.optim.SGD([w], lr=0.1)
def train(w, opt):
    for epoch in range(3):
        loss = (w ** 2).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
train(w, opt)
def train(w, opt):
    for epoch in range(3):
        loss = 0
        for p in [w, w[:1]]:
            loss += p.norm()
        opt.zero_grad()
        loss.backward()
        opt.step()
train(w, opt)
total = 0
for k in range(2):
    total += 3 * torch.norm(w)
opt.zero_grad()
total.backward()
""",
    "what main does": """
w = torch.tensor([2., 5.], requires_grad=True)
def twice(t):
    return 2 * t
def main():
    total = twice(w ** 2).sum()
    total.backward()
    print(w.grad)
if __name__ == "__main__":
    main()
""",
    "tensors by older names": """
a = torch.Tensor(torch.tensor([1., 2.]))
n = torch.tensor([3, 4]).type(torch.FloatTensor)
x = torch.tensor([2., 5.], requires_grad=True)
(a * n * x ** 2).sum().backward()
""",
    "what only shows": """
import numpy as np
x = torch.linspace(0, 1, 5, requires_grad=True)
h = np.pi * x
h.retain_grad()
y = torch.sin(2 * h)
y.sum().backward()
print(x.grad, h.grad)
""",
    "PINN, with a function for the derivative": """
import torch
def gradient(u, x):
    return torch.autograd.grad(u, x, grad_outputs=torch.ones_like(u), create_graph=True)[0]
t = torch.linspace(0, 1, 3).reshape(-1, 1).requires_grad_(True)
w = torch.tensor([[1., 2.]], requires_grad=True)
u = torch.tanh(t @ w).sum(1, keepdim=True)
u_t = gradient(u, t)
u_tt = gradient(u_t, t)
loss = (u_tt + u).pow(2).mean()
loss.backward()
w.grad
""",
}


def typed(paste: str) -> str:
    """The paste without prompts and answers, by other means than jvp's."""
    lines = paste.strip("\n").split("\n")
    if any(re.match(r">>> |In \[", line) for line in lines):
        marks = [re.match(r"(?:>>>|\.\.\.|In \[\d+\]:|   \.\.\.:) ?(.*)", line) for line in lines]
        lines = [mark[1] for mark in marks if mark]
    if lines[0][:1] != " " and all(line[:4] == "    " or not line for line in lines[1:]) and len(lines) > 1:
        lines = [lines[0], *(line[4:] for line in lines[1:])]
    return "\n".join(lines)


def gradients(paste: str) -> dict[str, torch.Tensor]:
    """What `.grad` of each leaf holds once Python has run the text."""
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "np": np, "Variable": Variable, "__name__": "__main__"}
    scope["print"] = lambda *_: None
    exec(typed(paste), scope)
    found = {name: value for name, value in scope.items() if isinstance(value, torch.Tensor) and value.is_leaf}
    return {name: leaf.grad for name, leaf in found.items() if leaf.requires_grad and leaf.grad is not None}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PASTES)
def test_what_is_in_grad(jvp, name):
    expected = gradients(PASTES[name])
    assert expected
    done = jvp("inspect", PASTES[name], "--json")
    assert done.code == 0, done.out
    found = {key: torch.tensor(x["value"], dtype=expected[key].dtype) for key, x in json.loads(done.out)["vjp"].items()}
    torch.testing.assert_close(found, expected)
    assert jvp("trace", "-", "--json", stdin=PASTES[name]).code == 0


@pytest.mark.filterwarnings("ignore")
def test_what_is_given_stands_for_what_is_pasted(jvp):
    done = jvp("inspect", PASTES["a session"], "--x", "1,2", "--json")
    assert json.loads(done.out)["vjp"]["x"]["value"] == [6.0, 6.0]


def test_what_was_read_is_told(jvp):
    paste = "x = torch.ones(3, requires_grad=True)\ny = x ** 2\ny.backward(torch.ones(3))\nx.grad"
    told = 'read as: jvp inspect "y = x ** 2; y" --x "torch.ones(3)" --grad-outputs "torch.ones(3)"\n'
    assert jvp("inspect", paste).err == told


SECOND_TIME = [
    "y.backward()\ny.backward()", "y.backward()\nz = (h * 2).sin().sum()\nz.backward()",
    "y.backward()\ntorch.autograd.grad(y, x)",
    "torch.autograd.grad(y, x)\ny.backward()", "y.backward(retain_graph=True)\ny.backward()\ny.backward()",
]  # fmt: skip


@pytest.mark.parametrize("calls", SECOND_TIME)
def test_a_graph_that_was_freed(jvp, calls):
    paste = f"x = torch.tensor([1., 2.], requires_grad=True)\nh = x ** 2\ny = (h * x).sum()\n{calls}"
    with pytest.raises(RuntimeError) as caught:
        exec(paste, {"torch": torch})
    document = json.loads(jvp("inspect", paste, "--json").out)
    assert document["error"]["code"] == "evaluation"
    assert document["error"]["torch_message"] == str(caught.value)


ADDED_UP = [
    "y.backward(retain_graph=True)\ny.backward()", "y.backward()\ny = (x ** 4).sum()\ny.backward()",
    "y.backward()\nz = x.exp()\nz.backward(x.detach())", "y.backward(retain_graph=True)\ny = h.sin()\ny.backward(torch.ones(2))",
]  # fmt: skip


@pytest.mark.parametrize("calls", ADDED_UP)
def test_gradients_that_add_up(jvp, calls):
    paste = f"x = torch.tensor([1., 2.], requires_grad=True)\nh = x ** 2\ny = (h * x).sum()\n{calls}\nx.grad"
    expected = gradients(paste)["x"]
    found = json.loads(jvp("inspect", paste, "--json").out)["vjp"]["x"]["value"]
    torch.testing.assert_close(torch.tensor(found), expected)


def test_by_a_value_that_the_program_makes(jvp):
    paste = "x = torch.tensor([1., 2.], requires_grad=True)\nh = x ** 2\nz = (h * x).sum()\ntorch.autograd.grad(z, h)"
    found = json.loads(jvp("inspect", paste, "--json").out)
    assert found["vjp"] == {"h": {"shape": [2], "dtype": "float32", "value": [1.0, 2.0]}}
    unused = jvp("inspect", "x = torch.ones(3, requires_grad=True)\nv = x[:2]\ny = x.sum()\ntorch.autograd.grad(y, v)", "--json")
    assert "not have been used in the graph" in json.loads(unused.out)["error"]["torch_message"]


def test_a_derivative_with_a_graph_is_inspected_itself(jvp):
    call = "torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]"
    for end in ("du", "print(du)", "du * 1"):
        done = jvp("inspect", f"u = torch.sin(x); du = {call}; {end}", "--x", "0,1.5", "--json")
        (jacobian,) = json.loads(done.out)["jacobian"].values()
        torch.testing.assert_close(torch.tensor(jacobian["x"]["value"]), torch.diag(-torch.sin(torch.tensor([0, 1.5]))))


REFUSED = [
    ("import torch.nn as nn\nclass Net(nn.Module):\n    def __len__(self):\n        return x\n"
     "x = torch.ones(2, requires_grad=True)\nNet(2, 2)(x).sum().backward()", "Only Python can run the class `Net` on line 2."),
    ("x = torch.ones(2, requires_grad=True)\nimport os\nos.system('ls')\nx.sum().backward()", "There is no `os.system`."),
]  # fmt: skip


@pytest.mark.parametrize(("paste", "message"), REFUSED)
def test_what_cannot_be_read_is_named(paste, message):
    """As Python and a batch have it: the command line goes on to run a whole program."""
    with pytest.raises(JvpError) as refused:
        report_of(as_meant(Request(paste)))
    assert refused.value.exit_code == 3
    assert refused.value.to_dict()["message"].startswith(message)


def test_what_is_passed_over_is_told(jvp):
    paste = "y = x ** 2\nprint(y)\nassert y.sum() > 0\ny * 2"
    told = "passed over: print on line 2, assert on line 3.\n"
    assert jvp("inspect", paste, "--x", "1,2").err == told
    assert jvp("inspect", paste, "--x", "1,2", "--quiet").err == ""
    assert jvp("inspect", "y = x ** 2; print(y)", "--x", "1,2").err == ""


def test_a_paste_beside_a_file_of_ones_own(jvp, tmp_path):
    (tmp_path / "own.py").write_text("def mine(x):\n    return x ** 3\ndef grad(x):\n    return x * 2\n")
    paste = "x = torch.tensor([1., 2.], requires_grad=True)\nmine(x).backward(torch.ones(2))\nx.grad"
    found = json.loads(jvp("inspect", paste, "--import", str(tmp_path / "own.py"), "--json").out)
    assert found["vjp"]["x"]["value"] == [3.0, 12.0]
    own = json.loads(jvp("inspect", "grad(x)", "--x", "1,2", "--import", str(tmp_path / "own.py"), "--json").out)
    assert own["vjp"]["x"]["value"] == [2.0, 2.0]


def test_a_weight_may_be_an_input_that_nothing_else_uses(jvp):
    given = ["torch.autograd.grad(torch.outer(x, x), x, v)", "--x", "1,2", "--v", "1,2;3,4", "--json"]
    assert json.loads(jvp("inspect", *given).out)["vjp"]["x"]["value"] == [12.0, 21.0]


def test_a_hessian_is_the_jacobian_of_the_gradient(jvp):
    paste = "H = torch.autograd.functional.hessian(lambda t: (t ** 3).sum() * t[0], x)\nprint(H)"
    leaf = torch.tensor([1.0, 2.0])
    expected = torch.autograd.functional.hessian(lambda t: (t**3).sum() * t[0], leaf)
    found = json.loads(jvp("inspect", paste, "--x", "1,2", "--json").out)
    torch.testing.assert_close(torch.tensor(found["jacobian"]["y"]["x"]["value"]), expected)
    product = "torch.autograd.functional.hvp(lambda t: (t ** 3).sum() * t[0], x, torch.tensor([2., -1.]))"
    found = json.loads(jvp("inspect", product, "--x", "1,2", "--json").out)
    torch.testing.assert_close(torch.tensor(found["vjp"]["x"]["value"]), expected @ torch.tensor([2.0, -1.0]))


PENALTY = """
def penalty(D, real, fake):
    between = (0.5 * real + 0.5 * fake).requires_grad_(True)
    score = D(between)
    g = torch.autograd.grad(outputs=score, inputs=between, grad_outputs=torch.ones(score.size()),
                            create_graph=True, retain_graph=True, only_inputs=True)[0]
    return ((g.view(g.size(0), -1).norm(2, dim=1) - 1) ** 2).mean()

D = nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
gp = penalty(D, torch.ones(3, 2), torch.arange(6.).reshape(3, 2))
gp.backward()
"""


def test_a_module_is_given_to_a_function(jvp):
    torch.manual_seed(0)
    scope: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(PENALTY, scope)
    expected = {f"D.{name}": torch.zeros_like(p) if p.grad is None else p.grad for name, p in scope["D"].named_parameters()}
    found = json.loads(jvp("inspect", PENALTY, "--json").out)["vjp"]
    torch.testing.assert_close({name: torch.tensor(x["value"]) for name, x in found.items()}, expected)


VALUES = [
    "torch.func.grad(lambda a: ((a ** 2).sum(), a * 5), 0, True)(x)",
    "def f(a, v=1):\n    return (a ** v).sum()\ntorch.func.grad(f)(x, v=3)",
    "torch.autograd.functional.vjp(lambda a: a * x, x, w)[1]",
    "torch.autograd.functional.jacobian(lambda a: a * x, inputs=x, create_graph=False)",
    "torch.autograd.functional.vjp(lambda a: a * x, x, w)",
    "torch.autograd.functional.jacobian(lambda a: a * x, x)",
    "torch.autograd.functional.jacobian(lambda a, b: a * b ** 2, (x, x))",
    "torch.func.jacrev(lambda a, b: a * b ** 2, argnums=(0, 1))(x, x)",
    "torch.func.jacrev(lambda x, w: x * w ** 2)(w, x)",
    "torch.func.grad(lambda a, k: (a ** k).sum())(x, k=3)",
    "torch.func.vjp(lambda a: a * x, x)[1](w)",
    "torch.func.jvp(lambda a: a * x, (x,), (w,))",
    "torch.autograd.functional.hvp(lambda a: (a ** 2 * x).sum(), x, w)",
    "torch.autograd.functional.vjp(lambda w: w ** 2, x, w)",
    "k = x * 2\ntorch.func.jacrev(lambda a: a * k)(x)",
    "k = w.clone()\nk *= x\ntorch.func.jacrev(lambda a: a * k)(x)",
    "def f(a):\n    return a * x\ntorch.func.jacrev(f)(x)",
    "def g(t):\n    return t * x\nf = lambda a: g(a) + a\ntorch.func.jacrev(f)(x)",
    "def f(a, k=x):\n    return a * k\ntorch.func.jacrev(f)(x)",
    "a = w * 3\ng = lambda t: t * a\ntorch.func.jacrev(lambda a: g(a))(x)",
    "_, pull = torch.func.vjp(lambda a: a * x, x)\npull(w)",
]


def _run(text: str) -> list[torch.Tensor]:
    """What Python gives: the tensors of the last expression."""
    scope: dict[str, Any] = {"torch": torch, "x": torch.tensor([1.0, 2.0]), "w": torch.tensor([3.0, 5.0])}
    *before, last = text.rsplit("\n", 1)
    exec("".join(before), scope)
    return list(torch.utils._pytree.tree_leaves(eval(last, scope)))


@pytest.mark.parametrize("text", VALUES)
def test_a_call_that_no_request_means_is_a_value(jvp, text):
    used = [(name, value) for name, value in (("x", "1,2"), ("w", "3,5")) if name in re.findall(r"\w+", text)]
    given = [part for name, value in used for part in (f"--{name}", value)]
    found = json.loads(jvp("inspect", text, *given, "--json").out)
    torch.testing.assert_close([torch.tensor(y["value"]) for y in found["outputs"].values()], _run(text))


REQUESTS = [
    "torch.func.jacrev(lambda a, b: a * b ** 2)(x, w)",
    "torch.func.jacrev(lambda a, b: a * b ** 2, argnums=1)(x, w)",
    "torch.func.jacrev(lambda a, b: a * b ** 2, argnums=(1, 0))(x, w)",
    "torch.func.jacrev(lambda a, w: a * w ** 2, -1)(x, w)",
    "k = w * 2\ntorch.func.jacrev(lambda a: a * k)(x)",
    "def f(x):\n    return x * w\ntorch.func.jacfwd(f)(x)",
    "torch.autograd.functional.jacobian(lambda x, w: x * w ** 2, (x, w), vectorize=True)",
]


@pytest.mark.parametrize("text", REQUESTS)
def test_a_call_whose_meaning_is_kept_is_a_request(jvp, text):
    found = json.loads(jvp("inspect", text, "--x", "1,2", "--w", "3,5", "--json").out)
    blocks = [torch.tensor(block["value"]) for _, block in sorted(found["jacobian"]["y"].items(), reverse=True)]
    expected = _run(text)
    assert len(blocks) == len(expected)
    torch.testing.assert_close(blocks, expected[::-1] if "(1, 0)" in text else expected)


def test_a_closure_over_a_leaf(jvp):
    leaf = "x = torch.tensor([1., 2.], requires_grad=True)\nw = torch.tensor([3., 5.])\n"
    call = "torch.autograd.functional.vjp(lambda a: a * x, x, w)"
    done = jvp("inspect", f"{leaf}value, g = {call}\nprint(g)", "--json")
    expected = torch.autograd.functional.vjp(lambda a: a * torch.tensor([1.0, 2.0]), torch.ones(2), torch.tensor([3.0, 5.0]))[1]
    assert json.loads(done.out)["outputs"]["y1"]["value"] == expected.tolist() == [3.0, 10.0]
    told = jvp("inspect", leaf + call).err
    assert told.endswith("a value; create_graph=True changes no number of it, and gives it a graph.\n")


def test_the_gradient_of_a_value_that_retains_it(jvp):
    text = "x = torch.tensor([1., 2.], requires_grad=True)\ny = x * 2\ny.retain_grad()\n(y ** 2).sum().backward()\n"
    scope: dict = {"torch": torch}
    exec(text, scope)
    asked = {name: json.loads(jvp("inspect", f"{text}{name}.grad", "--json").out)["vjp"] for name in "xy"}
    for name in "xy":
        assert list(asked[name]) == [name]
        assert asked[name][name]["value"] == scope[name].grad.tolist()
    changed = text.replace("(y **", "y.mul_(2)\n(y **")  # y is another value by then: the gradient of the leaf is answered
    exec(changed, scope)
    found = json.loads(jvp("inspect", changed, "--json").out)
    assert found["vjp"]["x"]["value"] == scope["x"].grad.tolist()


def test_tensors_that_require_no_gradient(jvp):
    """PyTorch's error has its cause, and a command that works; by a tensor that is named, PyTorch's error is told of."""
    paste = "w = torch.ones(3, 1)\nx = torch.full((2, 3), 2.)\ni = torch.arange(2)\ns = ((x @ w)[i] ** 2).sum()\ns.backward()"
    with pytest.raises(RuntimeError) as raised:
        exec(paste, {"torch": torch})
    done = jvp("inspect", paste, "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["torch_message"]) == (6, str(raised.value))
    assert error["message"] == "there is nothing to differentiate: no tensor of the program requires a gradient"
    assert "w and x are made without requires_grad=True" in error["explanation"]
    (cure,) = error["hints"]
    assert json.loads(jvp(*shlex.split(cure)[1:], "--json").out)["vjp"]["w"]["value"] == [[48.0], [48.0], [48.0]]
    asks = "y = (x * x).sum()\ntorch.autograd.grad(y, x)"
    told = "PyTorch raises, since x is made without requires_grad=True; here x is an input.\n"
    assert told in jvp("inspect", f"x = torch.ones(2)\n{asks}").err
    assert told not in jvp("inspect", f"x = torch.ones(2)\nfor t in (x,):\n    t.requires_grad_()\n{asks}").err
