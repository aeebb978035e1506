"""Programs with a bug each: what is wrong, the options to run it with, and the source; the guilty line ends with `# <- TEXT`.

TEXT is the guilty sub-expression of that line, as it stands there.
"""

from __future__ import annotations

HEAD = """\
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
"""

BUGS: dict[str, tuple[tuple[str, ...], str]] = {
    "a layer made for another width": (
        (),
        """
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.widen = nn.Linear(6, 12)
        self.read = nn.Linear(24, 2)

    def forward(self, x):
        h = torch.tanh(self.widen(x))
        return self.read(h)  # <- self.read(h)

Head()(torch.randn(3, 6)).sum().backward()
""",
    ),
    "a convolution for another number of channels": (
        (),
        """
class Eye(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.second = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = self.second(x)  # <- self.second(x)
        return x.mean()

Eye()(torch.randn(2, 1, 9, 9)).backward()
""",
    ),
    "a flattened size that forgets the border": (
        (),
        """
class Eye(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.out = nn.Linear(2 * 8 * 8, 5)

    def forward(self, x):
        return self.out(self.conv(x).flatten(1))  # <- self.out(self.conv(x).flatten(1))

Eye()(torch.randn(2, 1, 8, 8)).sum().backward()
""",
    ),
    "a target without the prediction's last axis": (
        (),
        """
net = nn.Linear(3, 1)
x, wanted = torch.randn(7, 3), torch.randn(7)
loss = F.mse_loss(net(x), wanted)  # <- F.mse_loss(net(x), wanted)
loss.backward()
""",
    ),
    "a saved result changed in place": (
        (),
        """
x = torch.randn(4, requires_grad=True)
s = torch.sigmoid(x)
out = s * 2
s.mul_(3)  # <- s.mul_(3)
(out.sum() + s.sum()).backward()
""",
    ),
    "an augmented assignment to a saved result": (
        (),
        """
x = torch.randn(4, requires_grad=True)
h = x.tanh()
h += 1  # <- h += 1
h.prod().backward()
""",
    ),
    "an optimiser's step between forward and backward": (
        (),
        """
player, judge = nn.Linear(3, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD(judge.parameters(), lr=0.1)
played = player(torch.randn(5, 3))
judged = judge(played).pow(2).mean()
wanted = -judge(played).mean()
judged.backward(retain_graph=True)
optimizer.step()  # <- optimizer.step()
wanted.backward()
""",
    ),
    "a prediction that is detached": (
        (),
        """
net = nn.Linear(3, 1)

def loss_of(x):
    prediction = net(x).detach()  # <- net(x).detach()
    return prediction.square().mean()

loss_of(torch.randn(4, 3)).backward()
""",
    ),
    "a prediction taken out by .data": (
        (),
        """
net = nn.Linear(3, 2)
h = net(torch.randn(4, 3)).data  # <- net(torch.randn(4, 3)).data
(h * 2).sum().backward()
""",
    ),
    "a loss added up as plain numbers": (
        (),
        """
net = nn.Linear(3, 1)
total = 0.0
for _ in range(3):
    total += net(torch.randn(2, 3)).square().mean().item()  # <- net(torch.randn(2, 3)).square().mean().item()
mean = torch.tensor(total / 3)
mean.backward()
""",
    ),
    "a loss made anew of a number": (
        (),
        """
net = nn.Linear(3, 1)
loss = torch.tensor(net(torch.randn(2, 3)).sum().item())  # <- net(torch.randn(2, 3)).sum().item()
loss.backward()
""",
    ),
    "classes counted instead of weighed": (
        (),
        """
net = nn.Linear(4, 3)
x, wanted = torch.randn(6, 4), torch.randint(0, 3, (6,))
picked = net(x).argmax(1)  # <- net(x).argmax(1)
wrong = (picked != wanted).float().mean()
wrong.backward()
""",
    ),
    "a comparison as a loss": (
        (),
        """
net = nn.Linear(4, 1)
hits = net(torch.randn(6, 4)) > 0  # <- net(torch.randn(6, 4)) > 0
hits.float().mean().backward()
""",
    ),
    "a forward pass under no_grad": (
        (),
        """
net = nn.Linear(4, 3)
with torch.no_grad():
    out = net(torch.randn(6, 4))  # <- net(torch.randn(6, 4))
out.sum().backward()
""",
    ),
    "weights rebound under no_grad": (
        (),
        """
w = torch.randn(3, requires_grad=True)
for _ in range(3):
    loss = w.square().sum()
    loss.backward()
    with torch.no_grad():
        w = w - 0.1 * w.grad  # <- w - 0.1 * w.grad
""",
    ),
    "weights changed in place where a graph is recorded": (
        (),
        """
w = torch.randn(3, requires_grad=True)
w.square().sum().backward()
w -= 0.1 * w.grad  # <- w -= 0.1 * w.grad
""",
    ),
    "the same graph twice": (
        (),
        """
x = torch.randn(5, requires_grad=True)
y = x.exp().sum()
y.backward()  # <- y.backward()
print(x.grad.shape)
y.backward()
""",
    ),
    "two losses on one graph": (
        (),
        """
net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
h = net(torch.randn(2, 3))
a, b = h.sum(), h.square().sum()
a.backward()  # <- a.backward()
b.backward()
""",
    ),
    "a state carried over from the turn before": (
        (),
        """
cell, h = nn.GRUCell(2, 3), torch.zeros(1, 3)
for _ in range(3):
    h = cell(torch.randn(1, 2), h)
    loss = h.sum()
    loss.backward()  # <- loss.backward()
""",
    ),
    "a second derivative of a first without a graph": (
        (),
        """
x = torch.randn(3, requires_grad=True)
first, = torch.autograd.grad(x.pow(3).sum(), x)  # <- torch.autograd.grad(x.pow(3).sum(), x)
second, = torch.autograd.grad(first.sum(), x)
""",
    ),
    "a copy that the output was not computed from": (
        (),
        """
a = torch.randn(3, requires_grad=True)
b = a.clone()  # <- a.clone()
y = a.square().sum()
torch.autograd.grad(y, b)
""",
    ),
    "the gradient of what is no leaf": (
        (),
        """
x = torch.randn(3, requires_grad=True)
h = x.exp()  # <- x.exp()
h.sum().backward()
print(h.grad * 2)
""",
    ),
    "a loss that was not reduced": (
        (),
        """
net = nn.Linear(4, 3)
loss = F.mse_loss(net(torch.randn(6, 4)), torch.zeros(6, 3), reduction="none")
loss.backward()  # <- loss.backward()
""",
    ),
    "a cotangent of the input's shape": (
        (),
        """
x = torch.arange(1.0, 4.0, requires_grad=True)
y = torch.outer(x, x)
torch.autograd.grad(y, x, torch.ones_like(x))  # <- torch.autograd.grad(y, x, torch.ones_like(x))
""",
    ),
    "keys that are not transposed": (
        (),
        """
def attend(q, k, v):
    scores = q @ k  # <- q @ k
    return F.softmax(scores, -1) @ v

q, k, v = (torch.randn(2, 5, 8, requires_grad=True) for _ in range(3))
attend(q, k, v).sum().backward()
""",
    ),
    "sizes that do not broadcast": (
        (),
        """
w = torch.randn(3, requires_grad=True)
X, wanted = torch.randn(5, 3), torch.randn(4)
loss = ((X @ w - wanted) ** 2).mean()  # <- X @ w - wanted
loss.backward()
""",
    ),
    "tensors joined along the wrong axis": (
        (),
        """
a, b = torch.randn(4, 3, requires_grad=True), torch.randn(5, 2, requires_grad=True)
both = torch.cat([a, b], dim=1)  # <- torch.cat([a, b], dim=1)
both.sum().backward()
""",
    ),
    "a class beyond the last": (
        (),
        """
net = nn.Linear(4, 3)
scores, wanted = net(torch.randn(2, 4)), torch.tensor([0, 3])
loss = F.cross_entropy(scores, wanted)  # <- F.cross_entropy(scores, wanted)
loss.backward()
""",
    ),
    "a word beyond the vocabulary": (
        (),
        """
words = nn.Embedding(10, 4)
words(torch.tensor([1, 10])).sum().backward()  # <- words(torch.tensor([1, 10]))
""",
    ),
    "batch norm of a batch of one": (
        (),
        """
net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
net(torch.randn(1, 3)).sum().backward()  # <- net(torch.randn(1, 3))
""",
    ),
    "data in another precision": (
        (),
        """
net = nn.Linear(4, 3)
x = torch.randn(6, 4, dtype=torch.float64)
net(x).sum().backward()  # <- net(x)
""",
    ),
    "an error that is raised anew as another": (
        (),
        """
w = torch.randn(4, requires_grad=True)
try:
    loss = (torch.randn(3, 2) @ w).sum()  # <- torch.randn(3, 2) @ w
except RuntimeError as error:
    raise ValueError("this batch is bad") from error
""",
    ),
    "an error over which another comes up": (
        (),
        """
losses = {}
try:
    losses["first"] = torch.randn(3, requires_grad=True).numpy()  # <- torch.randn(3, requires_grad=True).numpy()
except RuntimeError:
    print(losses["first"])
""",
    ),
    "samples of several lengths": (
        (),
        """
samples = [torch.arange(3), torch.arange(4)]
for batch in torch.utils.data.DataLoader(samples, batch_size=2):  # <- torch.utils.data.DataLoader(samples, batch_size=2)
    batch.sum()
""",
    ),
    "layers in a plain list": (
        (),
        """
class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self._layers = [nn.Linear(3, 3), nn.Linear(3, 3)]

deep = Deep()
torch.optim.SGD(deep.parameters(), lr=0.1)  # <- torch.optim.SGD(deep.parameters(), lr=0.1)
""",
    ),
    "numbers handed to NumPy with their graph": (
        (),
        """
net = nn.Linear(4, 3)
array = net(torch.randn(2, 4)).numpy()  # <- net(torch.randn(2, 4)).numpy()
""",
    ),
    "a logarithm that is masked too late": (
        ("--watch",),
        """
p = torch.tensor([0.3, 0.0, 0.7], requires_grad=True)
entropy = torch.where(p > 0, p * p.log(), torch.zeros(3)).sum()  # <- p.log()
entropy.backward()
""",
    ),
    "a square root at nought": (
        ("--watch",),
        """
x = torch.zeros(3, requires_grad=True)
distance = x.square().sum().sqrt()  # <- x.square().sum().sqrt()
distance.backward()
""",
    ),
    "an exponential beyond its dtype": (
        ("--watch",),
        """
w = torch.full((2,), 60.0, requires_grad=True)
weight = torch.exp(w.sum())  # <- torch.exp(w.sum())
weight.log().backward()
""",
    ),
    "a layer whose units are all off": (
        ("--watch",),
        """
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
net[0].bias.data.fill_(-40.0)
out = net(torch.rand(6, 4))  # <- net.1
F.mse_loss(out, torch.ones(6, 1)).backward()
""",
    ),
    "a backward of one's own with the wrong factor": (
        ("--check", "18"),
        """
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod  # <- Cube.backward
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x**2 * g

Cube.apply(torch.randn(4, requires_grad=True)).sum().backward()
""",
    ),
    "queries projected to another width than keys": (
        (),
        """
class Look(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 6), nn.Linear(8, 4), nn.Linear(8, 8)

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT  # <- self.q(x) @ self.k(x).mT
        return F.softmax(scores / 2, -1) @ self.v(x)

Look()(torch.randn(2, 5, 8)).sum().backward()
""",
    ),
    "a running maximum kept in place": (
        (),
        """
def envelope(signal):
    level = signal * 1.0
    for t in range(1, level.shape[0]):
        level[t] = torch.maximum(level[t], 0.9 * level[t - 1])
    return level

def energy(signal):
    level = envelope(signal)
    loud = level.exp()
    loud.clamp_(max=2.0)  # <- loud.clamp_(max=2.0)
    return loud.sum()

energy(torch.randn(5, requires_grad=True)).backward()
""",
    ),
    "an upsampling that loses a row": (
        (),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(3, 1, 2, stride=2)

    def forward(self, x):
        skip = x
        y = self.up(F.relu(self.down(x)))
        return torch.cat([skip, y], 1)  # <- torch.cat([skip, y], 1)

Net()(torch.randn(1, 1, 9, 9)).mean().backward()
""",
    ),
    "targets of a class more than the prediction": (
        (),
        """
logits = nn.Linear(5, 3)(torch.randn(4, 5))
target = F.one_hot(torch.tensor([0, 2, 1, 1]), 3)
chances = torch.sigmoid(logits[:, :2])
loss = F.binary_cross_entropy(chances, target.float())  # <- F.binary_cross_entropy(chances, target.float())
loss.backward()
""",
    ),
    "a metric through numpy in the loss": (
        (),
        """
model = nn.Linear(3, 1)
x, y = torch.randn(6, 3), torch.randn(6)

def loss_of(prediction):
    error = prediction.squeeze(1) - y
    worst = error.abs().detach().numpy().max()  # <- error.abs().detach().numpy()
    return torch.tensor(worst, dtype=torch.float32)

loss_of(model(x)).backward()
""",
    ),
    "a backward that gives a gradient too few": (
        (),
        """
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, s):
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors
        return g * s

x = torch.randn(4, requires_grad=True)
s = torch.tensor(2.0, requires_grad=True)
y = Scale.apply(x, s)  # <- Scale.apply(x, s)
y.sum().backward()
""",
    ),
    "a covariance that is not positive definite": (
        (),
        """
def log_density(x, a):
    cov = a + a.T
    chol = torch.linalg.cholesky(cov)  # <- torch.linalg.cholesky(cov)
    z = torch.linalg.solve_triangular(chol, x[:, None], upper=False)
    return -z.square().sum() - chol.diagonal().log().sum()

a = torch.tensor([[1.0, 5.0], [0.0, 1.0]], requires_grad=True)
log_density(torch.ones(2), a).backward()
""",
    ),
    "a gradient penalty without a graph": (
        (),
        """
critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
x = torch.randn(6, 2, requires_grad=True)
(slope,) = torch.autograd.grad(critic(x).sum(), x)  # <- torch.autograd.grad(critic(x).sum(), x)
penalty = (slope.norm(dim=1) - 1).square().mean()
penalty.backward()
""",
    ),
    "a distance of a point to itself": (
        ("--watch",),
        """
points = nn.Parameter(torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]]))
step = torch.optim.SGD([points], 0.1)
for _ in range(3):
    step.zero_grad()
    gap = points[:, None] - points[None]
    far = gap.square().sum(-1).sqrt()  # <- gap.square().sum(-1).sqrt()
    far.triu(1).sum().backward()
    step.step()
