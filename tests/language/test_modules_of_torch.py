"""Modules of torch.nn that a program constructs give what they give in Python, and nothing else can be constructed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import jvpcli
from jvpcli.answers.question import pose
from jvpcli.cli.answers import request_of
from jvpcli.cli.compute import report_of
from jvpcli.errors import JvpError
from jvpcli.language.modules import CLASSES, construct
from jvpcli.request import Request

NETS = {
    "net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)); net(x)": (2, 3),
    "import torch.nn as n\nk = 5\nnet = n.Sequential(n.Linear(3, k), n.LayerNorm(k), n.ReLU())\nnet(x) ** 2": (2, 3),
    "from torch.nn import Linear, GELU\na = Linear(3, 2)\nGELU()(a(x))": (3,),
    "net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.MaxPool2d(2)); net(x)": (2, 1, 4, 4),
    "net = nn.Sequential(nn.Conv1d(2, 4, kernel_size=3), nn.GroupNorm(2, 4), nn.Flatten()).eval(); net(x)": (1, 2, 6),
    "cell = nn.GRUCell(3, 2); h = cell(x); cell(x, h)": (2, 3),
    "rnn = nn.LSTM(3, 2, num_layers=2); out, (h, c) = rnn(x); out.sum() + c.sum()": (4, 1, 3),
    "attend = nn.MultiheadAttention(4, 2); attend(x, x, x)[0]": (3, 1, 4),
    "block = nn.TransformerEncoderLayer(4, 2, 8, 0.0)\nblock.eval()\nblock(x)": (3, 1, 4),
    "table = nn.Embedding(5, 3); (table(torch.tensor([0, 3])) @ x).sum()": (3,),
    "nn.CrossEntropyLoss()(x, torch.tensor([1, 0])) + nn.MSELoss(reduction='sum')(x, x * 0)": (2, 3),
    "net = nn.Linear(3, 3)\nfor k in range(3):\n    x = torch.tanh(net(x))\nx": (3,),
    "net = nn.Linear(2 * 2, 4 // 2)\ndef f(t):\n    return net(t).sum()\nf(x) + f(x * 2)": (4,),
    "a = nn.Linear(2, 2); b = nn.Linear(2, 2)\ndef f(a, b, t):\n    return a(torch.tanh(b(t)))\nf(b, a, x)": (3, 2),
    "net = nn.Linear(2, 2)\ndef f(net):\n    return net * 2\nf(net(x)) + sum([net * 3 for net in [x, x]])": (3, 2),
    "def Tanh(t):\n    return t * 2\nnn.Tanh()(Tanh(x))": (3, 2),
    "net = nn.BatchNorm1d(2).eval(); net(x) ** 2": (3, 2),
    "net = nn.BatchNorm1d(2).train(False).train(); net(x) ** 2": (3, 2),
    "net = nn.BatchNorm1d(2).eval(); net.train(); net(x) ** 2": (3, 2),
    "net = nn.BatchNorm1d(2); net.train(False); net(x) ** 2": (3, 2),
    "net = nn.BatchNorm1d(2); net.train(mode=False); net(x) ** 2": (3, 2),
    "net = nn.BatchNorm1d(2)\nfor k in range(2):\n    net.train()\n    x = net(x) * x\nx": (3, 2),
    "net = nn.Linear(2, 2)\nfor k in range(2):\n    x = nn.Tanh()(net(x))\nx": (3, 2),
    "net = nn.Linear(2, 1); 1 * torch.func.grad(lambda t: net(t).sum() ** 2)(x)": (2,),
}


def by_python(source: str, x: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, nn.Module]]:
    """What Python gives for the text, and the modules that it makes."""
    torch.manual_seed(seed)
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "x": x}
    lines = source.replace("; ", "\n").split("\n")
    exec("\n".join(lines[:-1]), scope)
    return eval(lines[-1], scope), {name: value for name, value in scope.items() if isinstance(value, nn.Module)}


@pytest.mark.parametrize("source", NETS)
def test_gradients_by_inputs_and_parameters_are_pytorchs(source: str) -> None:
    x = torch.linspace(-1, 1, torch.Size(NETS[source]).numel()).reshape(NETS[source])
    made = construct(source, 5)
    assert made is not None
    parameters = list(made.parameters)
    result = jvpcli.inspect(source, x=x, wrt=["x", *parameters], seed=5)
    leaf = x.clone().requires_grad_()
    expected, modules = by_python(source, leaf, 5)
    theirs = {f"{name}.{path}": p for name, module in modules.items() for path, p in module.named_parameters()}
    wanted = [leaf, *(theirs[name] for name in parameters)]
    gradients = torch.autograd.grad(expected.sum(), wanted, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close([result.vjp[name] for name in ("x", *parameters)], list(gradients))


def test_random_numbers_and_names_are_given_in_the_order_of_the_text() -> None:
    """Modules without a name of their own too, and where a name is that of a class."""
    source = "y = nn.Linear(2, 3)(x); Linear = nn.Linear(3, 2); Linear(y)"
    x = torch.tensor([[1.0, 2.0]])
    leaf = x.clone().requires_grad_()
    expected, modules = by_python(source, leaf, 5)
    wanted = torch.autograd.grad(expected.sum(), [leaf, *modules["Linear"].parameters()])
    found = jvpcli.inspect(source, x=x, wrt=["x", "Linear.weight", "Linear.bias"], seed=5).vjp
    torch.testing.assert_close(list(found.values()), list(wanted))


def test_a_module_is_the_same_in_each_evaluation() -> None:
    """Running statistics are not carried from one to the next."""
    source = "net = nn.BatchNorm1d(2); net(x) * x"
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert jvpcli.check(source, x=x).passed
    assert torch.equal(jvpcli.inspect(source, x=x).vjp["x"], jvpcli.inspect(source, x=x).vjp["x"])


@pytest.mark.parametrize(
    ("wrt", "names"),
    [
        ("net", ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]),
        ("net.*", ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]),
        ("net.parameters()", ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]),
        ("net.1.*", ["net.1.weight", "net.1.bias"]),
        ("x,net.0.bias", ["x", "net.0.bias"]),
    ],
)
def test_names_of_parameters(wrt: str, names: list[str]) -> None:
    problem = pose(Request("net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)); net(x)", {"x": "1,2"}, tuple(wrt.split(","))))
    assert list(problem.wrt) == names


def test_an_unknown_parameter_lists_those_that_there_are() -> None:
    with pytest.raises(JvpError, match=r"the inputs are x; the parameters are net.weight, net.bias"):
        pose(Request("net = nn.Linear(2, 1); net(x)", {"x": "1,2"}, ("net.wight",)))


PASTE = """
import torch
import torch.nn as nn

