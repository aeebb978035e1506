"""Streams of random numbers of a program's own, and what else scripts are written with, against Python running the same text."""

from __future__ import annotations

import pytest
import torch
from executed import as_run, by_python, fits

from jvpcli.closed.ragged import padded_together
from jvpcli.render.json import to_dict

PROGRAMS = {
    "a stream that draws data, splits it, takes batches and masks": """
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split
g = torch.Generator().manual_seed(0)
X = torch.randn(20, 3, generator=g)
y = (X @ torch.tensor([1., -2., 3.])).unsqueeze(1) + 0.1 * torch.randn(20, 1, generator=g)
train, _ = random_split(TensorDataset(X, y), [16, 4], generator=torch.Generator().manual_seed(1))
w = torch.zeros(3, 1).normal_(generator=torch.Generator(device="cpu").manual_seed(2)).requires_grad_()
for xb, yb in DataLoader(train, batch_size=4, shuffle=True, generator=g, worker_init_fn=lambda k: None):
    w.grad = None
    mask = torch.bernoulli(torch.full_like(xb, 0.5), generator=g)
    (((xb * mask) @ w - yb) ** 2).mean().backward()
""",
    "samplers, data sets in a row, and one that is gone through": """
import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, IterableDataset, Sampler, TensorDataset
from torch.utils.data import SequentialSampler, WeightedRandomSampler
class Backwards(Sampler):
    def __init__(self, count):
        self.count = count
    def __iter__(self):
        return iter(range(self.count - 1, -1, -1))
    def __len__(self):
        return self.count
class Stream(IterableDataset):
    def __iter__(self):
        for k in range(5):
            yield torch.tensor([float(k), 1.])
both = ConcatDataset([TensorDataset(torch.arange(4.)), TensorDataset(-torch.arange(3.))])
w = torch.tensor([1., 2.], requires_grad=True)
loss = w.sum()
weighted = WeightedRandomSampler([1., 2., 3., 0., 0., 1., 1.], 6, generator=torch.Generator().manual_seed(3))
for sampler in (Backwards(7), weighted):
    for i, (x,) in enumerate(DataLoader(both, batch_size=3, sampler=sampler)):
        loss = loss + (i + 1) * (x * w[0]).sum() ** 2
for (x,) in DataLoader(both, batch_sampler=BatchSampler(SequentialSampler(both), 2, True)):
    loss = loss * 1.5 + (x * w[1]).sum()
for rows in DataLoader(Stream(), batch_size=2):
    loss = loss + (rows @ w).prod()
loss.backward()
""",
    "numpy's newer streams, and its linear algebra": """
import numpy as np, random, torch
rng, older, own = np.random.default_rng(42), np.random.RandomState(7), random.Random(3)
A, b = rng.normal(size=(4, 3)), rng.standard_normal(4) + rng.integers(0, 3, size=4)
w, *_ = np.linalg.lstsq(A, b, rcond=None)
_, s, _ = np.linalg.svd(A, full_matrices=False)
e, _ = np.linalg.eigh(A.T @ A)
L = np.linalg.cholesky(A.T @ A + np.eye(3)) * older.rand() * own.uniform(1, 2)
x = torch.tensor(w + e + np.linalg.solve(A.T @ A, A.T @ b), requires_grad=True)
r = torch.from_numpy(A[rng.permutation(4)]) @ x - torch.from_numpy(b)
((r ** 2).sum() + (torch.tensor(L) @ x).norm() + (torch.tensor(s) * x).prod()).backward()
""",
    "tuples with names, contexts, queues, texts": """
import bisect, contextlib, functools, heapq, json, statistics
from collections import deque
from typing import NamedTuple
import torch
class Step(NamedTuple):
    state: torch.Tensor
    reward: float = 2.0
class Pair(NamedTuple):
    a: float
    b: float
    def total(self):
        return self.a + self.b
class Box:
    def __init__(self, k):
        self.k = k
    @functools.cached_property
    def twice(self):
        return 2 * self.k
@contextlib.contextmanager
def scaled(by):
    yield by
w = torch.tensor([1., 2., 3.], requires_grad=True)
assert type(torch.nn.Linear(1, 1).weight) is torch.nn.Parameter and type(w) is torch.Tensor
with scaled(3) as k, contextlib.suppress(ZeroDivisionError):
    step = Step(w * k)
    1 / 0
recent, heap = deque([1, 2, 3], maxlen=5), [3, 1, 2]
recent.rotate(1)
heapq.heapify(heap)
m = statistics.mean([1., 2.]) + bisect.bisect([1, 2, 3], 2) + heapq.heappop(heap) + recent[0]
width = 9
m += len(f"{m:>{width}.{2}f}{'a'!r:<{width}}") + len("b".rjust(12)) + len("3".zfill(5))
rate = json.loads(json.dumps({"lr": 0.5}))["lr"]
(rate * step.reward * m * Box(2).twice * Pair(1., 2.).total() * (step.state ** 2).sum()).backward()
w.retain_grad = True
""",
    "what is timed and profiled, parameters that are set anew, a module without numbers, derivatives in what vmap runs": """
import copy, timeit
import torch
from torch.func import functional_call, jvp, vmap
from torch.utils.benchmark import Timer
torch.manual_seed(0)
net, z = torch.nn.Linear(3, 2), torch.ones(3)
slow, fast = Timer(stmt="net(z)", globals=globals()).timeit(5), Timer("z + 1", globals=globals()).timeit(5)
gain = (slow.times[0] - fast.times[0]) / slow.mean + timeit.timeit(lambda: net(z), number=2)
if gain < -1e9:
    raise ValueError
with torch.autograd.profiler.profile() as shown:
    net(torch.ones(3))
print(shown.key_averages().table(sort_by="self_cpu_time_total"))
params = dict(net.named_parameters())
bare = copy.deepcopy(net).to("meta")
for name in params:
    delattr(net, name)
for name, p in params.items():
    setattr(net, name, p * 2)
rows = torch.arange(6.).reshape(2, 3)
pushed = vmap(lambda row: jvp(torch.sin, (row,), (torch.ones(3),))[1])(rows)
x = torch.ones(3, requires_grad=True)
(net(x).sum() + functional_call(bare, params, (x,)).prod() + (pushed * x).sum()).backward()
""",
    "distributions, padded sequences, schedules in a row, averaged weights": """
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal, StudentT
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR
from torch.optim.swa_utils import AveragedModel
w = torch.nn.Parameter(torch.tensor([1., 2., 3.]))
opt = torch.optim.SGD([w], 0.1)
schedule = SequentialLR(opt, [ConstantLR(opt, 0.5, 2), ExponentialLR(opt, 0.9)], [2])
net = torch.nn.Linear(3, 1)
averaged = AveragedModel(net)
for _ in range(4):
    opt.zero_grad()
    rows = pad_sequence([w, w[:2], w[1:]], batch_first=True, padding_value=0.5)
    mixed = MixtureSameFamily(Categorical(torch.ones(3)), Normal(w, torch.ones(3)))
    loss = (rows ** 2).sum() + mixed.log_prob(torch.tensor([.5, 1.])).sum() + StudentT(3.).log_prob(w).sum()
    (loss + averaged(w).sum()).backward()
    opt.step()
    schedule.step()
    averaged.update_parameters(net)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_pythons(name, monkeypatch):
    expected, document = by_python(PROGRAMS[name], monkeypatch), to_dict(as_run(PROGRAMS[name]))
    products = [*document["vjp"].values()]
    assert len(products) == len(expected)
    assert all(any(fits(each, g) for each in products) for g in expected)


def test_a_seed_that_is_given_stands_for_those_of_streams():
    text = (
        "import torch, numpy as np\nx = torch.ones(3, requires_grad=True)\n"
        "g, rng = torch.Generator().manual_seed({}), np.random.default_rng({})\n"
        "(x * torch.randn(3, generator=g) * torch.tensor(rng.normal(size=3))).sum().backward()\n"
    )
    drawn = [as_run(text.format(*given), seed=5, seed_given=True).vjp["x"].value.tolist() for given in ((1, 2), (3, 4))]
    assert drawn[0] == drawn[1] != as_run(text.format(1, 2)).vjp["x"].value.tolist()


def test_padding_is_torch_s():
    parts = [torch.randn(n, 2) for n in (3, 1, 4)]
    for first in (False, True):
        for side in ("left", "right"):
            theirs = torch.nn.utils.rnn.pad_sequence(parts, first, 0.5, side)
            assert torch.equal(padded_together(parts, first, 0.5, side), theirs)
