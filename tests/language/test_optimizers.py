"""Steps of optimizers against Python that runs the same text."""

from __future__ import annotations

import contextlib
import io
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor

import jvpcli
from jvpcli.errors import JvpError
from jvpcli.language.pasted import as_meant
from jvpcli.request import Request

HEAD = """\
import torch
import torch.nn as nn
import torch.optim as optim
torch.manual_seed(0)
X, Y = torch.randn(6, 2), torch.randn(6, 1)
w = torch.tensor([[1.], [-2.]], requires_grad=True)
b = torch.zeros(1, requires_grad=True)
net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
"""

LEAVES = """
for k in range(5):
    opt.zero_grad()
    loss = ((X @ w + b - Y) ** 2).mean()
    loss.backward()
    opt.step()
    {}
"""

MODULES = LEAVES.replace("X @ w + b", "net(X)")

OPTIMIZERS = [
    "SGD({}, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01)",
    "SGD({}, 0.1, momentum=0.9, nesterov=True, maximize=True)",
    "Adam({}, lr=0.05, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1, amsgrad=True)",
    "AdamW({}, lr=0.05)",
    "RMSprop({}, lr=0.05, alpha=0.9, momentum=0.5, centered=True)",
    "Adagrad({}, lr=0.05, lr_decay=0.1, initial_accumulator_value=0.1)",
    "Adadelta({}, lr=0.5, rho=0.8)",
    "Adamax({}, lr=0.05)",
    "NAdam({}, lr=0.05, momentum_decay=0.01)",
    "RAdam({}, lr=0.05, foreach=False)",
    "Rprop({}, lr=0.05, etas=(0.4, 1.3), step_sizes=(1e-5, 10))",
    "ASGD({}, lr=0.05, lambd=0.01, t0=2)",
]

SCHEDULES = [
    "StepLR(opt, step_size=2, gamma=0.5)",
    "MultiStepLR(opt, milestones=[2, 4])",
    "ExponentialLR(opt, 0.9)",
    "ConstantLR(opt, factor=0.5, total_iters=3)",
    "LinearLR(optimizer=opt, start_factor=0.1, total_iters=4)",
    "PolynomialLR(opt, total_iters=8, power=2.0)",
    "CosineAnnealingLR(opt, T_max=5, eta_min=0.001)",
    "CosineAnnealingWarmRestarts(opt, T_0=2)",
    "LambdaLR(opt, lr_lambda=[lambda k: 1 / (1 + k)])",
    "MultiplicativeLR(opt, lambda k: 0.95)",
    "OneCycleLR(opt, max_lr=0.2, total_steps=10)",
    "CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=2)",
    "ReduceLROnPlateau(opt, patience=0)",
]

