"""What people paste into threads about gradients, in our own words: as a script, a session and notebooks, against Python."""

from __future__ import annotations

import json
import re
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable

Cells = list[str]

GRADIENTS: dict[str, Cells] = {
    "a weight for each entry": [
        "import torch\nv = torch.tensor([0.5, 2., -1.])",
        "p = torch.tensor([1., 2., 3.], requires_grad=True)\nq = p * 3\nwhile q.data.norm() < 50:\n    q = q * 3\n\nprint(q)",
        "q.backward(v)\nprint(p.grad)",
    ],
    "cleared between two": [
        '"""\nWhat is differentiated first\n"""\nz = torch.arange(3.)\nz',
        "z.requires_grad_(True)\ns = 3 * torch.dot(z, z)\ns",
        "s.backward()\nz.grad",
        "# of each entry for itself\n\nz.grad.zero_()\ns = z ** 3\ns.backward(gradient=torch.ones(len(s)))\nz.grad",
    ],
    "two leaves under a tuple's names": [
        "a, b = torch.tensor([2., 5.], requires_grad=True), torch.tensor([1., 3.], requires_grad=True)",
        "r = (a ** 2 - a * b).mean()\nr.backward()\nprint('a:', a.grad, 'b:', b.grad)",
    ],
    "a helper that prints nothing, between blank lines": [
        "def energy(t, stiffness=2.):\n    '''of a spring'''\n\n    stretched = t[1:] - t[:-1]\n\n"
        "    return stiffness * (stretched ** 2).sum()",
        "t = torch.tensor([0., 1., 3., 3.5], requires_grad=True)\nenergy(t, stiffness=3.).backward()\nt.grad",
    ],
    "orders, one after the other": [
        "k = 1.5\nt = torch.tensor(k, requires_grad=True)\ny = t ** 4\nprint(f'at {k}: {y}')",
        "y.backward(retain_graph=True)\nprint(f'first {t.grad}')",
        "t.grad.zero_()\nd1 = torch.autograd.grad(y, t, create_graph=True)[0]\n"
        "d2 = torch.autograd.grad(d1, t, create_graph=True)[0]\n"
        "d2.backward(gradient=torch.tensor(1.0))\nprint(f'third {t.grad}')",
    ],
    "a residual by .grad": [
        "t = torch.linspace(0.1, 0.9, 5)\nt.requires_grad = True\nk = torch.tensor(2., requires_grad=True)",
        "u = torch.sin(k * t)\nu.backward(torch.ones_like(t), create_graph=True)\nu_t = t.grad.clone()",
        "t.grad.zero_()\nu_t.backward(torch.ones_like(t), create_graph=True)\nu_tt = t.grad.clone()",
        "t.grad.zero_()\nk.grad.zero_()\nloss = ((u_tt + u) ** 2).sum()\nloss.backward()\nprint(k.grad)",
    ],
    "a branch that is not taken": [
        "q = torch.tensor([-2., 0.25, 9.], requires_grad=True)\nr = torch.where(q > 0, q.sqrt(), q * 2).sum()\n"
        "r.backward()\nprint(r)",
        "print(q.grad)",
    ],
    "entries set one by one, beside a mask": [
        "p = torch.tensor([0., 2., 3.], requires_grad=True)\nq = torch.tensor([0., 2., 3.], requires_grad=True)",
        "out = q.clone().detach()\nfor i in range(len(q)):\n    if q[i] > 2:\n        out[i] = torch.log(q[i])\n"
        "    else:\n        out[i] = 3 * q[i]",
        "mask = p <= 2\nother = torch.ones_like(p)\nother[mask] = torch.exp(p[mask])\nother[~mask] = 0.",
        "first = out.sum()\nsecond = other.sum()\nfirst.backward()\nsecond.backward()\nprint(p.grad, q.grad)",
    ],
    "old names": [
        "from torch.autograd import Variable\nimport numpy as np",
        "m = Variable(torch.FloatTensor([[1, 2], [3, 4]]))\nx = Variable(torch.FloatTensor([[2, 1]]), requires_grad=True)",
        "torch.mm(x, m).backward(torch.FloatTensor([[0, 1]]))\nx.grad",
    ],
    "a chain whose numbers are all in a list": [
        "w = nn.Parameter(torch.tensor([0.5, -0.25]))\nh = torch.ones(2)\nstates = []",
        "for step in range(4):\n    h = torch.tanh(h * w + step)\n    states.append(h)\n\n"
        "loss = torch.stack(states).pow(2).mean()",
        "loss.backward()\nw.grad",
    ],
    "a dtype for all that is new": [
        "import torch\ntorch.set_default_dtype(torch.float64)",
        "net = nn.Linear(3, 1)\nt = torch.linspace(0, 1, 3)\nk = torch.ones(3) / 3",
        "net(t * k).pow(2).sum().backward()\nprint(net.weight.grad)",
    ],
    "a dtype by its older name, and one of Python's": [
        "torch.set_default_tensor_type('torch.DoubleTensor')\nt = torch.tensor([1, 3], dtype=float, requires_grad=True)",
        "(torch.full((2,), 0.1) * t ** 3).sum().backward()\nt.grad",
    ],
    "names without their import": [
        "t = torch.tensor(np.array([[1., 2.], [0.5, -1.]], dtype=np.float32), requires_grad=True)",
        "opt = optim.SGD([t], lr=0.1)\nloss = F.softplus(np.pi * t).sum()",
        "opt.zero_grad()\nloss.backward()\nprint(t.grad)",
    ],
    "filled before it is a leaf": [
        "h = torch.zeros(3, 4)\nfor k in range(3):\n    h[k, k] = k + 1.",
        "h[:, 3:] = torch.arange(3.)[:, None]\nh.requires_grad_(True)",
        "s = (torch.tanh(h) @ h.T).sum()\ns.backward()\ntorch.all(h.grad == h.grad)",
    ],
    "a name that meant something else before": [
        "m = torch.randn(3, 3)\nm = (m @ m.T).div_(2).add_(torch.eye(3))\nm = m.detach().clone().requires_grad_(True)",
        "n = m.detach().clone().requires_grad_(True)\np = m.inverse()\nq = torch.linalg.cholesky(n)",
        "(p.trace() + q.trace()).backward()",
        "even = n.grad.clone() / 2\neven = even.tril() + even.tril().t()\nprint(even, m.grad)",
    ],
    "a hook that only looks": [
        "a = torch.tensor([1., -2.], requires_grad=True)\n\ndef look(g):\n    print('seen', g.norm())\n",
        "b = a * 3\nb.register_hook(look)\nhandle = a.register_hook(lambda g: print(g))",
        "torch.relu(b).sum().backward()\na.grad",
    ],
    "layers by a comprehension, of sizes by name": [
        "count, width = 4, 3\nwide = width * 2\ndevice = 'cuda' if torch.cuda.is_available() else 'cpu'",
        "net = nn.Sequential(nn.Linear(width, wide), *[nn.Linear(wide, wide) for _ in range(2)], nn.Tanh()).to(device)",
        "t = torch.randn(count, width).to(device)\nnet = net.to(device)\nnet(t).pow(2).mean().backward()",
    ],
    "what is plotted": [
        "import matplotlib.pyplot as plt\nt = torch.linspace(0., 1., 4, requires_grad=True)",
        "u = torch.sin(3 * t)\nplt.plot(t.detach(), u.detach())",
        "u.sum().backward()\nplt.plot(t.detach(), t.grad.detach())\nplt.show()",
    ],
    "clocks, settings, and steps in a function that gives the gradient back": [
        "import time, warnings\nimport numpy as np",
        "warnings.filterwarnings('ignore')\ntorch.backends.cudnn.benchmark = True",
        "np.random.seed(1)\ndata = torch.from_numpy(np.random.randn(4, 2).astype(np.float32))",
        "PLACE = 'cuda' if torch.cuda.is_available() else 'cpu'",
        "net = nn.Linear(2, 1).to(PLACE)\nstart = time.time()\nidx = torch.LongTensor([k for k in range(3)])\nrows = data[idx]",
        "def step(count):\n    loss = net(rows.to(PLACE)).pow(2).sum() * count\n    loss.backward()\n    return net.weight.grad",
        "g = step(2)\nprint(g.numpy(), time.time() - start)",
    ],
    "a leaf in each turn, what follows the loop, and a try that tells": [
        "try:\n    import torch\nexcept ImportError:\n    pass\n",
        "def below(t):\n    return torch.relu(t) * 2",
        "for f in [torch.sin, below]:\n    x = torch.tensor([0.5, -1.], requires_grad=True, dtype=torch.float64)\n"
        "    f(x).sum().backward()\n    print(x.grad)\n",
        "later = torch.ones(2, requires_grad=False)\nlater * 2",
    ],
    "another weight for a module": [
        "net = nn.Linear(2, 1)\nw = torch.tensor([[1., -2.]], requires_grad=True)\nt = torch.randn(3, 2)",
        "y = torch.func.functional_call(net, {'weight': w.exp()}, (t,))\ny.pow(2).sum().backward(inputs=[w])",
        "w.grad",
    ],
    "filled before it is used": [
        "t = torch.zeros(3, 2, requires_grad=True)\nfor i in range(3):\n    with torch.no_grad():\n        t[i][1] = i + 1",
        "(t ** 3).sum().backward()\nt.grad",
    ],
    "frozen at once": [
        "t = torch.ones(2, requires_grad=True)\nw = torch.ones(2, requires_grad=True)\nw.requires_grad = False",
        "(t * w).sum().backward()\nprint(f'{t.grad} {w.grad}')",
    ],
    "all frozen but what is not": [
        "net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 1))\nnet.requires_grad_(False)",
        "net[2].requires_grad_(True)\nnet[0].bias.requires_grad = True\nnet(torch.ones(4, 3)).pow(2).sum().backward()",
    ],
    "layers known by what they are": [
        "net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))\nh = torch.ones(3, 2)",
        "for layer in net:\n    h = torch.tanh(layer(h)) if layer is net[0] else layer(h)",
        "del layer\nh.sum().backward()",
    ],
    "compared by hand": [
        "t = torch.rand(2, 3, requires_grad=True)\n(t ** 2).sum().backward()",
        "by_autograd = t.grad.detach().clone()\nby_hand = 2 * t.detach()",
        "most = (by_autograd - by_hand).abs().max().item()\nassert most < 1e-6",
    ],
    "a module's sizes, numpy's numbers and a mode behind a function": [
        "net = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))\n\ndef total(t):\n    return net(t).sum() / net[0].out_features",
        "net.eval()\nt = torch.ones(2, net[0].in_features)",
        "scale = torch.tensor(np.float64(2)) * torch.tensor(np.array([1, 2]).astype(float))[1]",
        "(total(t) * scale.float()).backward()",
    ],
    "another leaf behind a loop": [
        "w = torch.ones(3, requires_grad=True)\nfor step in range(3):\n    w.grad = None\n    (w * 2).sum().backward()",
        "v = torch.zeros(3, requires_grad=True)\noptimizer = torch.optim.SGD([v], lr=0.1)\noptimizer.step()",
    ],
    "parameters as a dictionary": [
        "net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())\nt = torch.randn(3, 2)",
        "twice = {key: 2 * value for key, value in net.named_parameters()}",
        "torch.func.functional_call(net, twice, (t,)).sum().backward()",
    ],
}
"""Cells that end with gradients in `.grad`."""