""",
    ),
    "a backward that forgets the chain": (
        ("--check", "20"),
        """
class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod  # <- Swish.backward
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 - s)

x = torch.randn(5, requires_grad=True)
Swish.apply(x).sum().backward()
""",
    ),
    "a backward that returns what forward's result looks like": (
        (),
        """
class Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sum(0)

    @staticmethod
    def backward(ctx, g):
        return g[:2]

h = torch.randn(4, 3, requires_grad=True).exp()
kept = Total.apply(h)  # <- Total.apply(h)
kept.square().mean().backward()
""",
    ),
    "a model of which nothing is trained": (
        (),
        """
net = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
net.add_module("head", nn.Linear(3, 2))
for p in net.parameters():
    p.requires_grad = False  # <- p.requires_grad = False
F.cross_entropy(net(torch.randn(5, 4)), torch.tensor([0, 1, 1, 0, 1])).backward()
""",
    ),
    "weights that are scaled before they are trained": (
        (),
        """
def weights(n, m):
    return torch.randn(n, m, requires_grad=True) * n**-0.5  # <- torch.randn(n, m, requires_grad=True) * n**-0.5

layers = [torch.zeros(2, requires_grad=True), weights(3, 2)]
optimizer = torch.optim.Adam(layers, lr=0.1)
""",
    ),
    "rewards weighed by numbers, not by their graph": (
        (),
        """