PROGRAMS = {
    "gradients that are cleared in some turns alone, and never": """
        opt, other = optim.SGD(net.parameters(), lr=0.1, momentum=0.9), optim.SGD([w], lr=0.1)
        opt.zero_grad()
        for k in range(7):
            loss = ((net(X[k % 6]) - Y[k % 6]) * (X @ w).mean()).pow(2).mean()
            (loss / 3).backward()
            other.step()
            if (k + 1) % 3 == 0:
                opt.step()
                opt.zero_grad()
        """,
    "groups, gradients and weights that are written to": """
        def adjust(optimizer, epoch):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * 0.5 ** epoch
        opt = optim.SGD(net[0].parameters(), lr=1.0, momentum=0.5)
        opt.add_param_group({"params": net[2].parameters(), "weight_decay": 0.1})
        plan = optim.lr_scheduler.ExponentialLR(opt, 0.9)
        for k in range(4):
            adjust(opt, k)
            opt.param_groups[1]["lr"] *= 0.7
            opt.zero_grad()
            loss = (net(X) - Y).pow(2).mean()
            loss.backward()
            for p in net.parameters():
                p.grad *= 0.5
                p.grad = p.grad / 2
                p.grad.clamp_(-0.05, 0.05)
            opt.step()
            plan.step()
            for p in net.parameters():
                p.data.clamp_(-0.6, 0.6).mul_(0.99)
            print(opt.param_groups[0]["lr"])
        """,
    "copies, and targets that follow": """
        import copy
        class Net(nn.Module):
            def __init__(self, k):
                super().__init__()
                self.body, self.head = nn.Linear(2, k), nn.Linear(k, 1)
            def forward(self, x):
                return self.head(torch.tanh(self.body(x)))
        actor, critic = Net(3), Net(2)
        target, mean = copy.deepcopy(actor), copy.deepcopy(critic).requires_grad_(False)
        other = Net(3)
        other.load_state_dict(actor.state_dict())
        opt = optim.Adam([*actor.parameters(), *critic.parameters()], lr=0.05)
        @torch.no_grad()
        def follow(slow, fast, tau=0.1):
            for p, q in zip(slow.parameters(), fast.parameters()):
                p.mul_(1 - tau).add_(q, alpha=tau)
        for k in range(5):
            y = target(X).detach() * 0.9 + Y
            loss = ((actor(X) - y) * critic(X) + other(X) + mean(X)).pow(2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            follow(mean, critic)
            for p, q in zip(target.parameters(), actor.parameters()):
                p.data.copy_(0.2 * q.data + 0.8 * p.data)
            if k % 2 == 0:
                other.load_state_dict(actor.state_dict())
        last = copy.deepcopy(actor)
        opt.zero_grad()
        other.zero_grad()
        out = (actor(X) * last(X).detach() + other(X)).sum()
        out.backward()
        """,
    "LBFGS, which asks last where it has not moved to": """
        opt = optim.LBFGS([*net.parameters(), w], lr=0.5, max_iter=3, line_search_fn="strong_wolfe")
        count = [0]
        while count[0] < 12:
            def closure():
                with torch.no_grad():
                    w.clamp_(-1, 1)
                opt.zero_grad()
                loss = (net(X) * (X @ w) - Y).pow(2).mean()
                loss.backward()
                count[0] += 1
                return loss
            opt.step(closure)
        """,
    "what goes on from turn to turn beside modules": """
        cell, head = nn.GRUCell(2, 3), nn.Linear(3, 1)
        opt = optim.SGD([{"params": cell.parameters()}, {"params": head.parameters(), "lr": 0.02}], lr=0.1)
        for epoch in range(2):
            h, scale = torch.zeros(1, 3), 1.0
            for t in range(0, 6, 2):
                h, scale = h.detach(), scale * 0.9
                for k in range(2):
                    h = cell(X[t + k:t + k + 1], h)
                loss = scale * (head(h) - Y[t:t + 1]).pow(2).sum()
                opt.zero_grad()
                loss.backward()
                opt.step()
        """,
    "random batches for leaves, moved by a function": """
        def sgd(params, rate):
            with torch.no_grad():
                for p in params:
                    p -= rate * p.grad
                    p.grad.zero_()
        for epoch in range(2):
            order = torch.randperm(6)
            for k in range(0, 6, 2):
                i = order[k:k + 2]
                loss = ((X[i] + torch.randn(2, 2)) @ w + b - Y[i]).pow(2).mean()
                loss.backward()
                sgd([w, b], 0.1)
        """,
    "steps one by one": """
        opt = optim.Adam([w, b], lr=0.1)
        for_each = lambda: ((X @ w + b - Y) ** 2).mean()
        for_each().backward()
        opt.step()
        opt.zero_grad()
        (w ** 3).sum().backward()
        opt.step()
        opt.zero_grad()
        loss = for_each()
        loss.backward()
        """,
    "groups, clipping, gradients that are kept as zeros": """
        params = [{"params": net[0].parameters()}, {"params": [net[2].weight, net[2].bias], "lr": 0.5}]
        opt = optim.SGD(params, lr=0.1, momentum=0.9)
        for k in range(4):
            loss = ((net(X) - Y) ** 2).sum()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), max_norm=0.5)
            nn.utils.clip_grad_value_(net.parameters(), 0.2)
            opt.step()
            opt.zero_grad(set_to_none=False)
            opt.step()
        out = net(X).pow(2).mean()
        out.backward()
        """,
    "batches, dropout and epochs": """
        m = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        opt = optim.SGD(m.parameters(), lr=0.1)
        for epoch in range(3):
            for k in range(0, 6, 2):
                opt.zero_grad()
                loss = nn.functional.mse_loss(m(X[k:k + 2]), Y[k:k + 2])
                loss.backward()
                opt.step()
            print(epoch, loss.item())
        """,
    "batches of a loader": """
        from torch.utils.data import DataLoader, TensorDataset
        data = TensorDataset(X, Y)
        loader, opt = DataLoader(data, batch_size=4, shuffle=False), optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for epoch in range(2):
            total = 0.
            for xb, yb in loader:
                opt.zero_grad()
                loss = ((net(xb) - yb) ** 2).mean()
                loss.backward()
                opt.step()
                total += loss.item() * len(xb)
            print(epoch, total / len(data), len(loader))
        opt.zero_grad()
        out = sum(net(x).sum() * y.mean() for x, y in DataLoader(TensorDataset(X, Y), 4, drop_last=True)) * len(data)
        out.backward()
        """,
    "a class, trained by a function that is called twice": """
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(2, 1)
                self.scale = nn.Parameter(torch.ones(1))
            def forward(self, x):
                return self.scale * torch.tanh(self.fc(x))
        def train(model, opt, n):
            for _ in range(n):
                opt.zero_grad()
                loss = ((model(X) - Y) ** 2).mean()
                loss.backward()
                opt.step()
        model = Model()
        opt = optim.RMSprop(model.parameters(), lr=0.01)
        train(model, opt, 3)
        train(model, opt, 2)
        opt.zero_grad()
        out = model(X).sum()
        out.backward()
        """,
    "two optimizers, one of which moves what the other's loss reads": """
        G, D = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
        optG, optD = optim.Adam(G.parameters(), lr=0.01), optim.Adam(D.parameters(), lr=0.02)
        for k in range(3):
            z = torch.randn(6, 2)
            fake = G(z)
            optD.zero_grad()
            lossD = (D(torch.randn(6, 3)) - 1).pow(2).mean() + D(fake.detach()).pow(2).mean()
            lossD.backward()
            optD.step()
            optG.zero_grad()
            D.zero_grad()
            lossG = (D(fake) - 1).pow(2).mean()
            lossG.backward()
            optG.step()
        """,
    "leaves and modules together": """
        lam = nn.Parameter(torch.tensor(0.5))
        opt = optim.Adam(list(net.parameters()) + [lam], lr=0.01)
        for k in range(4):
            opt.zero_grad()
            loss = ((net(X) - lam * Y) ** 2).mean()
            loss.backward()
            opt.step()
        """,
    "a closure": """
        opt = optim.SGD([w], lr=0.1)
        def closure():
            opt.zero_grad()
            loss = (X @ w - Y).pow(2).mean()
            loss.backward()
            return loss
        opt.step(closure)
        opt.zero_grad()
        loss = (X @ w).pow(2).sum()
        loss.backward()
        """,
    "functions that are given modules, optimizers and losses under other names": """
        m2 = nn.Linear(2, 1)
        def make(model, lr=0.1):
            o = optim.SGD(model.parameters(), lr=lr, momentum=0.5)
            return o, optim.lr_scheduler.StepLR(o, 1)
        def reg(net, k=2):
            return sum(p.pow(k).sum() for p in net.parameters())
        def step(net, o, x, y, crit, sched=None):
            o.zero_grad()
            loss = crit(net(x), y) + reg(m2, 3) * reg(net)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.3)
            o.step()
            return loss.item()
        opt, plan = make(net)
        losses = []
        for k in range(4):
            losses.append(step(net, opt, X, Y, nn.MSELoss()))
            plan.step()
        opt.zero_grad()
        for p in m2.parameters(): p.grad = None
        (reg(net) * reg(m2)).backward()
        """,
    "a closure that ends the program, in a loop": """
        opt = optim.Adam(net.parameters(), lr=0.1)
        for k in range(3):
            def closure():
                opt.zero_grad()
                loss = (net(X) - Y).pow(2).mean()
                loss.backward()
                return loss
            l = opt.step(closure)
            print(l.item())
        """,
    "shared parameters, by a module's parameters and in a list": """
        net[2].weight = nn.Parameter(torch.ones(1, 3))
        one, two = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        two[0].weight = one.weight
        scale = torch.ones(1, requires_grad=True)
        opt, other = optim.Adam([*one.parameters(), two[0].bias, scale], lr=0.1), optim.SGD(net.parameters(), lr=0.1)
        for k in range(3):
            loss = (net(X).exp() * scale + two(one(torch.ones(6, 3))) ** 2).mean()
            for each in (opt, other):
                each.zero_grad()
            loss.backward()
            for each in (opt, other):
                each.step()
        """,
    "modes that are set before, and that change nothing": """
        m = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)).eval()
        opt = optim.SGD([*m.parameters(), *net.parameters()], lr=0.1)
        for k in range(3):
            net.train()
            opt.zero_grad()
            loss = ((m(X) + net(X) - Y) ** 2).mean()
            loss.backward()
            opt.step()
            net.eval()
            print(net(X))
        """,
    "optimizers by other names, without one, and given to a function": """
        def turn(model, o):
            o.zero_grad()
            loss = (model(X) - Y).pow(2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters=net.parameters(), max_norm=0.1, norm_type=1)
            o.step()
        opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        alias = opt
        for k in range(2):
            turn(net, alias)
        optim.SGD(net.parameters(), lr=0.5).step()
        opts = [optim.SGD(net[0].parameters(), lr=0.5), optim.Adam([net[2].bias], lr=0.2)]
        for o in opts:
            o.step()
        def closure():
            opt.zero_grad()
            loss = net(X).pow(2).mean()
            loss.backward()
            return loss
        loss = opt.step(closure)
        print(loss.item())
        opt.zero_grad()
        out = net(X).sum() * (2 if opt else 3)
        out.backward()
        """,
    "a gradient by an input inside of the loss": """
        t = torch.linspace(0, 1, 6).view(-1, 1).repeat(1, 2).requires_grad_(True)
        opt = optim.Adam(net.parameters(), lr=0.01)
        for k in range(3):
            opt.zero_grad()
            t.grad = None
            u = net(t)
            du = torch.autograd.grad(u, t, grad_outputs=torch.ones_like(u), create_graph=True)[0]
            loss = (du + u).pow(2).mean()
            loss.backward()
            opt.step()
        """,
    "batches of one each": """
        from torch.utils.data import DataLoader, TensorDataset
        for xb, yb in DataLoader(TensorDataset(X, Y)):
            net.zero_grad()
            out = (net(xb) * yb).sum()
            out.backward()
        """,
    "what is moved by hand": """
        for k in range(3):
            loss = (net(X) * Y).pow(2).sum()
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.01 * p.grad
        """,
}