VALUES: dict[str, Cells] = {
    "an order that is asked for": [
        "from torch.autograd import grad\n\ndef nth(f, by, n=3):\n    for _ in range(n):\n"
        "        g = grad(f, by, create_graph=True)[0]\n"
        "        f = g.sum()\n\n    return g",
        "s = torch.tensor(2., requires_grad=True)\nf = s ** 3 + s ** 5",
        "nth(f, s)",
    ],
    "a product by a function of the program's own, where no leaf is made": [
        "from torch.func import grad, jvp\n\ndef product(f, at, along):\n    return jvp(grad(f), at, along)[1]",
        "f = lambda t: (t ** 3).sum()\nt = torch.randn(3)\nu = torch.randn(3)",
        "product(f, (t,), (u,))",
    ],
    "a residual by a function": [
        "def along(u, inputs):\n    for t in inputs:\n"
        "        u = torch.autograd.grad(u, t, grad_outputs=torch.ones_like(u), create_graph=True)[0]\n    return u",
        "net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))\n"
        "x = torch.linspace(0, 1, 4).reshape(-1, 1).requires_grad_()\n"
        "y = torch.linspace(1, 2, 4).reshape(-1, 1).requires_grad_()",
        "u = net(torch.cat([x, y], dim=1))\nalong(u, [x, x]) + 0.5 * along(u, [y, y])",
    ],
    "a number made of a Hessian": [
        "from torch.func import hessian, vmap\nt = torch.randn(3, 2)\nH = vmap(hessian(lambda row: row[0] ** 3 * row[1]))(t)",
        "trace = H.diagonal(dim1=-2, dim2=-1).sum(-1)\ntrace",
    ],
    "orders in a loop": [
        "t = torch.tensor(2., requires_grad=True)\ny = t ** 5\nfor order in range(3):\n"
        "    (y,) = torch.autograd.grad(y, t, create_graph=True)\n    print(order, y)",
        "y",
    ],
}
"""Cells that end with a value."""