policy, kept = nn.Linear(3, 2), []
for state in torch.randn(4, 3):
    chances = torch.distributions.Categorical(logits=policy(state))
    action = chances.sample()
    kept.append(chances.log_prob(action).item())  # <- chances.log_prob(action).item()
    reward = float(action.item())
returns = torch.tensor([reward * 0.9**k for k in range(4)])
torch.stack([-kept[k] * returns[k] for k in range(4)]).sum().backward()
""",
    ),
    "numbers of a policy times those that were drawn": (
        (),
        """
policy, kept, rewards = nn.Linear(3, 2), [], []
for state in torch.randn(4, 3):
    chances = torch.distributions.Categorical(logits=policy(state))
    action = chances.sample()
    kept.append(chances.log_prob(action).item())  # <- chances.log_prob(action).item()
    rewards.append(float(action))
loss = -(torch.tensor(kept) * torch.tensor(rewards)).sum()
loss.backward()
""",
    ),
    "a net that is frozen at two places": (
        (),
        """
net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
net[1].weight.requires_grad_(False)
for parameter in net.parameters():
    if parameter.requires_grad:
        parameter.requires_grad = False  # <- parameter.requires_grad = False
net(torch.ones(2, 3)).sum().backward()
""",
    ),
    "a norm of gradients that were cleared": (
        (),
        """
net = nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(2, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad()
print(sum(p.grad.norm() ** 2 for p in net.parameters()))  # <- p.grad.norm
""",
    ),
    "a softmax over the only class": (
        ("--watch",),
        """
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
chance = net(torch.randn(6, 4)).softmax(1)  # <- net(torch.randn(6, 4)).softmax(1)
F.binary_cross_entropy(chance, torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0], [1.0]])).backward()
""",
    ),
    "a sentence of which every word is masked": (
        ("--watch",),
        """
words = nn.Linear(3, 3)(torch.randn(2, 4, 3))
masked = words.sum(-1).masked_fill(torch.tensor([[False, True, True, False], [True] * 4]), float("-inf"))
weights = masked.softmax(-1)  # <- masked.softmax(-1)
(weights.unsqueeze(-1) * words).sum().backward()
""",
    ),
    "a head on maps that are not flattened": (
        (),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps, self.head = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2)), nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.maps(x))  # <- self.head(self.maps(x))

Net()(torch.randn(5, 1, 8, 8)).sum().backward()
""",
    ),
    "a signal with its channels last": (
        (),
        """
net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU())
windows = torch.randn(2, 9, 3)
net(windows).mean().backward()  # <- net(windows)
""",
    ),
    "a checkpoint that is given data alone": (
        (),
        """
from torch.utils.checkpoint import checkpoint
net = nn.Linear(3, 3)
out = checkpoint(net, torch.randn(2, 3), use_reentrant=True)  # <- checkpoint(net, torch.randn(2, 3), use_reentrant=True)
out.sum().backward()
""",
    ),
    "inner steps by the first weights": (
        (),
        """
def adapt(w, x, wanted, steps):
    fast = w
    for _ in range(steps):
        loss = F.mse_loss(x @ fast, wanted)
        (g,) = torch.autograd.grad(loss, w)  # <- torch.autograd.grad(loss, w)
        fast = (fast - 0.1 * g).detach().requires_grad_()
    return fast

adapt(torch.randn(3, requires_grad=True), torch.randn(5, 3), torch.randn(5), 2)
""",
    ),
    "a second derivative of what is linear": (
        (),
        """
def slope(y, x):
    v = torch.ones_like(y)
    return torch.autograd.grad(y, x, v, create_graph=True)[0]  # <- torch.autograd.grad(y, x, v, create_graph=True)

a = torch.tensor(2.0, requires_grad=True)
x = torch.rand(4, requires_grad=True)
curvature = slope(slope(a * x, x), x)
""",
    ),
    "a loss class that is not called": (
        (),
        """
net = nn.Linear(3, 2)
x, wanted = torch.randn(4, 3), torch.randn(4, 2)
nn.MSELoss(net(x), wanted).backward()  # <- nn.MSELoss(net(x), wanted)
""",
    ),
    "more positions than the table has": (
        (),
        """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 6), nn.Embedding(4, 6)

    def forward(self, ids):
        return self.words(ids) + self.places(torch.arange(ids.shape[1]))  # <- self.places(torch.arange(ids.shape[1]))

Model()(torch.randint(0, 9, (2, 5))).sum().backward()
""",
    ),
    "gradients unscaled twice": (
        (),
        """
net = nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
for _ in range(2):
    scaler.scale(net(torch.randn(5, 3)).mean()).backward()
    scaler.unscale_(optimizer)  # <- scaler.unscale_(optimizer)
""",
    ),
    "a state without the axis of layers": (
        (),
        """
coder, reader = nn.Linear(4, 6), nn.LSTM(3, 6, batch_first=True)
start = torch.tanh(coder(torch.randn(2, 4)))
out, _ = reader(torch.randn(2, 5, 3), (start, start))  # <- reader(torch.randn(2, 5, 3), (start, start))
""",
    ),
    "parts of a state changed in place": (
        (),
        """
force = nn.Linear(2, 1)
state = torch.randn(3, 2)
place, speed = state.unbind(-1)
speed += 0.1 * force(state)[:, 0]  # <- speed += 0.1 * force(state)[:, 0]
""",
    ),
    "a module copied with what it computed last": (
        (),
        """
import copy

class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, x):
        self.last = self.net(x)  # <- self.net(x)
        return self.last

online = Remembering()
online(torch.randn(1, 3))
target = copy.deepcopy(online)
""",
    ),
    "an angle of nought": (
        ("--watch",),
        """
a = torch.tensor([1.0, 0.0], requires_grad=True)
angle = torch.acos(a @ torch.tensor([1.0, 0.0]))  # <- torch.acos(a @ torch.tensor([1.0, 0.0]))
angle.square().backward()
""",
    ),
    "a spread of one sample": (
        ("--watch",),
        """
value = nn.Linear(3, 1)(torch.randn(1, 3))
scaled = (value - value.mean()) / (value.std() + 1e-8)  # <- value.std()
scaled.sum().backward()
""",
    ),
    "outputs written into one tensor": (
        (),
        """
cell = nn.Linear(4, 4)
states = torch.zeros(2, 4, 4)
for t in range(3):
    states[:, t + 1] = torch.tanh(cell(states[:, t]))  # <- states[:, t + 1] = torch.tanh(cell(states[:, t]))
states.sum().backward()
""",
    ),
    "a scale by the math module": (
        (),
        """
import math
class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x * math.exp(self.log_scale)  # <- x * math.exp(self.log_scale)
(Scaled()(torch.randn(5)) - 1).square().sum().backward()
""",
    ),
    "a loss by NumPy of what was detached": (
        (),
        """
import numpy as np
net = nn.Linear(4, 1)
def loss_of(prediction, wanted):
    apart = np.abs(prediction.detach().numpy() - wanted.numpy())  # <- prediction.detach()
    return torch.from_numpy(np.where(apart < 1, apart**2 / 2, apart - 0.5)).mean()
loss_of(net(torch.randn(9, 4)), torch.randn(9, 1)).backward()
""",
    ),
    "a module where a function is meant": (
        (),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return nn.Softmax(self.head(x), dim=1)  # <- nn.Softmax(self.head(x), dim=1)
F.nll_loss(Net()(torch.randn(2, 4)), torch.tensor([0, 1])).backward()
""",
    ),
    "a module that is not begun": (
        (),
        """
class Net(nn.Module):
    def __init__(self):
        self.head = nn.Linear(3, 1)  # <- self.head = nn.Linear(3, 1)
Net()
""",
    ),
    "a sum of numbers as a loss": (
        (),
        """
net, total = nn.Linear(3, 1), 0
for _ in range(3):
    total += net(torch.randn(4, 3)).square().mean().item()  # <- net(torch.randn(4, 3)).square().mean().item()
total.backward()
""",
    ),
    "a critic on what the generator was trained with": (
        (),
        """
make, judge = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)), nn.Linear(3, 1)
optimizer = torch.optim.Adam(make.parameters())
fake = make(torch.randn(5, 2))
judge(fake).mean().backward()  # <- judge(fake).mean().backward()
optimizer.step()
(judge(torch.randn(5, 3)) - judge(fake)).mean().backward()
""",
    ),
    "heads that are joined again without a copy": (
        (),
        """