def plainly(text: str) -> dict[str, Any]:
    """What a program's names mean at its end in Python, and under GRADS what its `.grad`s hold behind the last backward."""
    scope: dict[str, Any] = {}
    backward = Tensor.backward

    def watched(y: Tensor, *arguments: Any, **keywords: Any) -> None:
        backward(y, *arguments, **keywords)
        modules = {name: x for name, x in scope.items() if isinstance(x, torch.nn.Module)}
        named = [(f"{name}.{path}", x) for name, net in modules.items() for path, x in net.named_parameters()]
        leaves = [(name, x) for name, x in scope.items() if isinstance(x, Tensor) and x.is_leaf]
        scope["GRADS"] = {name: x.grad.clone() for name, x in (*named, *leaves) if x.grad is not None}

    with contextlib.redirect_stdout(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "backward", watched)
        exec(text, scope)
    return scope


def texts() -> dict[str, str]:
    found = {}
    for maker in OPTIMIZERS:
        found[maker] = f"opt = optim.{maker.format('[w, b]')}{LEAVES.format('')}"
    for maker in SCHEDULES:
        step = "sched.step(loss.item())" if "Plateau" in maker else "sched.step()"
        made = f"sched = optim.lr_scheduler.{maker}"
        found[maker] = f"opt = optim.SGD([w, b], lr=0.1, momentum=0.5)\n{made}{LEAVES.format(step)}"
    return found