ERRORS: dict[str, Cells] = {
    "a weight of the input's shape": [
        "x = torch.tensor([1., 2.], requires_grad=True)\ny = torch.outer(x, x)",
        "torch.autograd.grad(y, x, grad_outputs=torch.ones_like(x))",
    ],
    "numbers without their graph": [
        "a = torch.tensor(0.5, requires_grad=True)\nb = torch.tensor([a.sin(), a.cos()])",
        "b.sum().backward()",
    ],
    "a leaf in place": ["w = torch.ones(3, requires_grad=True)\nw.add_(1).sum().backward()"],
    "an exponential in place": [
        "t = torch.arange(3., requires_grad=True)\nu = (2 * t).exp()\nu[0] = 7.",
        "u.sum().backward()",
    ],
    "entries of what is needed in place": [
        "h = torch.zeros(4)\nw = torch.ones(4, requires_grad=True)\nh[0] = w[0]\nfor i in range(3):\n"
        "    h[i+1] = torch.sin(h[i]) * w[i]",
        "h.sum().backward()",
    ],
    "a gradient by a gradient": [
        "x = torch.ones(4, 2, requires_grad=True)\ny = (x ** 2).sum(1, keepdim=True)",
        "g, = torch.autograd.grad(inputs=x, outputs=y, grad_outputs=torch.ones_like(y))",
        "g2, = torch.autograd.grad(inputs=g, outputs=y, grad_outputs=torch.ones_like(y))",
    ],
    "a graph inside of vmap": [
        "w = torch.tensor([1., 2.], requires_grad=True)\n\ndef of_row(t):\n    return torch.autograd.grad((w * t).sum(), w)[0]",
        "torch.vmap(of_row)(torch.ones(3, 2))",
    ],
    "random numbers in rows": [
        "t = torch.ones(3, 2, requires_grad=True)\ntorch.vmap(lambda row: (row * torch.rand(2)).sum())(t).sum().backward()",
    ],
    "a constant first derivative": [
        "x = torch.ones(3, requires_grad=True)\ng = torch.autograd.grad((2 * x).sum(), x, create_graph=True)[0]",
        "torch.autograd.grad(g.sum(), x)[0]",
    ],
}
"""Cells that PyTorch refuses."""


def script(cells: Cells) -> str:
    return "\n\n".join(cells)


def session(cells: Cells) -> str:
    """As Python shows it, with an answer here and there."""
    lines = []
    for number, cell in enumerate(cells):
        for line in cell.split("\n"):
            blank_or_inside = not line or line[0] in " )"
            lines.append(f"{'...' if blank_or_inside else '>>>'} {line}".rstrip())
        lines.append("..." if lines[-1].startswith("...") else f"tensor({number}., grad_fn=<SumBackward0>)")
    return "\n".join(lines)


def notebook(cells: Cells) -> str:
    """As IPython shows it."""
    shown = []
    for number, cell in enumerate(cells, 1):
        first, *rest = cell.split("\n")
        dots = " " * (len(f"In [{number}]:") - len("...:")) + "...:"
        shown.append("\n".join([f"In [{number}]: {first}", *(f"{dots} {line}" for line in rest)]))
        shown.append(f"Out[{number}]: tensor([{number}.])")
    return "\n\n".join(shown)


def page(cells: Cells) -> str:
    """As the page of a notebook is copied: a cell below its prompt, and what it shows below an empty line or a mark."""
    answers = ("tensor([1., 2.], grad_fn=<MulBackward0>)", "Out[7]:\ntensor(3.)", "RuntimeError: no such thing", "True False 3")
    return "\n\n".join(f"In [{k + 1}]:\n{cell}\n\n{answers[k % len(answers)]}\n" for k, cell in enumerate(cells))