def joined(heads):
    return heads.transpose(1, 2).view(2, 5, 12)  # <- heads.transpose(1, 2).view(2, 5, 12)
joined(torch.randn(2, 3, 5, 4, requires_grad=True)).sum().backward()
""",
    ),
    "a forward that returns nothing": (
        (),
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        x = self.head(x)
prediction = Net()(torch.randn(5, 3))
F.mse_loss(prediction, torch.zeros(5, 1)).backward()  # <- F.mse_loss(prediction, torch.zeros(5, 1))
""",
    ),
    "a function without a backward": (
        (),
        """
class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sign()

net = nn.Linear(3, 2)
signs = Sign.apply(net(torch.randn(4, 3)))  # <- Sign.apply(net(torch.randn(4, 3)))
signs.sum().backward()
""",
    ),
    "queries and keys whose batch comes first": (
        (),
        """
attention = nn.MultiheadAttention(embed_dim=8, num_heads=2)
frames = torch.randn(2, 5, 8)
query = frames.mean(1, keepdim=True)
pooled, weights = attention(query, frames, frames)  # <- attention(query, frames, frames)
pooled.sum().backward()
""",
    ),
    "the outputs of a recurrent layer with its state": (
        (),
        """
rnn, head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)
hidden = rnn(torch.randn(2, 5, 3))
head(hidden).sum().backward()  # <- head(hidden)
""",
    ),
    "points of a penalty that are constants": (
        (),
        """
critic, made = nn.Linear(2, 1), nn.Linear(2, 2)(torch.randn(4, 2))
between = (torch.randn(4, 2) + made.detach()) / 2  # <- (torch.randn(4, 2) + made.detach()) / 2
(slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
(slope.norm(dim=1) - 1).square().mean().backward()
""",
    ),
    "messages added up by a vector of indices": (
        (),
        """
h, to = torch.randn(5, 4), torch.tensor([1, 2, 3])
message = nn.Linear(4, 4)(h[:3])
total = torch.zeros_like(h).scatter_add(0, to, message)  # <- torch.zeros_like(h).scatter_add(0, to, message)
total.sum().backward()
""",
    ),
    "a time beside a batch of states": (
        (),
        """
net, y = nn.Linear(3, 2), torch.randn(4, 2)
for t in torch.linspace(0, 1, 3):
    y = y + 0.5 * net(torch.cat([y, t], -1))  # <- torch.cat([y, t], -1)
y.sum().backward()
""",
    ),
    "a queue of keys written to before its backward pass": (
        (),
        """
class Queue(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.at = nn.Linear(5, 3), 0
        self.register_buffer("keys", torch.randn(3, 8))

    @torch.no_grad()
    def push(self, keys):
        self.keys[:, self.at:self.at + 2] = keys.T  # <- self.keys[:, self.at:self.at + 2] = keys.T
        self.at = (self.at + 2) % 8

    def forward(self, x):
        q = F.normalize(self.encoder(x), dim=1)
        scores = q @ self.keys
        self.push(q.detach())
        return scores
Queue()(torch.randn(2, 5)).logsumexp(1).mean().backward()
""",
    ),
    "a memory that moves on through a view": (
        (),
        """
memory, net = torch.zeros(4, 3), nn.Linear(3, 3)
for turn in range(2):
    read = net(torch.randn(2, 3)) * memory[:2]
    memory[:2].mul_(0.9).add_(read.detach(), alpha=0.1)  # <- memory[:2].mul_(0.9)
    read.square().sum().backward()
""",
    ),
    "weights set to nought, a row at a time, between forward and backward": (
        (),
        """
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
loss = net(torch.randn(5, 3)).square().mean()
with torch.no_grad():
    for row in net[2].weight:
        row.zero_()  # <- row.zero_()
loss.backward()
""",
    ),
    "features of inference mode": (
        (),
        """
class Probe(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

    @torch.inference_mode()
    def features(self, x):
        return torch.relu(self.body(x))  # <- torch.relu(self.body(x))

    def forward(self, x):
        return self.head(self.features(x))
Probe()(torch.randn(3, 4)).sum().backward()
""",
    ),
    "anomaly detection, which knows the name of a node alone": (
        (),
        """
import warnings
warnings.simplefilter("ignore")
p = nn.Linear(3, 2)(torch.randn(6, 3)).relu()
entropy = -(p * torch.log(p)).nansum(-1)  # <- torch.log(p)
with torch.autograd.set_detect_anomaly(True):
    entropy.mean().backward()
""",
    ),
    "layers that are left out under a checkpoint": (
        (),
        """
from torch.utils.checkpoint import checkpoint

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.runs = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)]), 0

    def run(self, x):  # <- def run(self, x):
        self.runs += 1
        for layer in self.layers[:3 if self.runs % 2 else 1]:
            x = torch.tanh(layer(x))
        return x

    def forward(self, x):
        return checkpoint(self.run, x, use_reentrant=False)
Deep()(torch.randn(2, 3)).sum().backward()
""",
    ),
}
"""By what is wrong: the options, and the program behind `HEAD`."""
