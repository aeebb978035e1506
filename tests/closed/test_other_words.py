"""Words of Python's and torch's that the language does not have: a program that uses them is answered as Python runs it."""

from __future__ import annotations

from types import FunctionType

import pytest
import torch
from executed import by_python, fits

import jvpcli
from jvpcli.answers import report_of
from jvpcli.closed.derived import Watch
from jvpcli.closed.execution import Settings, compiled, run_through
from jvpcli.closed.program import Program
from jvpcli.closed.words import NOTHING, Named, Namespace
from jvpcli.errors import JvpError
from jvpcli.language.pasted import as_meant
from jvpcli.render.json import to_dict
from jvpcli.request import Request

HEAD = """\
import math
import torch
import torch.nn as nn
from torch.distributions import Bernoulli, Categorical, Normal
from torch.func import grad, vmap
torch.manual_seed(0)
x = torch.tensor([1., -2., 3.], dtype=torch.float64, requires_grad=True)
p = torch.tensor([0.2, 0.7], requires_grad=True)
"""

PROGRAMS = {
    "the library": """
import functools, itertools
from itertools import accumulate, chain, zip_longest
from functools import reduce
def weigh(row):
    return sum((k + 1) * item for k, item in enumerate(row))
y = reduce(lambda a, b: a * b + a, x)
y = y + weigh(accumulate(x)) + weigh(chain(x, [x.sum()], ()))
for k, (i, j) in enumerate(itertools.product(range(3), repeat=2)):
    y = y + k * x[i] * x[j] ** 2
for pairs in (itertools.combinations(x, 2), itertools.permutations(x, 2)):
    y = y + weigh(a * b ** 2 for a, b in pairs) * len(list(itertools.permutations(range(3))))
y = y + weigh(itertools.islice(x, 2)) + weigh(itertools.islice(x, 0, 3, 2))
y = y + weigh(itertools.starmap(torch.mul, [(x[0], x[1]), (x[1], x[2])]))
y = y + sum(a * b for a, b in zip_longest(x, [1., 2.], fillvalue=5.))
y = y + weigh(sorted(x)) + 2 * weigh(sorted(x, key=lambda t: t ** 2, reverse=True)) + weigh(sorted([3, 1, 2]))
y = y + weigh(v * k for k, v in sorted([(1, x[0]), (0, x[1]), (1, x[2])], key=lambda pair: pair[0], reverse=True))
y = y + weigh(filter(lambda t: t > 0, x)) + (any(t > 2 for t in x) + 2 * all(t > 0 for t in x) + all([])) * x[1]
q, r = divmod(7, 3)
(y + q * x[0] ** r + pow(x[1], 2) + functools.reduce(lambda a, b: a - b, [5, 2, 1]) * x[2]).backward()
""",
    "decorators": """
from functools import partial, wraps
def twice(function):
    @wraps(function)
    def inner(*given, **named):
        return 2 * function(*given, **named)
    return inner
@twice
@twice
def square(t, *, k=1.):
    return k * t ** 2
@grad
def slope(t):
    return (t ** 4).sum()
@partial(vmap, in_dims=(0, None))
def scaled(t, k):
    return t * k
@torch.no_grad()
def held(t):
    return t.sum()
(square(x, k=3.).sum() + (slope(x.detach()) * scaled(x.detach(), x[1].detach())).sum() * held(x)).backward()
""",
    "generators": """
def powers(t, n):
    value = t
    for k in range(n):
        if k == 3:
            return
        yield value
        value = value * t
def both(t):
    yield t.sum()
    yield from [t.prod(), t[0]]
    yield from powers(t, 2)
def batches(rows, size):
    order = torch.randperm(len(rows))
    for at in range(0, len(rows), size):
        yield rows[order[at:at + size]], at
y = sum((k + 1) * p.sum() for k, p in enumerate(powers(x, 5)))
for p in both(x):
    y = y + p.pow(2).sum()
for rows, at in batches(x, 2):
    y = y + (at + 1) * rows.prod()
(y + torch.stack(list(powers(x, 2))).prod()).backward()
""",
    "a generator that is kept": """
def items(t):
    yield t
    yield t * 2
g = items(x)
(sum(g) + sum(g)).sum().backward()
""",
    "a generator whose weights move": """
def losses():
    for k in range(2):
        yield (x * k).pow(2).sum()
for loss in losses():
    loss.backward()
    with torch.no_grad():
        x -= 0.1 * x.grad
""",
    "a generator that goes on as a number changes": """
k, y = 1., 0.
def scaled(t):
    for _ in range(2):
        yield t * k
for t in scaled(x):
    y = y + t.sum()
    k = k * 2
held = {f"{x.detach()}": y}
sum(held.values()).backward()
""",
    "modes, annotations and names": """
w: torch.Tensor = torch.tensor([2., 1., 1.], dtype=torch.float64, requires_grad=True)
torch.set_grad_enabled(False)
held = x * 2
torch.set_grad_enabled(True)
act = getattr(torch, "tanh")
first = next(iter(x))
terms = {f"t{k}": act(x) * k for k in range(3)}
for k in range(2):
    key = "t"
    key = f"{key}{k}"
    terms[key] = terms[f"t{k + 1}"] + first
if isinstance(held, torch.Tensor) and (n := len(terms)) > 2:
    held = held * n
((terms["t0"] * terms["t1"]).sum() + (held * x * w).sum()).backward()
""",
    "settings, and words for classes": """
from types import SimpleNamespace
ACTS = {"tanh": nn.Tanh, "relu": nn.ReLU}
settings, more = dict(act="tanh", inputs=3), {"bias": False}
args = SimpleNamespace(hidden=2, scale=0.5)
layers = [nn.Linear(settings["inputs"], args.hidden, **more), ACTS[settings["act"]](), nn.Linear(args.hidden, 1)]
chain = nn.Sequential(*layers)
loss = chain(x.float()).sum() * args.scale
for m in chain:
    if isinstance(m, (nn.Linear, nn.Conv2d)):
        loss = loss + m.weight.pow(2).sum()
(loss + dict(chain.named_parameters())["0.weight"].sum() * next(chain.parameters()).sum()).backward()
""",
    "leaves in a comprehension": """
sizes = [1, 2, 3]
ws = tuple(torch.full((2,), float(a * b), requires_grad=True) for a, b in zip(sizes, sizes[::-1]))
vs = [nn.Parameter(torch.full((2,), k + 1.)) for k in range(int(torch.tensor(2).item()))]
(ws[0] * ws[1] ** 2 * ws[2] ** 3 * vs[0] * vs[1] ** 2).sum().backward()
""",
    "Normal": """
d, e, f = Normal(x, 0.1), Normal(0.1, x.abs()), Normal(x, -1., validate_args=False)
y = (d.log_prob(torch.zeros(3)) + d.rsample()).sum() + (e.log_prob(torch.ones(3)) * e.entropy()).sum()
(y + (f.mean * f.variance).sum() + (x * Normal(0, 1).sample((3,)) * torch.rand(3)).sum()).backward()
""",
    "Bernoulli and Categorical": """
d, k = Bernoulli(None, p), Categorical(p)
z = Bernoulli(probs=torch.sigmoid(p + 0.3)).log_prob(torch.tensor([0., 1.])).sum()
(z + (d.log_prob(d.sample()) + d.entropy()).sum() + k.log_prob(torch.tensor(1)) + k.entropy() + k.log_prob(k.sample())).backward()
""",
    "a constant from here on": """
x.requires_grad = False
w = torch.ones(3, dtype=torch.float64, requires_grad=True)
(w * x).sum().backward()
""",
    "a constant between two calls": """
w = torch.ones(3, dtype=torch.float64, requires_grad=True)
def loss():
    return (w * x ** 2).sum()
loss().backward()
x.requires_grad_(False)
loss().backward()
""",
    "a function of a module's parameters": """
from functorch import make_functional, make_functional_with_buffers
net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
f, params = make_functional(net)
g, weights, buffers = make_functional_with_buffers(net)
(f(params, torch.ones(3)).sum() * g(weights, buffers, torch.ones(4, 3)).pow(2).sum()).backward()
""",
    "items of what a method gives": """
square = x[:, None] * x
square.flatten()[::4] = 0.
(square * x).sum().backward()
""",
    "a Jacobian in forward mode": """
J = torch.autograd.functional.jacobian(torch.sin, x.detach(), strategy="forward-mode", vectorize=True)
try:
    (J @ x).backward(J[0] + 1)
finally:
    pass
""",
    "numbers that are sorted before a leaf is made anew": """
a = [2., 1.]
x.sum().backward()
a.sort()
x = torch.tensor([1., 2.], requires_grad=True)
(x * a[0]).sum().backward()
""",
    "a seed by another name, before a leaf is made anew": """
x.sum().backward()
torch.random.manual_seed(3)
x = torch.rand(2, requires_grad=True)
(x ** 2).sum().backward()
""",
    "a number that is set where it is printed": """
n = 1
x.sum().backward()
print(n := 5)
x = torch.tensor([1., 2.], requires_grad=True)
(x * n).sum().backward()
""",
    "a call that is tried": """
y = (x ** 2).sum()
y.backward()
try:
    y.backward()
except RuntimeError as error:
    print(error)
    (x ** 3).sum().backward()
""",
    "the time": """
import time
begin = time.time()
y = (x ** 2).sum()
print(time.time() - begin)
y.backward()
""",
    "a GPU that is not there": """
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Tensor = torch.cuda.FloatTensor if torch.cuda.is_available() else torch.FloatTensor
net = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).to(device)
net = net.to(device)
fake = Tensor(4, 1).fill_(1.5)
(net(x.float().to(device)) * fake).pow(2).sum().backward()
""",
    "memory that is filled at once": """
torch.random.manual_seed(3)
ws = [torch.Tensor(3, 2).uniform_(-1., 1.).requires_grad_(), torch.empty(2).zero_().requires_grad_()]
k = nn.Parameter(torch.empty(3, 2))
nn.init.kaiming_uniform_(k, a=math.sqrt(5))
mean = torch.empty(4, 3, requires_grad=True)
torch.nn.init.kaiming_normal_(mean, mode="fan_out", nonlinearity="relu")
w = nn.Parameter(torch.empty(1, 4, 1, 1))
nn.init.xavier_uniform_(w, 2.)
b, d = torch.empty(2), torch.ones(1)
nn.init.uniform_(b, -1)
nn.init.constant_(d, val=3)
nn.init.normal_(d, mean=1., std=0.1)
y = torch.tanh(torch.ones(4, 3) @ ws[0] + ws[1]) @ k.T @ mean.T @ w[:, :, 0, 0].T * d
(y + b.sum()).pow(2).sum().backward()
""",
    "what has the numbers of a tensor, and not its graph": """
from torch.autograd import Variable
flag, y = True, x ** 2
z = Variable(x * 2, requires_grad=flag)
(Variable(y) * y + nn.Parameter(x, requires_grad=False) * x + Variable(x) * z + torch.Tensor(y) * x).sum().backward()
""",
    "segments, of which the last keeps its graph": """
from torch.utils.checkpoint import checkpoint_sequential
net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
checkpoint_sequential(net, 2, torch.ones(4, 3), use_reentrant=True).sum().backward()
""",
    "casts around functions": """
@torch.autocast("cpu", dtype=torch.bfloat16)
def cast(t):
    return t @ t.T
@torch.cuda.amp.autocast()
def same(t):
    return t @ t.T
t = torch.rand(3, 3, requires_grad=True)
(cast(t).float() + 2 * same(t)).sum().backward()
""",
    "a result that is filled item by item, and map": """
def f(t):
    y = torch.empty(2, 1, dtype=torch.float64)
    y[0, 0] = torch.sin(t[0]) * t[1]
    y[1, 0] = t[1] ** 2
    return y
parts = list(map(lambda g, y: g * y, [1., 2.], f(x)))
(sum(map(torch.sum, parts)) + torch.Tensor.clamp(x * 2, x - 4, x).sum()).backward()
""",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_the_last_derivative_is_that_of_python(text, monkeypatch):
    report = report_of(as_meant(Request(HEAD + text), may_run=True))
    assert "as_python" in [warning.code for warning in report.warnings]
    ours, theirs = [*to_dict(report)["vjp"].values()], by_python(HEAD + text, monkeypatch)
    assert len(ours) == len(theirs)
    for g in theirs:
        ours.remove(next(each for each in ours if fits(each, g)))


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_where_python_may_not_run_it_is_refused(text):
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(HEAD + text)
    assert caught.value.code in ("forbidden", "unknown_name", "syntax")


def test_what_is_compiled_is_what_is_compiled_of():
    text = "@torch.compile\ndef f(t):\n    return t ** 2\n@torch.jit.script\ndef g(t):\n    return t ** 3\n"
    meant = as_meant(Request(f"{HEAD}{text}(torch.compile(torch.sin)(x) + f(x) + g(x)).sum().backward()"), may_run=True)
    x = torch.tensor([1.0, -2.0, 3.0])
    assert fits(to_dict(report_of(meant))["vjp"]["x"], x.cos() + 2 * x + 3 * x**2)


def test_a_gpu_that_is_not_there_is_where_the_program_runs():
    """In PyTorch this raises where there is no GPU; y is no leaf any more, as there."""
    text = "y = x.cuda()\n(y ** 2).backward(torch.ones(3, device='cuda'))"
    found = to_dict(report_of(as_meant(Request(HEAD + text), may_run=True)))
    assert found["vjp"]["x"]["value"] == [2.0, -4.0, 6.0]


def handed_out(name: str, value: object, seen: set[int]) -> list[tuple[str, object]]:
    """What a program finds by a name, and below it: functions and classes of ours, each with its last name."""
    if isinstance(value, (Namespace, Named)):
        if id(value) in seen:
            return []
        seen.add(id(value))
        return [found for word, each in vars(value).items() for found in handed_out(word, each, seen)]
    code = getattr(value, "__globals__", {}).get("__name__", "") if isinstance(value, FunctionType) else ""
    return [(name, value)] if f"{code}{getattr(value, '__module__', '')}".startswith("jvpcli.") and ":" not in name else []


def test_what_is_handed_to_a_program_has_the_name_that_the_program_has_for_it():
    program = Program(0, False, Watch(), lambda: NOTHING, {})
    names = {**program.globals["__builtins__"], **program.spaces}
    found = [each for name, value in names.items() for each in handed_out(name, value, set())]
    own = [(name, value) for name, value in found if isinstance(value, (FunctionType, type)) and not name.startswith("__")]
    assert len(own) > 1000
    assert [(name, value) for name, value in own if {value.__name__, value.__qualname__} != {name}] == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("setattr(1)", "setattr() missing 2 required positional arguments: 'name' and 'given'"),
        ("getattr(1)", "getattr() missing 1 required positional argument: 'name'"),
        ("isinstance(1)", "isinstance() missing 1 required positional argument: 'kinds'"),
        ("globals(1)", "globals() takes 0 positional arguments but 1 was given"),
        ("torch.manual_seed()", "manual_seed() missing 1 required positional argument: 'seed'"),
        ("torch.random.manual_seed(1, 2)", "manual_seed() takes 1 positional argument but 2 were given"),
        ("torch.load()", "load() missing 1 required positional argument: 'f'"),
        ("torch.utils.data.TensorDataset(a=1)", "TensorDataset.__init__() got an unexpected keyword argument 'a'"),
        ("torch.autocast()", "autocast.__init__() missing 1 required positional argument: 'device_type'"),
        ("torch.FloatTensor(a=1)", "FloatTensor() got an unexpected keyword argument 'a'"),
    ],
)
def test_what_python_says_of_arguments_goes_by_the_names_of_the_program(line, told):
    error = run_through(compiled(f"import torch\n{line}\n"), Settings())[1]
    assert isinstance(error, TypeError)
    assert str(error) == told