PARTS: dict[str, Cells] = {
    "a dictionary of tensors": [
        "p = {'w': torch.tensor([[1., 2.], [3., 4.]]), 'b': torch.ones(2) * 3}\nt = torch.tensor([1., -2.])",
        "def loss(p, t):\n    return ((p['w'] @ t + p['b']) ** 2).sum()",
        "torch.func.grad(loss)(p, t)",
    ],
    "what a dictionary's functions pull back": [
        "from torch.func import functional_call, vjp\nnet = nn.Linear(2, 3)",
        "p = dict(net.named_parameters())\nt = torch.ones(4, 2)",
        "out, pull = vjp(lambda p: functional_call(net, p, (t,)) ** 2, p)",
        "pull(torch.ones_like(out))[0]",
    ],
    "weights that are made of the value": [
        "t = torch.tensor([0.5, 2.])\nout, pull = torch.func.vjp(torch.exp, t)",
        "pull(torch.ones_like(out) * 3)",
    ],
}
"""Cells that end with products, in several parts."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARTS)
def test_products_in_parts(jvp, name):
    _, last = run(PARTS[name])
    parts = [*last.values()] if isinstance(last, dict) else [*last]
    found = json.loads(jvp("inspect", "-", "--json", stdin=script(PARTS[name])).out)["vjp"]
    for part, shown in zip(parts, found.values(), strict=True):
        torch.testing.assert_close(torch.tensor(shown["value"]), part.detach())


SAMPLES: dict[str, Cells] = {
    "rows of a mapped Jacobian by the last argument": [
        "from torch.func import jacrev, vmap\n\ndef layer(w, b, t):\n    return torch.tanh(w @ t + b)",
        "w = torch.randn(2, 3)\nb = torch.randn(2)\nt = torch.randn(3)\nt = torch.randn(4, 3)",
        "vmap(jacrev(layer, argnums=2), in_dims=(None, None, 0))(w, b, t)",
    ],
    "gradients of each sample by its module": [
        "from torch.func import functional_call, grad, vmap\nnet = nn.Linear(2, 1)",
        "parameters = {key: value.detach() for key, value in net.named_parameters()}\n"
        "buffers = {key: value.detach() for key, value in net.named_buffers()}",
        "t = torch.randn(4, 2)\nu = torch.randn(4, 1)",
        "def loss(parameters, buffers, t, u):\n"
        "    return F.mse_loss(functional_call(net, (parameters, buffers), (t.unsqueeze(0),)), u.unsqueeze(0))",
        "one = grad(loss)\neach = vmap(one, in_dims=(None, None, 0, 0))",
        "each(parameters, buffers, t, u)",
    ],
    "rows of a mapped Jacobian that is the same everywhere": [
        "from torch.func import jacrev, vmap\nt = torch.randn(3, 4, requires_grad=True)",
        "vmap(jacrev(lambda row: row[1:] * 2))(t)",
    ],
    "Hessians": [
        "from torch.func import hessian, vmap\nt = torch.randn(3, 2)",
        "vmap(hessian(lambda row: (row ** 3).sum() * row.prod()))(t)",
    ],
    "weights in a dictionary that each sample has of its own, and what else a function gives": [
        "from torch.func import grad, vmap\np = {'w': torch.randn(3, 2), 'b': torch.randn(3)}\nt = torch.randn(2)",
        "def f(p, t):\n    y = torch.tanh(p['w'] @ t + p['b'])\n    return y ** 2, y",
        "vmap(grad(f, has_aux=True), in_dims=(0, None))(p, t)[0]",
    ],
    "a gradient and a value": [
        "from torch.func import grad_and_value, vmap\nt = torch.randn(4)",
        "vmap(grad_and_value(torch.sin))(t)[0]",
    ],
    "by two arguments": [
        "from torch.func import jacfwd, vmap\na = torch.randn(3, 2)\nb = torch.randn(3, 4)",
        "vmap(jacfwd(lambda a, b: torch.outer(a, b).sin(), argnums=(0, 1)), chunk_size=2)(a, b)",
    ],
    "functions for derivatives without their import": [
        "def f(t, u):\n    return (t ** 2 * u).sum() + u.prod()",
        "t = torch.tensor([1., 2.])\nu = torch.tensor([0.5, 3.])\nmixed = jacfwd(grad(f, argnums=0), argnums=1)",
        "mixed(t, u)",
    ],
    "parameters of a module, by their own names": [
        "net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())\nt = torch.ones(4, 2, requires_grad=True)",
        "torch.autograd.grad(net(t).pow(2).sum(), [net[0].weight, net[0].bias])",
    ],
    "a list of parameters": [
        "net = nn.Linear(2, 1)\nparameters = [p for p in net.parameters() if p.requires_grad]",
        "y = net(torch.ones(2)).pow(2).sum()",
        "torch.autograd.grad(y, parameters)",
    ],
    "arguments in a tuple": [
        "from torch.func import grad, vmap\nw = torch.randn(2)\nt = torch.randn(3, 2)\ngiven = (w, t)",
        "vmap(grad(lambda w, t: (w @ t).sin()), in_dims=(None, 0))(*given)",
    ],
    "a dictionary that a loop moves": [
        "p = {'w': torch.ones(2), 'b': torch.zeros(())}\nt = torch.tensor([[1., 2.], [3., 4.]])",
        "def loss(p, t):\n    return ((t @ p['w'] + p['b']) ** 2).mean()",
        "for step in range(3):\n    g = torch.func.grad(loss)(p, t)\n"
        "    p = {key: value - 0.01 * g[key] for key, value in p.items()}",
        "g",
    ],
    "by what the samples share and by what they do not": [
        "from torch.func import grad, vmap\nw = torch.randn(2)\nt = torch.randn(3, 2)",
        "vmap(grad(lambda w, row: (w @ row) ** 2, argnums=(0, 1)), in_dims=(None, 0))(w, t)",
    ],
    "a name that is given anew": [
        "from torch.func import grad, vmap\nt = torch.randn(3)\ng = grad(torch.sin)\ng = vmap(g)",
        "g(t)",
    ],
    "all of the parameters of two modules": [
        "a, b = nn.Linear(2, 1), nn.Linear(2, 1)\nb.bias.requires_grad = False\ny = (a(torch.ones(2)) * b(torch.ones(2))).sum()",
        "torch.autograd.grad(y, list(a.parameters()) + [p for p in b.parameters() if p.requires_grad])",
    ],
    "a leaf made anew beside a module's parameter": [
        "net = nn.Sequential(nn.Linear(2, 1))\nt = torch.ones(2, requires_grad=True)\n(t * 2).sum().backward()",
        "t = torch.tensor([3., 4.], requires_grad=True)\ny = net(t).sum()",
        "torch.autograd.grad(y, [t, net[0].weight])",
    ],
    "several v for what gives several": [
        "from torch.func import vjp, vmap\na = torch.randn(3)\nb = torch.randn(3)\n"
        "def f(a, b):\n    return a.cumprod(0) * b, a.sum()\n",
        "y, pull, aux = vjp(f, a, b, has_aux=True)\nvmap(pull)(torch.eye(3))",
    ],
    "several v": [
        "from torch.func import vjp, vmap\nt = torch.randn(3)\ny, pull = vjp(lambda t: t.cumprod(0), t)",
        "vmap(pull)(torch.eye(3))[0]",
    ],
}
"""Cells that end with derivatives, of each sample or of all."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_derivatives_that_are_asked(jvp, name):
    _, last = run(SAMPLES[name])
    expected = [*last.values()] if isinstance(last, dict) else [last] if isinstance(last, torch.Tensor) else last
    document = json.loads(jvp("inspect", "-", "--json", stdin=script(SAMPLES[name])).out)
    (maps,), (y,) = document["jacobian"].values(), document["outputs"].values()
    for part, found in zip(expected, maps.values(), strict=True):
        whole = torch.tensor(found["value"])
        if whole.shape != part.shape:  # an axis of samples of the input, besides the output's
            own = whole.diagonal(dim1=0, dim2=len(y["shape"])).movedim(-1, 0)
            assert whole.count_nonzero() == own.count_nonzero()
            whole = own
        torch.testing.assert_close(whole, part.detach())