def follows(text: str) -> None:
    theirs, found = plainly(text)["GRADS"], jvpcli.inspect(text)
    assert found.vjp
    for name, mine in found.vjp.items():  # of a weight to which no gradient goes it is 0
        torch.testing.assert_close(mine, theirs.get(name, torch.zeros_like(mine)), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(4))
def test_steps_are_torchs(number: int) -> None:
    for text in list(texts().values())[number::4]:
        follows(HEAD + text)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_train_as_python_does(name: str) -> None:
    follows(HEAD + textwrap.dedent(PROGRAMS[name]))


def test_a_function_that_derives_by_what_it_is_given() -> None:
    given = {
        "def of(model, x):\n    return torch.autograd.grad(model(x).sum(), model.parameters())\n": "of(net, X)",
        "def of(params, y):\n    return torch.autograd.grad(y.sum(), params)\n": "of(list(net.parameters()), net(X))",
    }
    for function, call in given.items():
        scope, found = plainly(f"{HEAD}{function}found = {call}"), jvpcli.inspect(f"{HEAD}{function}found = {call}")
        assert found.vjp
        for (name, _), theirs in zip(scope["net"].named_parameters(), scope["found"], strict=True):
            torch.testing.assert_close(found.vjp[f"net.{name}"], theirs)