torch.manual_seed(7)
net = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1))
data = torch.tensor([[1., 2.], [3., 4.]])
criterion = nn.MSELoss()
net.zero_grad()
loss = criterion(net(data), torch.zeros(2, 1))
LAST
"""


@pytest.mark.parametrize("last", ["loss.backward()", "gs = torch.autograd.grad(loss, list(net.parameters()))"])
def test_a_pasted_script(last: str) -> None:
    paste = PASTE.replace("LAST", last)
    scope: dict[str, Any] = {}
    exec(paste.replace(last, "loss.backward()"), scope)
    expected = {f"net.{name}": p.grad for name, p in scope["net"].named_parameters()}
    report = report_of(request_of({"expression": paste}))
    found = {name: torch.as_tensor(value.value) for name, value in report.vjp.items()}
    torch.testing.assert_close(found, expected)


REFUSED = [
    "nn.Module()(x)", "nn.ModuleList([nn.Linear(1, 1)])(x)", "nn.Linear(10**9, 10**9)(x)", "nn.Linear(2**31, 2)(x)",
    "nn.MaxPool2d(3, dilation=2**30)(x)", "nn.Linear(2, 1, device='cuda')(x)", "nn.Linear(2, 1, device='meta')(x)",
    "nn.Linear(2, 1, dtype=torch.float16)(x)", "nn.Linear(2, open('a'))(x)", "nn.Linear(*[2, open])(x)", "nn.Linear(**x)(x)",
    "nn.Linear(2, 1).__class__", "net = nn.Linear(2, 1); net.weight.data.storage()",
    "net = nn.Linear(2, 1); net.register_forward_hook(x)",
    "net = nn.Linear(2, 1); net.load_state_dict(x)", "net = nn.Linear(2, 1); net.apply(abs)",
    "net = nn.Linear(2, 1); net.__dict__",
    "net = nn.Linear(2, 1); net.forward.__globals__", "nn.TransformerEncoder(nn.Linear(1, 1), 2)(x)",
    "nn.Linear(2, 1)(x, hook=x)",
    "nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))(x)", "nn.Conv2d(1, 1, 3, padding_mode='circular')(x)",
    "nn.EmbeddingBag(2, 2)(torch.tensor([5]))", "nn.CTCLoss()(x, x, x, x)", "nn.MaxUnpool2d(2)(x, x)", "nn.Linear('2', 1)(x)",
    "nn.AvgPool2d(2)(torch.ones(1, 2, 2).long())", "nn.Linear(lambda: 2, 1)(x)", "nn.Sequential(lambda t: t)(x)",
    "nn.GELU(approximate=torch.sin)(x)", "nn.TransformerEncoderLayer(2, 1, activation=abs)(x)", "nn.functional.torch.os",
    "from torch.nn import Module\nModule()(x)", "import torch.nn.utils as nn\nnn.Linear(2, 1)(x)", "nn.Linear(2, 1)(3)",
    "nn.Linear(-5, 2)(x)", "nn.Linear(2, 1)([[1.0, 2.0]])", "nn.Embedding(3, 2)(torch.tensor([9]))", "nn.PReLU(2**29)(x)",
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_nothing_else_can_be_constructed_or_reached(source: str) -> None:
    with pytest.raises(JvpError) as caught:
        pose(Request(source, {"x": "1,2"}))
    assert caught.value.code != "internal"
    assert json.dumps(caught.value.to_dict())


BOUND_TWICE = {
    "net = nn.Linear(2, 2); y = net(x); net = nn.Linear(2, 2); net(y)": 35,
    "net = nn.Linear(2, 2); net = net(x); net": 23,
    "net = x * 2; y = net; net = nn.Linear(2, 2); net(y)": 22,
    "net = nn.Linear(2, 2)\nfor net in [x, x]:\n    y = net * 2\ny": 26,
    "net = nn.Linear(2, 2)\ndef net(t):\n    return t * 2\nnet(x)": 22,
}


@pytest.mark.parametrize("source", BOUND_TWICE)
def test_the_name_of_a_module_means_nothing_else(source: str) -> None:
    with pytest.raises(JvpError) as caught:
        pose(Request(source, {"x": "1,2"}))
    assert (caught.value.code, caught.value.message) == (
        "forbidden",
        "`net` is a module, and is bound a second time here: give one of the two another name.",
    )
    assert caught.value.span is not None
    assert caught.value.span[0] == BOUND_TWICE[source]


CHANGING = {
    "net.eval()": ["y = net(x); net.eval(); net(y)", "if x.sum() > 0:\n    net.eval()\nnet(x)", "m = net.eval(); net(x)",
                   "def f(t):\n    net.eval()\n    return net(t)\nf(x)", "net.eval()(x)",
                   "[net.eval() for k in range(1)]; net(x)"],
    "net.train(False)": ["y = net(x); net.train(False); net(y)", "for k in range(2):\n    x = net(x)\n    net.train(False)\nx"],
}  # fmt: skip


def test_the_mode_of_a_parameter_is_not_that_of_a_module_of_its_name() -> None:
    source = "a = nn.BatchNorm1d(2); b = nn.BatchNorm1d(2).eval()\ndef f(a):\n    a.train()\n    return a(x)\nf(b)"
    with pytest.raises(JvpError, match="`a` has one mode throughout a program here"):
        pose(Request(source, {"x": "1,2;3,5"}))


@pytest.mark.parametrize(("call", "rest"), [(call, rest) for call, texts in CHANGING.items() for rest in texts])
def test_a_mode_that_changes_after_a_use_is_refused(call: str, rest: str) -> None:
    source = f"net = nn.BatchNorm1d(2)\n{rest}"
    with pytest.raises(JvpError, match="`net` has one mode throughout a program here") as caught:
        pose(Request(source, {"x": "1,2;3,5"}))
    assert caught.value.span is not None
    assert (caught.value.code, source[slice(*caught.value.span)]) == ("forbidden", call)


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("for k in range(2):\n    x = nn.Linear(2, 2)(x)\nx", "forbidden", "A module with parameters is constructed once"),
        ("def f(t):\n    n = nn.Linear(2, 2)\n    return t\nf(x)", "forbidden", "A module with parameters is constructed once"),
        ("(nn.Linear(2, 2) if x.sum() > 0 else nn.Linear(2, 2))(x)", "forbidden", "A module with parameters is constructed once"),
        ("def f(t):\n    net = nn.Tanh()\n    return net(t)\nf(x)", "forbidden", "A module gets one name"),
        ("net = nn.Linear(2, 2).double(); net(x)", "forbidden", "A module that is constructed gets a name here"),
        ("def f(m, t):\n    return m(t)\nf(nn.Tanh(), x)", "forbidden", "A module that is constructed gets a name here"),
        ("a = b = nn.Linear(2, 2); a(b(x))", "forbidden", "A module gets one name"),
        ("[a, b] = [nn.Linear(2, 2), nn.Tanh()]; b(a(x))", "forbidden", "A module gets one name"),
        ("net = nn.BatchNorm1d(2).train(1); net(x)", "forbidden", "A mode is set by"),
        ("net = nn.BatchNorm1d(2); net.train(x.sum() > 0); net(x)", "forbidden", "A mode is set by"),
        ("k = torch.ones(2); nn.Linear(2, k)(x)", "forbidden", "A constructor takes plain numbers"),
        ("def f(t, k):\n    return nn.Softmax(k)(t)\nk = 0\nf(x, 0)", "forbidden", "A constructor takes plain numbers"),
        ("nn.Linear(-5, 2)(x)", "evaluation", "No constructor takes integers below -1 here, and -5 is given."),
        ("nn.Linear(-1, 2)(x)", "evaluation", "Trying to create tensor with negative dimension -1"),
        ("nn.TransformerEncoderLayer(2, 1, activation='none')(x)", "evaluation", "activation should be relu/gelu, not none"),
        ("nn.Linear(2**31, 2)(x)", "limit", "larger than what is taken"),
        ("nn.Linear(2147483648, 2)(x)", "limit", "larger than what is taken"),
    ],
)
def test_why_a_construction_is_refused(source: str, code: str, message: str) -> None:
    with pytest.raises(JvpError) as caught:
        pose(Request(source, {"x": "1,2"}))
    assert caught.value.code == code
    assert message in caught.value.message


def test_construction_keeps_to_the_limit_of_memory() -> None:
    source = "a = nn.Linear(500, 500); b = nn.Linear(500, 500); b(a(x))"
    assert jvpcli.inspect(source, x=torch.ones(500), wrt="x", memory_limit="50MB").vjp["x"].shape == (500,)
    with pytest.raises(JvpError, match=r"The modules up to `nn.Linear` take 2.0 MB; 1.5 MB are allowed.") as caught:
        jvpcli.inspect(source, x=torch.ones(500), wrt="x", memory_limit=1_500_000)
    assert caught.value.code == "limit"


def test_every_class_is_torchs() -> None:
    assert all(issubclass(getattr(nn, name), nn.Module) for name in CLASSES)


@pytest.mark.parametrize("given", ["net.parameters()", "list(net.parameters())"])
def test_derivatives_by_all_parameters(given: str) -> None:
    source = (
        "net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))\nloss = net(x).pow(2).sum()\n"
        f"gs = torch.autograd.grad(loss, {given}, create_graph=True)\nsum(g.pow(2).sum() for g in gs)"
    )
    x = torch.tensor([0.5, -1.0])
    leaf = x.clone().requires_grad_()
    expected, modules = by_python(source, leaf, 3)
    gradients = torch.autograd.grad(expected, [leaf, *modules["net"].parameters()], materialize_grads=True)
    names = [f"net.{name}" for name, _ in modules["net"].named_parameters()]
    found = jvpcli.inspect(source, x=x, wrt=["x", "net"], seed=3).vjp
    torch.testing.assert_close([found[name] for name in ("x", *names)], list(gradients))
    torch.testing.assert_close(jvpcli.inspect(source, x=x, wrt="x", seed=3).vjp["x"], gradients[0])


CHANGES = [
    "net.double()", "net = net.double()", "net.to(torch.float64)", "net.half()", "net.apply(lambda m: m.weight.data.zero_())",
    "def init(m):\n    nn.init.zeros_(m.weight)\nnet[0].apply(init)",
    "nn.init.zeros_(net[0].weight)", "nn.init.normal_(net[0].bias)",
    "def zero(net):\n    net[0].weight.data.zero_()\nzero(net)", "def zero(m):\n    m.weight.data.zero_()\nzero(net[0])",
    "net[0].weight.data.fill_(3.)", "net[0].weight.data = torch.ones(2, 2)",
    "net[0].weight.data[0] = 3.", "net[0].bias.data += 1",
    "with torch.no_grad():\n    net[0].weight.fill_(3.)", "with torch.no_grad():\n    net[0].bias += 1",
    "with torch.no_grad():\n    for p in net.parameters():\n        p.mul_(2)",
    "for p in net.parameters():\n    p.data.fill_(0.5)",
    "for p in net.parameters():\n    p.requires_grad = False", "net.requires_grad_(False)", "net[0].weight.requires_grad = False",
    "net[0] = nn.Linear(2, 2)", "net[0].weight = nn.Parameter(torch.ones(2, 2))", "net.append(nn.Linear(2, 2))", "net.extra = 3",
    "net.load_state_dict({'0.weight': torch.ones(2, 2), '0.bias': torch.ones(2)})", "net.load_state_dict(net.state_dict())",
    "net.register_forward_hook(lambda m, i, o: o * 2)", "h = net[0].register_forward_hook(lambda m, i, o: o * 2)",
    "h = net[0].register_full_backward_hook(lambda m, i, o: (i[0] * 2,))", "net[0].weight.register_hook(lambda g: g * 2)",
    "net.register_buffer('b', torch.ones(2))", "nn.utils.spectral_norm(net[0])", "nn.utils.parametrizations.weight_norm(net[0])",
    "lin = nn.Linear(2, 2)\nnet = nn.Sequential(lin, nn.Tanh())", "net = [nn.Linear(2, 2)][0]", "net[0].reset_parameters()",
    "import copy\nnet = copy.deepcopy(net)", "for layer in net:\n    layer.weight.data.zero_()", "net[0].weight.zero_()",
    "a, b = nn.Linear(2, 2), nn.Tanh()\nnet = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))", "net = net.eval()", "net.train()",
    "net = net.cpu()", "setattr(net[0], 'weight', None)", "net[0].weight.detach().mul_(3)", "w = net[0].weight.data\nw.zero_()",
    "w = net[0].weight.view(-1)\nwith torch.no_grad():\n    w[0] = 5.", "torch.nn.init.constant_(tensor=net[0].bias, val=2.)",
]  # fmt: skip
"""What a program may do to a module before it is used."""


@pytest.mark.parametrize("asked", ["net(x).sum().backward()", "torch.autograd.grad(net(x).sum(), x)[0].sum()"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_a_module_is_carried_out_or_refused(change: str, asked: str) -> None:
    """The language never leaves out what it does not read: what it gives is what Python gives."""
    start = "net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())\nx = torch.tensor([1., 2.], requires_grad=True)\n"
    text = f"{start}{change}\n{asked}"
    try:
        found = jvpcli.inspect(text).vjp
    except JvpError as error:
        if error.code == "internal":
            raise
        return
    scope: dict[str, Any] = {"torch": torch, "nn": nn}
    torch.manual_seed(0)
    exec(text.replace(asked, "net(x).sum().backward()"), scope)
    expected = {"x": scope["x"].grad, **{f"net.{name}": p.grad for name, p in scope["net"].named_parameters()}}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("net.double()", "`.double` of `net` can't be called here: only Python can run it."),
        ("net[0].apply(print)", "`.apply` of `net.0` can't be called here: only Python can run it."),
        ("nn.init.zeros_(net[0].weight)", "`nn.init.zeros_` can't be used here: only Python can run it."),
        ("net.register_forward_hook(print)", "`.register_forward_hook` of `net` can't be called here: only Python can run it."),
    ],
)
def test_who_can_run_it_is_said(change: str, message: str) -> None:
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(f"net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())\n{change}\nnet(x).sum()", x=[1.0, 2.0])
    assert caught.value.message == message


@pytest.mark.parametrize("line", ["y = net(data)", "y = net(data) * net[0].weight.sum()"])
def test_a_gradient_by_what_a_module_gives(line: str) -> None:
    """The VALUE of y is what the program makes it of, a module among that."""
    start = "torch.manual_seed(1)\nnet = nn.Sequential(nn.Linear(2, 2), nn.Tanh())\ndata = torch.ones(2)\n"
    text = f"{start}{line}\nz = net(y).pow(2)\ng = torch.autograd.grad(z.sum(), y)"
    scope: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(text, scope)
    torch.testing.assert_close(jvpcli.inspect(text).vjp["y"], scope["g"][0])
