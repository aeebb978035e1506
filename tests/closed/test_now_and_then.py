"""Words that scripts use now and then: a program with them is answered as Python runs it, and their bounds hold."""

from __future__ import annotations

import pytest
from executed import as_run, by_python, fits

from jvpcli.errors import JvpError
from jvpcli.render.json import to_dict

HEAD = """\
import torch
import torch.nn as nn
torch.manual_seed(0)
x = torch.tensor([1., -2., 3.], requires_grad=True)
"""

PROGRAMS = {
    "json": """
import json
c = json.loads(json.dumps({"a": [1, 2.5]}))
(c["a"][1] * x).sum().backward()
""",
    "a heap": """
import heapq
h = [3, 1, 2]
heapq.heapify(h)
heapq.heappush(h, 0)
(heapq.heappop(h) + heapq.heappop(h) * x + heapq.nlargest(1, h)[0] * x).sum().backward()
""",
    "bisect": """
import bisect
(x * bisect.bisect_left([1, 2, 3], 2) + x*bisect.bisect([1,2,3],3)).sum().backward()
""",
    "statistics": """
import statistics
(x * statistics.mean([1., 2.]) * statistics.stdev([1., 2., 4.])*statistics.median([1,2,9])).sum().backward()
""",
    "a chain of lists": """
import itertools
(x * sum(itertools.chain.from_iterable([[1, 2], [3]]))).sum().backward()
""",
    "deque": """
from collections import deque
d = deque([1, 2, 3], maxlen=5)
d.rotate(1); d.remove(2); d.extendleft([4]); d.insert(0, 2); d.reverse()
(x * d.count(3) * d[0] * d.index(1) * len(d.copy())).sum().backward()
""",
    "texts": """
s = "ab".zfill(5) + "a".ljust(4) + "b".rjust(3) + "c".center(5) + "x".swapcase()
(x * len(s) * "a.b".rfind("b") * int("a".isidentifier()) * "aba".rindex("a")).sum().backward()
""",
    "sets": """
s = {1, 2}; t = s.copy(); s.clear(); t.intersection_update({1, 5}); t.symmetric_difference_update({7}); t.difference_update({7})
(x * len(t) * len(t.symmetric_difference({9})) * int(t.isdisjoint({2}))).sum().backward()
""",
    "total_ordering": """
import functools
@functools.total_ordering
class A:
    def __init__(self, v): self.v = v
    def __eq__(self, o): return self.v == o.v
    def __lt__(self, o): return self.v < o.v
(x * (2. if A(1) <= A(2) else 3.)).sum().backward()
""",
    "cmp_to_key": """
import functools
l = sorted([3, 1, 2], key=functools.cmp_to_key(lambda a, b: b - a))
(x * l[0]).sum().backward()
""",
    "some items by chance": """
from torch.utils.data import DataLoader, TensorDataset, SubsetRandomSampler
ds = TensorDataset(torch.arange(6.), torch.arange(6.) * 2)
for a, b in DataLoader(ds, batch_size=2, sampler=SubsetRandomSampler([0, 2, 4, 5])):
    (x * a.mean() + b.sum()).sum().backward()
""",
    "items by chance, again and again": """
from torch.utils.data import DataLoader, TensorDataset, RandomSampler
ds = TensorDataset(torch.arange(6.), torch.arange(6.) * 2)
for a, b in DataLoader(ds, batch_size=4, sampler=RandomSampler(ds, replacement=True, num_samples=8)):
    (x * a.mean() + b.sum()).sum().backward()
""",
    "items by their weights": """
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
ds = TensorDataset(torch.arange(6.))
for a, in DataLoader(ds, batch_size=2, sampler=WeightedRandomSampler([.1, .2, .3, .1, .1, .2], 6)):
    (x * a.mean()).sum().backward()
""",
    "batches of a sampler": """
from torch.utils.data import DataLoader, TensorDataset, BatchSampler, SequentialSampler
ds = TensorDataset(torch.arange(6.))
for a, in DataLoader(ds, batch_sampler=BatchSampler(SequentialSampler(ds), batch_size=4, drop_last=False)):
    (x * a.mean()).sum().backward()
""",
    "a sampler of the program's own": """
from torch.utils.data import DataLoader, TensorDataset, Sampler
ds = TensorDataset(torch.arange(6.))
class S(Sampler):
    def __init__(self, n): self.n = n
    def __iter__(self): return iter(range(self.n - 1, -1, -1))
    def __len__(self): return self.n
for a, in DataLoader(ds, batch_size=4, sampler=S(6)):
    (x * a.mean()).sum().backward()
""",
    "data sets in a row": """
from torch.utils.data import DataLoader, TensorDataset, ConcatDataset
ds = ConcatDataset([TensorDataset(torch.arange(3.)), TensorDataset(torch.arange(2.))])
for a, in DataLoader(ds, batch_size=2):
    (x * a.mean() * len(ds)).sum().backward()
""",
    "a data set in its own order": """
from torch.utils.data import DataLoader, IterableDataset
class D(IterableDataset):
    def __init__(self, n): self.n = n
    def __iter__(self):
        for k in range(self.n):
            yield torch.tensor([float(k)])
for a in DataLoader(D(5), batch_size=2):
    (x * a.mean()).sum().backward()
""",
    "default_collate": """
from torch.utils.data import default_collate
a = default_collate([torch.ones(2), torch.zeros(2)])
(x * a.sum()).sum().backward()
""",
    "unpad_sequence": """
a = nn.utils.rnn.unpad_sequence(torch.stack([x, x]).t(), torch.tensor([2, 3]))
(a[0].sum() * a[1].sum()).backward()
""",
    "schedules one after the other": """
opt = torch.optim.SGD([x], lr=.1)
L = torch.optim.lr_scheduler
s = L.SequentialLR(opt, [L.ConstantLR(opt, 0.5, 2), L.ExponentialLR(opt, .9)], milestones=[2])
for k in range(5):
    opt.zero_grad(); (x ** 2).sum().backward(); opt.step(); s.step()
""",
    "schedules at once": """
opt = torch.optim.SGD([x], lr=.1)
L = torch.optim.lr_scheduler
s = L.ChainedScheduler([L.ConstantLR(opt, 0.5, 2), L.ExponentialLR(opt, .9)])
for k in range(5):
    opt.zero_grad(); (x ** 2).sum().backward(); opt.step(); s.step()
""",
    "what a schedule knows": """
opt = torch.optim.SGD([x], lr=.1)
s = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=.5, patience=0)
for k in range(5):
    opt.zero_grad(); loss = (x ** 2).sum(); loss.backward(); opt.step(); s.step(loss.item() + k)
(x * s.num_bad_epochs * s.best).sum().backward()
""",
    "a schedule of the program's own": """
class W(torch.optim.lr_scheduler.LRScheduler):
    def get_lr(self): return [b / (1 + self.last_epoch) for b in self.base_lrs]
opt = torch.optim.SGD([x], lr=.1)
s = W(opt)
for k in range(5):
    opt.zero_grad(); (x ** 2).sum().backward(); opt.step(); s.step()
""",
    "a mixture": """
D = torch.distributions
m = D.MixtureSameFamily(D.Categorical(logits=x), D.Normal(x, 1.))
m.log_prob(torch.tensor(.5)).backward()
""",
    "a distribution carried over": """
D = torch.distributions
d = D.TransformedDistribution(D.Normal(x, 1.), [D.transforms.AffineTransform(1., 2.), D.transforms.ExpTransform()])
d.log_prob(torch.ones(3) * 2).sum().backward()
""",
    "tanh of a normal distribution": """
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
d = TransformedDistribution(Normal(x, 1.), [TanhTransform(cache_size=1)])
a = d.rsample()
(a * d.log_prob(a)).sum().backward()
""",
    "modules of distributions": """
from torch.distributions.normal import Normal
from torch.distributions import kl
from torch.distributions.categorical import Categorical
p = Normal(x, 1.).log_prob(torch.zeros(3)).sum()
(p + kl.kl_divergence(Categorical(logits=x), Categorical(logits=torch.zeros(3)))).backward()
""",
    "distributions of numbers": """
D = torch.distributions
z = torch.tensor(1.)
y = sum([
    D.Weibull(x[0], 2.).log_prob(z),
    D.HalfNormal(x[0]).log_prob(z),
    D.HalfCauchy(x[0]).log_prob(z),
    D.Gumbel(x[0], 1.).log_prob(z),
    D.Pareto(x[0] * .5, 2.).log_prob(z),
    D.Chi2(x[2]).log_prob(z),
    D.Geometric(logits=x[0]).log_prob(z),
    D.Binomial(3, logits=x[0]).log_prob(z),
    D.NegativeBinomial(3., logits=x[0]).log_prob(z),
    D.InverseGamma(x[0], 1.).log_prob(z),
    D.VonMises(x[0], 1.).log_prob(z),
    D.FisherSnedecor(x[0], x[2]).log_prob(z),
    D.Kumaraswamy(x[0], x[2]).log_prob(z * .5),
])
y.backward()
""",
    "distributions of vectors": """
D = torch.distributions
z = torch.tensor([1., 0., 0.])
y = sum([
    D.OneHotCategorical(logits=x).log_prob(z),
    D.Multinomial(1, logits=x).log_prob(z),
    D.RelaxedBernoulli(torch.tensor(.5), logits=x[0]).log_prob(torch.tensor(.5)),
    D.LowRankMultivariateNormal(x, torch.ones(3, 1), torch.ones(3)).log_prob(z),
    D.ContinuousBernoulli(logits=x[0]).log_prob(torch.tensor(.5)),
    D.LogisticNormal(x[:2], torch.ones(2)).log_prob(torch.tensor([.2, .3, .5])),
])
y.backward()
""",
    "distributions that are relaxed": """
D = torch.distributions
y = D.RelaxedOneHotCategorical(torch.tensor(.5), logits=x).rsample() + D.OneHotCategoricalStraightThrough(logits=x).rsample()
(y * torch.arange(3.)).sum().backward()
""",
    "a hook before a backward pass": """
l = nn.Linear(3, 2)
l.register_full_backward_pre_hook(lambda m, g: (g[0] * 2,))
l(x).sum().backward()
""",
    "cmath": """
import cmath
(x * abs(cmath.exp(1j))).sum().backward()
""",
    "collections.abc": """
from collections.abc import Iterable, Callable, Mapping
(x * (2. if isinstance([1], Iterable) else 3.)).sum().backward()
""",
    "what goes through its own items": """
class R:
    def __init__(self, n): self.n, self.k = n, 0
    def __iter__(self): return self
    def __next__(self):
        self.k += 1
        if self.k > self.n: raise StopIteration
        return self.k
    def __reversed__(self): return iter([5])
(x * sum(R(3)) * list(reversed(R(2)))[0]).sum().backward()
""",
    "a container": """
class V:
    def __init__(self, d): self.d = d
    def __len__(self): return len(self.d)
    def __getitem__(self, k): return self.d[k]
    def __setitem__(self, k, v): self.d[k] = v
    def __delitem__(self, k): del self.d[k]
    def __contains__(self, k): return k in self.d
v = V({"a": 2., "b": 3.}); v["c"] = 4.; del v["b"]
(x * len(v) * v["a"] * ("c" in v)).sum().backward()
""",
    "a property that is set": """
class A:
    def __init__(self): self._v = 1.
    @property
    def v(self): return self._v
    @v.setter
    def v(self, n): self._v = n * 2
    @v.deleter
    def v(self): self._v = 0.
a = A(); a.v = 3.
(x * a.v).sum().backward()
""",
    "names that a class keeps for itself": """
class A:
    def __init__(self): self.__v = 2.
    def get(self): return self.__v
(x * A().get()).sum().backward()
""",
    "ABCMeta": """
from abc import ABC, ABCMeta, abstractmethod
class A(metaclass=ABCMeta):
    @abstractmethod
    def f(self): ...
class B(A):
    def f(self): return 2.
(x * B().f()).sum().backward()
""",
    "sequences of several lengths in a batch": """
from torch.utils.data import DataLoader, Dataset
from torch.nn.utils.rnn import pad_sequence
class D(Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return torch.ones(i + 1), i
def collate(batch):
    a, b = zip(*batch)
    return pad_sequence(a, batch_first=True), torch.tensor(b)
for a, b in DataLoader(D(), batch_size=2, collate_fn=collate):
    (x * a.sum() * b.sum()).sum().backward()
""",
    "types, which count as nothing": """
from typing import List, Optional
import typing
def f(t: List[float], k: Optional[int] = None) -> typing.Any: return t * 2
f(x).sum().backward()
""",
    "sequences of several lengths": """
from torch.nn.utils.rnn import pad_sequence
y = pad_sequence([x, x[:1], x[1:]], padding_value=2.)
z = pad_sequence([torch.outer(x, x), x[None] ** 2], batch_first=True, padding_value=-1.)
(y.prod(1).sum() + (z ** 2 * torch.arange(18.).view(2, 3, 3)).sum() + len(y) * z.shape[1] * x.sum()).backward()
""",
    "names of classes in each other": """
class _A_:
    class _B:
        def __init__(self, k): self.__k = k
        def __twice(self): return 2 * self.__k
        def ask(self): return self.__twice() + self._B__k
    def __init__(self): self.__b = 5
    def ask(self): return self.__b * self._A___b
(x * _A_._B(3).ask() * 2).sum().backward()
""",
    "operators": """
class V:
    def __init__(self, d): self.d = d
    def __and__(self, o): return V(self.d + o.d)
    def __or__(self, o): return V(self.d * o.d)
    def __xor__(self, o): return V(self.d - o.d)
    def __invert__(self): return V(-self.d)
    def __rshift__(self, o): return o(self.d)
    def __rfloordiv__(self, o): return 7. * o
    def __divmod__(self, o): return 1, 2
    def __round__(self, n=0): return 3.
y = ((V(x) & V(x)) | ~V(x)) ^ V(x)
((y >> (lambda t: t * 2)) * round(V(1)) * (2 // V(1)) * divmod(V(1), 2)[1]).sum().backward()
""",
    "a hook behind a gradient, which takes the step": """
ws = [torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)]
steps = {w: torch.optim.SGD([w], lr=.1, momentum=.9) for w in ws}
def stepped(w):
    steps[w].step()
    steps[w].zero_grad()
for w in ws:
    w.register_post_accumulate_grad_hook(stepped)
for k in range(4):
    ((ws[0] * x.detach() - ws[1].exp()) ** 2).sum().backward()
torch.autograd.grad(((ws[0] * ws[1] * x.detach()) ** 2).sum(), ws)
""",
    "sequences that are packed": """
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence
net, cell = nn.LSTM(3, 2, num_layers=2, bidirectional=True), nn.GRU(1, 2, batch_first=True)
rows = torch.stack([x, x ** 2, 2 * x])[:, None] * torch.arange(1., 5)[:, None]
packed = pack_padded_sequence(rows, torch.tensor([2, 4, 3]), batch_first=True, enforce_sorted=False)
out, (h, c) = net(packed)
y, lengths = pad_packed_sequence(out, total_length=5, padding_value=.5)
z, _ = pad_packed_sequence(cell(pack_sequence([x[:, None], x[1:, None]]))[0], batch_first=True)
assert isinstance(out, PackedSequence) and lengths.tolist() == [2, 4, 3] and len(unpack_sequence(packed)[1]) == 4
loss = (y ** 2 * lengths[:, None]).sum() + (h[0] * c[1]).sum() + packed[0].prod(1).sum()
(loss + (z.exp() * out.batch_sizes.sum()).sum()).backward()
""",
    "an optimizer of the program's own": """
from torch.optim.optimizer import Optimizer
class Averaged(Optimizer):
    def __init__(self, params, lr=.1, beta=.5):
        super(Averaged, self).__init__(params, dict(lr=lr, beta=beta))
    def step(self, closure=None):
        for group in self.param_groups:
            for p in [p for p in group["params"] if p.grad is not None]:
                state = self.state[p]
                if len(state) == 0:
                    state["step"], state["mean"] = 0, torch.zeros_like(p.data)
                state["step"] += 1
                state["mean"].mul_(group["beta"]).add_(p.grad.data, alpha=1 - group["beta"])
                p.data.addcdiv_(state["mean"], p.grad.data.norm() + state["step"], value=-group["lr"])
w, b = nn.Parameter(x.detach() ** 2), nn.Parameter(torch.zeros(3))
opt = Averaged([{"params": [w], "lr": .5}, {"params": [b]}])
schedule = torch.optim.lr_scheduler.StepLR(opt, 2, .3)
for k in range(5):
    opt.zero_grad(set_to_none=k % 2 == 0)
    ((w * x.detach() + b) ** 2).sum().backward()
    opt.step()
    schedule.step()
assert isinstance(torch.optim.SGD([w], .1), Optimizer)
""",
    "states that are loaded again": """
def made():
    net = nn.Linear(3, 2)
    opt, kinds = torch.optim.AdamW(net.parameters(), lr=.2), torch.optim.lr_scheduler
    return net, opt, kinds.OneCycleLR(opt, .3, total_steps=9), kinds.MultiStepLR(opt, [2, 4])
def trained(net, opt, *schedules):
    for _ in range(3):
        opt.zero_grad()
        (net(x.detach()) ** 4).sum().backward()
        opt.step()
        for each in schedules: each.step()
first, second = made(), made()
trained(*first)
torch.save({k: each.state_dict() for k, each in enumerate(first)}, "all.pt")
for k, each in torch.load("all.pt").items(): second[k].load_state_dict(each)
trained(*second)
""",
    "weights that are computed from others": """
import torch.nn.utils.parametrize as parametrize
from torch.nn.utils import spectral_norm, weight_norm
class Symmetric(nn.Module):
    def forward(self, X): return X.triu() + X.triu(1).T
net = nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Tanh(), spectral_norm(nn.Linear(4, 3)), nn.Linear(3, 3))
parametrize.register_parametrization(net[3], "weight", Symmetric())
kinds = nn.utils.parametrizations
last = kinds.spectral_norm(nn.Linear(2, 2)), kinds.orthogonal(nn.Linear(2, 2))
more = nn.Sequential(kinds.weight_norm(nn.Linear(3, 2), dim=None), *last)
assert parametrize.is_parametrized(net[3]) and net[0].weight.shape == (4, 3)
opt = torch.optim.SGD([*net.parameters(), *more.parameters()], .1)
for _ in range(3):
    opt.zero_grad()
    (more(net(x.detach()[None])) ** 2 + net[3].weight.trace()).sum().backward()
    opt.step()
""",
    "constants that are sparse": """
places, numbers = torch.tensor([[0, 1, 2, 0, 2], [1, 0, 2, 1, 0]]), torch.arange(1., 6)
adjacent = torch.sparse_coo_tensor(places, numbers, (3, 3)).coalesce()
squares = torch.sparse.FloatTensor(places, numbers ** 2, torch.Size([3, 3])).to_dense()
weight = nn.Parameter(torch.eye(3) + x.detach())
h = torch.sparse.mm(adjacent, torch.relu(torch.spmm(squares.to_sparse(), weight)))
(h.log_softmax(1)[places[0], places[1]].mean() + (torch.sparse_coo_tensor(places, x[places[1]]).to_dense() @ x).sum()).backward()
""",
    "what begins as a constant and is added to": """
total, parts, hit = torch.ones(3), torch.full((3,), 2.), x.detach() > x.detach().min()
for k in range(3):
    total += x ** k
    parts[hit] += total[hit] * x[hit]
    parts[:2] *= x[1:]
for _ in range(2):
    (total ** 2 * parts.exp()).sum().backward(retain_graph=True)
""",
    "a step between two passes through one graph": """
body, one, other = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
opt = torch.optim.Adam([*body.parameters(), *one.parameters()], lr=.1, weight_decay=.1)
h = torch.tanh(body(x.detach()[None]))
first, second = one(h).sum(), other(h).exp().sum()
first.backward(retain_graph=True)
opt.step()
opt.zero_grad()
with torch.no_grad():
    body.bias.mul_(3)
second.backward()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_last_derivative_is_that_of_python(name, monkeypatch):
    text = HEAD + PROGRAMS[name]
    wanted = by_python(text, monkeypatch)
    found = [*to_dict(as_run(text))["vjp"].values()]
    assert len(found) == len(wanted)
    assert all(any(fits(document, gradient) for gradient in wanted) for document in found)


REFUSED = {
    "a text of any width": "'a'.ljust(10 ** 9)",
    "zeros of any width": "'a'.zfill(10 ** 9)",
    "a method of a text's class": "str.ljust('a', 10 ** 9)",
    "JSON set in by any width": "import json; json.dumps([[1]], indent=10 ** 9)",
    "JSON by a class of the program's": "import json; json.dumps([1], cls=dict)",
    "an order for a class of Python's": "import functools; functools.total_ordering(int)",
    "draws without end": "torch.utils.data.WeightedRandomSampler([1.], 10 ** 12)",
    "draws without end, of a data set": "torch.utils.data.RandomSampler([1.], True, 10 ** 12)",
    "weights that are the program's": "torch.utils.data.WeightedRandomSampler([1., object()], 2)",
    "a hook that is torch's": "nn.Linear(1, 1).register_full_backward_pre_hook(torch.sin)",
    "a hook behind a gradient that is torch's": "x.register_post_accumulate_grad_hook(torch.sin)",
    "what a schedule is set to": "torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD([x], .1)).load_state_dict({'o': 3})",
    "a name that Python keeps": "class A:\n    def f(self): return self.__weakref__",
    "another metaclass": "class A(metaclass=lambda *_: 3): pass",
    "a weight norm of other magnitudes": """
m = nn.utils.weight_norm(nn.Linear(3, 2))
m.weight_g = nn.Parameter(torch.ones(0))
m(x)""",
    "a weight norm that is broadcast": """
m = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
m.parametrizations.weight.original0 = nn.Parameter(torch.ones(1, 1))
m(x)""",
    "a weight norm of an attribute": "nn.utils.weight_norm(nn.Linear(3, 2), '__class__')",
    "a spectral norm of a method": "nn.utils.spectral_norm(nn.Linear(3, 2), 'forward')",
    "a parametrization that gives a weight other memory": """
class R(nn.Module):
    def forward(self, X): return X
    def right_inverse(self, X): return x
nn.utils.parametrize.register_parametrization(nn.Linear(3, 2), "weight", R())""",
    "a parametrization that is none": "nn.utils.parametrize.register_parametrization(nn.Linear(3, 2), 'weight', torch.sin)",
    "packed sequences of another size": "nn.LSTM(2, 3)(nn.utils.rnn.PackedSequence(torch.ones(3, 2), torch.tensor([2, 9])))",
    "packed sequences that are changed": """
p = nn.utils.rnn.pack_sequence([torch.ones(2, 2), torch.ones(1, 2)])
p.batch_sizes.fill_(1000)
nn.GRU(2, 3)(p)""",
    "a negative index of a sparse tensor": "torch.sparse_coo_tensor([[-1]], [1.], (3,))",
    "packed sequences of no tensors": "nn.utils.rnn.PackedSequence(object(), object())",
    "a private name outside of a class": "x.__k",
    "a private name of a class without one": "class _:\n    def f(self): return self.__k",
    "a private name above a class": "class C:\n    pass\nclass A(C.__k): pass",
    "a private name beside a class": "class C:\n    pass\n@C.__k\nclass A: pass",
    "a module of JSON's": "import json; json.decoder",
    "a module beside it": "import statistics; statistics.sys",
    "what a module has for Python": "import heapq; heapq.__builtins__",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_a_bound_ends_the_program(name):
    with pytest.raises(JvpError) as caught:
        as_run(f"{HEAD}{REFUSED[name]}\nx.sum().backward()\n")
    assert caught.value.code in ("forbidden", "unknown_name", "evaluation")


SHARED = """
def without_second(g):
    g[1] = 0
    return g
y = x ** 3
y.register_hook(without_second)
y.sum().backward()
"""
"""What comes back from the sum is one number, three times: a hook that writes to one of them writes to all."""


def test_a_hook_that_writes_to_its_gradient_is_told(monkeypatch):
    text = HEAD + SHARED
    assert by_python(text, monkeypatch)[0].tolist() == [0, 0, 0]
    (found,) = to_dict(as_run(text))["vjp"].values()
    assert found["value"] == [0, 0, 0]
    checked = as_run(text, command="check")
    assert checked.verdict == "wrong_backward"
    with pytest.raises(JvpError, match="can't be taken apart") as caught:
        as_run(text, command="trace")
    assert "a hook that writes to its gradient in place" in caught.value.explanation


def test_numbers_that_a_step_has_changed_since_are_told():
    text = HEAD + PROGRAMS["a step between two passes through one graph"]
    (told,) = [each.message for each in as_run(text).warnings if each.code == "as_python"]
    assert told.endswith("has the numbers here that it had then: body.weight, body.bias")