def test_what_is_carried_out_is_not_passed_over() -> None:
    steps = "(w ** 2).sum().backward()\nopt.step()\nopt.zero_grad()\n(w ** 3).sum().backward()\n"
    text = f"{HEAD}opt = optim.SGD([w], lr=0.1)\n{steps}"
    found = jvpcli.inspect(f"{text}opt.step()\nprint(w)\n").to_dict()
    assert [(each["what"], each["line"]) for each in found["passed_over"]] == [("step", 14)]


HELD = ".grad holds what calls before have added to it, and so does the result"


@pytest.mark.parametrize("weights", ["net(X)", "X @ w"])
def test_what_is_left_in_grad_is_a_part_of_the_result(weights: str) -> None:
    lines = ["opt.zero_grad()", f"loss = ({weights}).pow(2).sum()", "loss.backward()", "opt.step()", "opt.zero_grad()"]
    given = "net.parameters()" if "net" in weights else "[w]"
    other = ["opt.zero_grad()", f"loss = (b * {weights}).sum()", "loss.backward()", "opt.step()"]
    for body, left in ((lines[:4], 0), (lines[1:], 0), (lines[1:4], 1), (other, 1), ([*other, "b.grad = None"], 0)):
        text = f"{HEAD}opt = optim.SGD({given}, lr=0.1)\nfor k in range(3):\n    {'; '.join(body)}\n"
        assert sum(note.startswith(HELD) for note in as_meant(Request(text)).notes) == left
        follows(text)


REFUSED = {
    "opt = optim.LBFGS([w])\nopt.step(lambda: 'a')": "`step` failed: could not convert string to float: 'a'",
    "opt = optim.SGD([w], lr=-1)": "`SGD` failed: Invalid learning rate: -1",
    "opt = optim.Adam([w], fused=True)": "`fused` of `Adam`",
    "opt = optim.SGD([w], lr=torch.tensor(0.1))": "not a tensor of shape ()",
    "opt = optim.SGD([{'params': [w], 'lr': w}], lr=0.1)": "not a tensor of shape (2, 1)",
    "opt = optim.SGD([{'params': [w], 'hook': 1}], lr=0.1)": "no `hook`",
    "opt = optim.SGD([w, w.detach() + 1], lr=print)": "not",
    "opt = optim.Muon([w])": "`torch.optim.Muon` is not carried out here",
    "from torch.utils import data as D\nopt = optim.SGD([w])\nd = D.DataLoader(D.TensorDataset(X), 2, True)": "that shuffles",
    "import torch.utils.data as D\nopt = optim.SGD([w])\nd = D.DataLoader(D.TensorDataset(X))\nX += 1": "a DataLoader over",
    "opt = optim.SGD({'params': [w]}, lr=0.1)": "A dictionary can't stand here",
    "opt = optim.SGD([{'params': optim.SGD([w])}], lr=0.1)": "and not an optimizer or schedule",
    "y = (w ** 2).sum()\nopt = optim.SGD([w], lr=0.1)": "`y` is computed before a step",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_can_not_be_carried_out_is_named(line: str) -> None:
    after = "y.backward()" if line.startswith("y") else "(w ** 3).sum().backward()"
    text = f"{HEAD}{line}\n(w ** 2).sum().backward()\nopt.step()\nopt.zero_grad()\n{after}\n"
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(text)
    assert REFUSED[line] in f"{caught.value.message}"


PARTS = "m = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1))\nopt = optim.SGD(m.parameters(), lr=0.1)\n"

CHANGED = {
    "m.train()": "",
    "m.eval()": "`m` has one mode throughout a program here",
    "m[2] = nn.Linear(3, 1)": "`m` gets a part here behind an optimizer",
}


@pytest.mark.parametrize("line", CHANGED)
def test_modules_that_change_behind_their_optimizer_are_refused(line: str) -> None:
    before, behind = (line, "") if "=" in line else ("", line)
    steps = "(m(X) ** 2).sum().backward()\nopt.step()\nopt.zero_grad()"
    text = f"{HEAD}{PARTS}{before}\n{steps}\n{behind}\nm(X).sum().backward()\n"
    if not CHANGED[line]:
        return follows(text)
    with pytest.raises(JvpError) as caught:
        jvpcli.inspect(text)
    assert CHANGED[line] in caught.value.message