SAID = [
    ("w = torch.tensor([3., 4.], requires_grad=True)\n(w ** 2).sum().backward()\n"
     "torch.nn.utils.clip_grad_norm_([w], max_norm=1.0)\nprint(w.grad)", {"w": [6.0, 8.0]},
     "clip_grad_norm_ changes .grad behind the call: the result is the gradient before that"),
    ("x = torch.tensor([1., 2.], requires_grad=True)\ny = x * x; z = y * 2\ny.retain_grad(); z.retain_grad()\n"
     "z.sum().backward()\nprint(y.grad, z.grad)", {"y": [2.0, 2.0]}, "z.grad is another question, as z is made of y"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gradients", "said"), SAID)
def test_what_is_said_of_another_gradient(jvp, text, gradients, said):
    told = jvp("inspect", "-", "--json", stdin=text)
    assert {name: part["value"] for name, part in json.loads(told.out)["vjp"].items()} == gradients
    assert f"{said}." in jvp("inspect", "-", stdin=text).err.splitlines()


def test_a_flag_that_is_called(jvp):
    lines = ["x = torch.arange(4., requires_grad=True)", "x.requires_grad()", "(x * x).backward(torch.ones(4))"]
    with pytest.raises(TypeError) as caught:
        run(lines)
    error = json.loads(jvp("inspect", "-", "--json", stdin=script(lines)).out)["error"]
    assert error["torch_message"] == str(caught.value)
    for clothes in (session, notebook):  # which goes on
        assert json.loads(jvp("inspect", "-", "--json", stdin=clothes(lines)).out)["vjp"]["x"]["value"] == [0, 2, 4, 6]


def test_a_frozen_weight_is_told_as_such(jvp):
    lines = ["net = nn.Linear(2, 1)", "net.weight.requires_grad = False", "y = net(torch.ones(2)).sum()"]
    lines.append("torch.autograd.grad(y, net.weight)")
    with pytest.raises(RuntimeError) as caught:
        run(lines)
    assert json.loads(jvp("inspect", "-", "--json", stdin=script(lines)).out)["error"]["torch_message"] in str(caught.value)


@pytest.mark.parametrize("text", [
    "t = torch.ones(2, requires_grad=True)\ny = (t ** 2).sum()\nt.requires_grad = False\ny.backward()",
    "from torch.func import grad, vmap\nt = torch.ones(3, 2)\n"
    "vmap(grad(lambda row: (row * torch.randn(2)).sum()), randomness='same')(t)",
])  # fmt: skip
def test_what_would_be_another_number_is_refused(jvp, text):
    done = jvp("inspect", "-", "--json", stdin=text)
    assert done.code in (3, 5, 6), done.out


@pytest.mark.parametrize("value", ["row.sum() if row.sum() > 4 else row.prod()", "row * row[0].item()", "row * float(row.sum())"])
def test_a_value_of_each_row_is_none_in_pytorch(jvp, value):
    text = f"t = torch.ones(2, 3, requires_grad=True)\ntorch.vmap(lambda row: {value})(t).sum().backward()"
    with pytest.raises(RuntimeError) as caught:
        exec(text, {"torch": torch})
    assert str(caught.value).startswith(json.loads(jvp("inspect", "-", "--json", stdin=text).out)["error"]["torch_message"])


@pytest.mark.parametrize("word", ["grad_9", "grad_x", "another"])
def test_a_kind_of_call_that_there_is_not(jvp, word):
    done = jvp("inspect", "x ** 2", "--x", "1,2", "-g", f"implicit:{word}", "--json")
    assert done.code == 2
    assert word in json.loads(done.out)["error"]["message"]


def test_a_function_that_gives_a_dictionary_has_no_gradient(jvp):
    text = "from torch.func import grad\np = {'w': torch.ones(2), 'b': torch.ones(2)}\n"
    text += "grad(grad(lambda p: (p['w'] * p['b']).sum() ** 2))(p)"
    with pytest.raises(RuntimeError) as caught:
        run(text.split("\n"))
    assert json.loads(jvp("inspect", "-", "--json", stdin=text).out)["refusal"]["message"] == f"RuntimeError: {caught.value}"


def test_what_a_printed_text_is_made_of(jvp):
    text = "t = torch.tensor([1., 2.], requires_grad=True)\ndef slope(t):\n    y = (t ** 3).sum()\n"
    text += "    return torch.autograd.grad(y, t)[0]\n"
    for shown in ("f'slope: {slope(t)}'", "'slope: {}'.format(slope(t))", "'slope: %s' % slope(t)", "'slope:', slope(t)"):
        assert json.loads(jvp("inspect", "-", "--json", stdin=f"{text}print({shown})").out)["vjp"]["t"]["value"] == [3, 12]
    text += "for k in range(2):\n    print(f'{k}: {torch.autograd.grad((t ** 3).sum(), t)[0]}')"
    assert json.loads(jvp("inspect", "-", "--json", stdin=text).out)["vjp"]["t"]["value"] == [3, 12]


@pytest.mark.parametrize("dims", ["in_dims=(0, None), out_dims=1", "(0, None), -1"])
def test_samples_in_another_axis_of_the_derivative(jvp, dims):
    lines = ["t = torch.tensor([[1., 2., 3.], [4., 5., 6.]])"]
    lines.append(f"torch.vmap(torch.func.grad(lambda row, k: (row ** k).sum()), {dims})(t, 2.)")
    _, last = run(lines)
    document = json.loads(jvp("inspect", "-", "--json", stdin=script(lines)).out)
    assert document["outputs"]["y"]["shape"] == [2]
    torch.testing.assert_close(torch.tensor(document["vjp"]["t"]["value"]), last.T)


CLOTHES = (script, session, notebook, page)


def run(cells: Cells) -> tuple[dict[str, Any], Any]:
    """The names that Python leaves, and what the last line gives."""
    torch.manual_seed(0)
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "np": np, "Variable": Variable, "print": lambda *_: None}
    scope |= {"optim": torch.optim, "plt": Mock(), "grad": torch.func.grad, "jacfwd": torch.func.jacfwd}
    text, _, last = script(cells).replace("import matplotlib.pyplot as plt", "").rpartition("\n")
    try:
        with torch.backends.__allow_nonbracketed_mutation():  # which torch's own tests, where loaded, have turned off
            exec(text, scope)
            return scope, eval(last, scope)
    except SyntaxError:
        exec(last, scope)
        return scope, None
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("name", GRADIENTS)
def test_what_is_in_grad(jvp, name, clothes):
    scope, _ = run(GRADIENTS[name])
    leaves = {key: value for key, value in scope.items() if isinstance(value, torch.Tensor) and value.is_leaf}
    for key, module in scope.items():
        leaves |= {f"{key}.{name}": x for name, x in module.named_parameters()} if isinstance(module, nn.Module) else {}
    expected = {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    done = jvp("inspect", "-", "--json", stdin=clothes(GRADIENTS[name]))
    assert done.code == 0, done.out
    values = json.loads(done.out)["vjp"]
    found = {key: torch.tensor(_numbers(x["value"]), dtype=getattr(torch, x["dtype"])) for key, x in values.items()}
    torch.testing.assert_close(found, {key: value.detach() for key, value in expected.items()}, equal_nan=True)


def _numbers(value: Any) -> Any:
    """A document's numbers, of which those that are not finite are words."""
    return [_numbers(each) for each in value] if isinstance(value, list) else float(value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("name", VALUES)
def test_what_the_last_cell_gives(jvp, name, clothes):
    _, expected = run(VALUES[name])
    done = jvp("inspect", "-", "--json", stdin=clothes(VALUES[name]))
    assert done.code == 0, done.out
    (found,) = json.loads(done.out)["outputs"].values()
    torch.testing.assert_close(torch.tensor(found["value"]), expected.detach())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("name", ERRORS)
def test_what_pytorch_raises_is_the_answer(jvp, name, clothes):
    with pytest.raises(RuntimeError) as caught:
        run(ERRORS[name])
    error = json.loads(jvp("inspect", "-", "--json", stdin=clothes(ERRORS[name])).out)["error"]
    assert error["torch_message"] == str(caught.value)


CLASSES = [
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 1)\n\n"
    "    def forward(self, t):\n        return self.l(t)",
    "class Square(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n        return t ** 2",
]


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("written", CLASSES)
def test_a_class_that_nothing_uses_is_left_out(jvp, written, clothes):
    cells = ["x = torch.ones(2, requires_grad=True)", written, "y = (x ** 2).sum()\ny.backward()"]
    scope, _ = run(cells)
    found = json.loads(jvp("inspect", "-", "--json", stdin=clothes(cells)).out)["vjp"]["x"]["value"]
    torch.testing.assert_close(torch.tensor(found), scope["x"].grad)


@pytest.mark.parametrize("clothes", CLOTHES)
def test_a_class_that_cannot_be_read_is_named_itself(jvp, clothes):
    cells = ["x = torch.ones(2, requires_grad=True)", CLASSES[1], "y = Square.apply(x).sum()\ny.backward()"]
    error = json.loads(jvp("inspect", "-", "--json", stdin=clothes(cells)).out)["error"]
    told = r"PyTorch raises in the call on line \d+: the autograd\.Function has no backward or vjp"  # as PyTorch has it
    assert re.fullmatch(told, error["message"])


@pytest.mark.parametrize("clothes", CLOTHES)
def test_a_tuple_that_is_printed_too(jvp, clothes):
    cells = [
        "def both(s, t):\n    return 2 * s.exp() + 3 * t ** 3",
        "pair = (torch.rand(1), torch.rand(1))\nprint(pair)",
        "torch.autograd.functional.jacobian(both, pair)",
    ]
    _, expected = run(cells)
    done = jvp("inspect", "-", "--json", stdin=clothes(cells))
    found = [torch.tensor(x["value"]).reshape(1, 1) for x in json.loads(done.out)["jacobian"]["y"].values()]
    torch.testing.assert_close(tuple(found), expected)
    assert not json.loads(done.out).get("notes", [])


def test_what_is_passed_over_is_named(jvp):
    text = "def look(g):\n    print(g)\n\nx = torch.ones(2, requires_grad=True)\nplt.plot(x)\n(x * x).sum().backward()"
    document = json.loads(jvp("inspect", "-", "--json", stdin=text).out)
    assert sorted((each["what"], each["line"]) for each in document["passed_over"]) == [("plot", 5), ("print", 2)]


def test_whole_numbers_have_no_gradient_as_in_pytorch(jvp):
    text = "t = torch.tensor([2, 3], requires_grad=True)\ntorch.autograd.grad((t ** 2).sum(), t)"
    with pytest.raises(RuntimeError) as caught:
        exec(text, {"torch": torch})
    error = json.loads(jvp("inspect", "-", "--json", stdin=text).out)["error"]
    assert error["torch_message"] == str(caught.value)


ON_GPU = """
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh()).cuda()
net = net.cuda()
w = torch.randn(3, 2).cuda()
w.requires_grad = True
t = torch.cuda.FloatTensor([[1., -2.]])
loss = (net(t.to("cuda:0")) @ w).pow(2).sum() + torch.ones(2, device="cuda") @ w[0]
loss.backward()
print(w.grad)
"""


def test_what_is_moved_to_a_gpu_stays_where_it_is(jvp):
    here = ON_GPU.replace("net.cuda()", "net").replace(".cuda()", "").replace("torch.cuda.", "torch.")
    scope, _ = run([here.replace('.to("cuda:0")', "").replace(', device="cuda"', "").strip()])
    document = json.loads(jvp("inspect", "-", "--json", stdin=ON_GPU).out)
    torch.testing.assert_close(torch.tensor(document["vjp"]["w"]["value"]), scope["w"].grad)
    assert [warning["code"] for warning in document["warnings"]] == ["as_python"]


def test_elsewhere_a_gpu_is_not_reached(jvp):
    for text in ("x.cuda()", "torch.cuda.FloatTensor([1.]) * x"):
        assert json.loads(jvp("inspect", text, "--x", "1,2", "--json").out)["error"]["code"] == "forbidden"


ENDED = {
    "a complex output": "z = torch.ones(1, requires_grad=True, dtype=torch.complex128)\n(z * 1j).backward()\n"
    "z = torch.ones(2, requires_grad=True)\n(z ** 2).sum().backward()",
    "a graph that is freed, of another leaf":
    "x = torch.ones(3, requires_grad=True)\ny = x.exp().sum()\ny.backward()\ny.backward()\n"
    "x = torch.ones(3, requires_grad=True)\n(x ** 2).sum().backward()",
    "a graph that is freed before the last adds up":
    "x = torch.ones(3, requires_grad=True)\nw = torch.ones(2, requires_grad=True)\n"
    "y = x.exp().sum()\ny.backward()\ny.backward()\nw.sum().backward()",
    "one of two that has no graph":
    "x = torch.ones(3)\nw = torch.ones(2, requires_grad=True)\n(x * 2).sum().backward()\nw.exp().sum().backward()",
    "an output without a graph":
    "x = torch.ones(3)\nw = torch.ones(2, requires_grad=True)\ntorch.autograd.grad((w.sum(), x.sum()), w)",
    "all frozen": "net = nn.Linear(1, 1)\nfor p in net.parameters():\n    p.requires_grad = False\nnet(torch.ones(1)).backward()",
}
"""Programs that end in a derivative call, the first in which PyTorch raises."""


@pytest.mark.parametrize("text", ENDED.values(), ids=ENDED)
def test_a_call_that_raises_ends_a_program(jvp, text):
    with pytest.raises(RuntimeError) as caught:
        run(text.split("\n\n"))
    document = json.loads(jvp("inspect", "-", "--json", stdin=text).out)
    told = document["error"]["torch_message"] if "error" in document else document["refusal"]["message"]
    assert told.removeprefix("RuntimeError: ") == str(caught.value)


def test_what_comes_behind_a_call_that_raises(jvp):
    session_ = "\n".join(f">>> {line}" for line in ENDED["a complex output"].split("\n"))  # which goes on
    assert json.loads(jvp("inspect", "-", "--json", stdin=session_).out)["vjp"]["z"]["value"] == [2, 2]


def test_an_earlier_call_by_a_leaf_that_the_last_leaves_out(jvp):
    text = "x = torch.ones(2, requires_grad=True)\nw = torch.tensor([1., 2.], requires_grad=True)\n"
    text += "(x ** 2).sum().backward()\ntorch.autograd.grad((w ** 3).sum(), w)"
    assert json.loads(jvp("inspect", "-", "--json", stdin=text).out)["vjp"]["w"]["value"] == [3, 12]


WRITTEN_OTHERWISE = {
    "leaves in a list, of memory that is filled at once": "torch.random.manual_seed(3)\n"
    "ws = [torch.Tensor(3, 2).uniform_(-1., 1.).requires_grad_(), torch.empty(2).zero_().requires_grad_()]\n"
    "def f(ws, t):\n    return torch.tanh(t @ ws[0] + ws[1])\nt = torch.ones(4, 3)\n"
    "inner = torch.autograd.grad(f(ws, t).sum(), ws, create_graph=True)\n"
    "ws2 = [w - 0.1 * g for w, g in zip(ws, inner)]\nf(ws2, t).pow(2).sum().backward()\nfound = [w.grad for w in ws]",
    "those that require a gradient, and a flag":
    "TWICE = True\nsizes = (2, 3)\nnet = nn.Sequential(nn.Linear(*sizes), nn.Linear(3, 1))\n"
    "for p in net[0].parameters():\n    p.requires_grad = False\nt = torch.ones(5, 2)\n"
    "own = [p for p in net.parameters() if p.requires_grad]\nfor k in range(1):\n    loss = net(t).pow(2).sum()\n"
    "    if TWICE:\n        loss = loss * 2\n    loss.backward()\nfound = [p.grad for p in own]",
    "a class's network on a GPU that is not there": "use_cuda = torch.cuda.is_available()\n"
    "Tensor = torch.cuda.FloatTensor if use_cuda else torch.FloatTensor\nclass Net(nn.Module):\n    def __init__(self):\n"
    "        super().__init__()\n        self.lin = nn.Linear(2, 1)\n    def forward(self, t):\n        return self.lin(t)\n"
    "net = Net()\nif use_cuda:\n    net.cuda()\nfake = Tensor(4, 1).fill_(1.5)\nt = torch.rand(4, 2)\n"
    "(net(t) * fake).pow(2).sum().backward()\nfound = [p.grad for p in net.parameters()]",
    "distributions": "import torch.distributions as D\nfrom torch.distributions import Categorical\n"
    "logits = torch.randn(4, 3, requires_grad=True)\nmu = torch.zeros(2, requires_grad=True)\ndef step(logits):\n"
    "    m = Categorical(logits=logits)\n    a = m.sample()\n    return m.log_prob(a), m.entropy(), m.probs\n"
    "lp, ent, p = step(logits)\nq = D.Normal(mu, torch.tensor([1., 2.]))\nz = q.rsample((3,))\ns = q.sample()\n"
    "b = D.Bernoulli(probs=torch.sigmoid(mu + 0.3))\nk = Categorical(torch.softmax(logits, -1) * 2)\n"
    "total = lp.sum() - ent.sum() + p.max() + (z ** 3).sum() + q.log_prob(s).sum() + q.mean.sum() - q.entropy().sum()\n"
    "total = total + b.log_prob(b.sample()).sum() + b.entropy().sum() + k.log_prob(torch.tensor(1)).sum()\n"
    "total.backward()\nfound = [logits.grad, mu.grad]",
    "gradients under gradients of one name, cleared between": "m = torch.tensor([[2., 3.]], requires_grad=True)\n"
    "(m ** 2).sum().backward()\nm = torch.tensor([[1., 5.]], requires_grad=True)\nk = torch.zeros(1, 2)\n"
    "k[0, 0] = m[0, 0] ** 2 + 3 * m[0, 1]\nk.backward(torch.FloatTensor([[1, 0]]), retain_graph=True)\nm.grad.zero_()\n"
    "k[0, 1] = m[0, 1] ** 3\nk.backward(torch.FloatTensor([[0, 1]]))\nfound = [m.grad]",
    "several gradients cleared at once": "a = torch.ones(2, requires_grad=True)\nb = torch.full((2,), 3.)\n"
    "b.requires_grad = True\n"
    "torch.Tensor.clamp(a * 2, b - 4, b).sum().backward()\na.grad, b.grad = None, None\n(a * b).sum().backward()\n"
    "found = [a.grad, b.grad]",
    "a leaf under one name, and a step between": "u = torch.tensor([2., 3.])\nu = Variable(u, requires_grad=True)\n"
    "lin = nn.Linear(2, 3)\nopt = torch.optim.Adam(lin.parameters(), lr=0.1)\nlin(u).sum().backward()\nopt.step()\n"
    "opt.zero_grad()\nu.grad = None\nlin(u).pow(2).sum().backward()\nfound = [u.grad, *[p.grad for p in lin.parameters()]]",
    "a leaf that becomes one amid a value": "x = torch.tensor([2., 3.])\ny = x.requires_grad_() * 3\n"
    "(y * x).sum().backward()\nfound = [x.grad]",
    "a leaf under several names": "x = torch.tensor([2., 3.])\ny = x\nz = [x, x * 2]\ny.requires_grad_()\n"
    "w = y.requires_grad_()\n(x * y * z[0] * z[1] * w).sum().backward()\nfound = [x.grad]",
    "what may be one leaf under two names": "def same(t):\n    return t\nx = torch.tensor([2., 3.])\n"
    "y, z = same(x), x.to(torch.float32)\nx.requires_grad_()\n(x * y * z).sum().backward()\nfound = [x.grad]",
    "what has a graph stays as it is": "x = torch.tensor([2., 3.], requires_grad=True)\ny = x * 2\ny.requires_grad_()\n"
    "(y * x).sum().backward()\nfound = [x.grad]",
    "the numbers of a tensor without its graph": "from torch.nn import Parameter\n"
    "x = torch.tensor([2., 3.], requires_grad=True)\ny = x ** 2\n"
    "(Variable(y) * y + Parameter(x, requires_grad=False) * x).sum().backward()\nfound = [x.grad]",
    "a result filled item by item, and map": "def f(x):\n    y = torch.empty(2, 1)\n    y[0, 0] = torch.sin(x[0]) * x[1]\n"
    "    y[1, 0] = x[1] ** 2\n    return y\nx = torch.tensor([1., 2.], requires_grad=True)\n"
    "parts = list(map(lambda g, y: g * y, [1., 2.], f(x)))\nsum(map(torch.sum, parts)).backward()\nfound = [x.grad]",
    "two names at once, one read by its own": "t = torch.ones(2)\ny = torch.tensor(3.)\n"
    "t, y = Variable(t * 2, requires_grad=True), Variable(y)\n(t ** 2 * y).sum().backward()\nfound = [t.grad]",
}
"""Scripts that say what the language has in other words; `found` are the gradients that Python finds."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE)
def test_what_is_written_otherwise(jvp, text):
    scope, _ = run([text])
    *lines, _ = text.split("\n")
    done = jvp("inspect", "-", "--json", stdin="\n".join(lines))
    found = [torch.tensor(x["value"]) for x in json.loads(done.out)["vjp"].values()]
    torch.testing.assert_close(*(sorted(each, key=lambda x: (x.ndim, x.tolist())) for each in (found, scope["found"])))


def test_what_is_changed_through_data_is_not_differentiated(jvp):
    text = "a = torch.tensor([1., 2.], requires_grad=True)\nout = a.sigmoid()\nc = out.data\nc.zero_()\nout.sum().backward()"
    scope, _ = run([text])
    assert scope["a"].grad.tolist() == [0, 0]  # and nothing is said of it
    error = json.loads(jvp("inspect", "-", "--json", stdin=text).out)["error"]
    assert (error["message"], error["torch_message"]) == ("`c` is changed in place where autograd does not see it.", None)


def test_a_page_whose_cells_stand_below_their_number(jvp):
    text = "Autograd\n\n[3]:\na = torch.tensor([2., 3.], requires_grad=True)\n\n[4]:\ny = a ** 3\ny\n[4]:\ntensor([8., 27.])\n\n"
    text += "[5]:\ny.backward(gradient=torch.tensor([1., 1.]))\n[6]:\na.grad == 3 * a ** 2\n[6]:\ntensor([True, True])"
    assert json.loads(jvp("inspect", "-", "--json", stdin=text).out)["vjp"]["a"]["value"] == [12, 27]


DRAWN = """
net = nn.Linear(2, 1)
def mixed(a, b):
    return torch.Tensor(np.random.random((a.size(0), 1))) * a + b
t = torch.randn(3, 2)
x = mixed(t, torch.rand(3, 2)).requires_grad_(True)
y = net(x).pow(2)
g = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)[0]
loss = (g.norm(2, dim=1) - 1).pow(2).mean()
loss.backward()
"""


def test_what_is_drawn_is_the_same_in_each_command(jvp):
    first, again, traced = (json.loads(jvp(name, "-", "--json", stdin=DRAWN).out) for name in ("inspect", "inspect", "trace"))
    assert first["vjp"] == again["vjp"] == traced["vjp"]
    scope, _ = run([f"np.random.seed(0){DRAWN.rstrip()}"])
    torch.testing.assert_close(torch.tensor(first["outputs"]["loss"]["value"]), scope["loss"].detach())
    assert json.loads(jvp("check", "-", "--json", stdin=DRAWN).out)["verdict"] == "pass"
    value = json.loads(jvp("inspect", "x", "--x", "torch.tensor(np.random.rand(2))", "--json").out)["inputs"]["x"]["value"]
    assert value == pytest.approx(np.random.RandomState(0).rand(2).tolist(), rel=1e-6)
