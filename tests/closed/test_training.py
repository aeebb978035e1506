"""Programs that train, or derive in loops and functions: the last derivative is that of Python running the same text."""

from __future__ import annotations

import gc
import textwrap

import pytest
import torch
from executed import by_python, fits

from jvpcli.answers import report_of
from jvpcli.closed.execution import Settings, compiled, run_through
from jvpcli.language.pasted import as_meant
from jvpcli.render.json import to_dict
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
    "Adafactor({}, lr=0.05)",
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
    "rows by functions called jacobian and hessian": """
        def jacobian(y, x, create_graph=False):
            rows = []
            flat = y.reshape(-1)
            for one in torch.eye(len(flat)):
                g, = torch.autograd.grad(flat, x, one, retain_graph=True, create_graph=create_graph)
                rows.append(g.reshape(x.shape))
            return torch.stack(rows).reshape(y.shape + x.shape)
        def hessian(y, x):
            return jacobian(jacobian(y, x, create_graph=True), x)
        t = torch.tensor([0.5, 1.5], requires_grad=True)

        def f(x):
            return (x ** 4).prod()
        hessian(f(t), t)
        """,
    "a gradient taken apart and joined": """
        def flat(y, x):
            g = torch.autograd.grad(y, x)
            g = torch.cat([part.view(-1) for part in g])
            return g
        t = torch.arange(4, dtype=torch.float32, requires_grad=True)
        flat((t ** 3).sum(), t)
        """,
    "gradients along a path, by a function with defaults": """
        def along(f, t, start=None, steps=4):
            if start is None:
                start = torch.zeros_like(t)
            total = torch.zeros_like(t)
            for k in range(1, steps + 1):
                point = (start + k / steps * (t - start)).detach().requires_grad_(True)
                f(point).backward()
                total += point.grad
            return (t - start) * total / steps
        f = lambda t: (t ** 3).sum()
        t = torch.tensor([1., 2., -3.])
        along(f, t)
        """,
    "leaves in the turns of training": """
        net = nn.Linear(2, 1)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        mean = nn.MSELoss()
        for k in range(3):
            opt.zero_grad()
            p = torch.full((4, 1), k + 1., requires_grad=True)
            q = torch.ones(4, 1, requires_grad=True)
            y = net(torch.cat([p, q], 1))
            dy, = torch.autograd.grad(y.sum(), q, create_graph=True)
            mean(target=p, input=y + dy).backward()
            opt.step()
        with torch.autograd.no_grad():
            print(net.weight)
        """,
    "leaves of two calls in a turn": """
        for v in (0.5, 2.):
            s = torch.tensor(v, requires_grad=True)
            (s ** 2).backward()
            r = torch.tensor(v, requires_grad=True)
            (r ** 3).backward()
            print(s.grad, r.grad)
        """,
    "another name of a function before a step": """
        net = nn.Linear(2, 1)
        def cost(y):
            return y.pow(2).sum()
        criterion = cost
        opt = torch.optim.Adam(net.parameters())
        for k in range(3):
            w = torch.ones(2, requires_grad=True)
            loss = criterion(net(w))
            opt.zero_grad()
            loss.backward()
            opt.step()
        """,
    "steps by hand, one by one": """
        lin, lr = nn.Linear(2, 1), 0.1
        x = torch.tensor([[1., 2.]])
        loss = lin(x).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            for p in lin.parameters():
                p -= lr * p.grad
                p.grad.zero_()
        loss = lin(x).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            lin.weight -= lr * lin.weight.grad
            lin.bias.add_(lin.bias.grad, alpha=-lr)
            lin.weight.grad.zero_()
            lin.bias.grad = None
        loss = lin(x).pow(3).sum()
        loss.backward()
        """,
    "second derivatives in a function": """
        def second(v):
            t = torch.tensor(v, requires_grad=True)
            first, = torch.autograd.grad(t.sin(), t, create_graph=True)
            last, = torch.autograd.grad(first, t)
            return last.item()
        for v in (0.5, 1.5):
            print(second(v))
        """,
    "what is made of a gradient in a function": """
        def mean(y, v):
            g = torch.autograd.grad(y, w)[0] * v
            return torch.sum(g.reshape(1, -1), dim=-1)
        print(mean((w ** 3).sum(), torch.ones(2, 1)))
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

LOOPS = {
    "in place under no_grad, zeroed": """
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        for i in range(4):
            loss = (w ** 2 * torch.tensor([3.0, -1.0])).sum()
            loss.backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
            w.grad.zero_()
        print(w)
    """,
    "two weights, sub_ and None": """
        X = torch.arange(6.0).reshape(3, 2) / 4
        t = torch.tensor([1.0, 0.0, -1.0])
        w = torch.tensor([0.5, -0.25], requires_grad=True)
        b = torch.zeros(1, requires_grad=True)
        rate = 0.1
        for epoch in range(3):
            predicted = X @ w + b
            loss = ((predicted - t) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                for p in [w, b]:
                    p.sub_(rate * p.grad)
                    p.grad = None
            print(epoch, loss.item())
        w
    """,
    "a leaf that is bound again": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for i in range(3):
            y = (x ** 3).sum()
            y.backward()
            x = (x - 0.1 * x.grad).detach().requires_grad_()
        print(x)
    """,
    "by .data, with a history": """
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        losses = []
        for i in range(3):
            loss = ((w - 3) ** 4).sum()
            losses.append(loss.item())
            loss.backward()
            w.data -= 0.001 * w.grad.data
            w.grad.data.zero_()
        print(losses)
    """,
    "torch.autograd.grad, functional": """
        def step(w, g, rate):
            return w - rate * g
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        for i in range(3):
            loss = (w.exp() * (i + 1)).sum()
            g, = torch.autograd.grad(loss, w)
            w.grad = None
            w = step(w, g, 0.1).detach().requires_grad_()
    """,
    "momentum": """
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        m = torch.zeros(2)
        for i in range(3):
            loss = (w ** 2).sum() + (m * w).sum()
            loss.backward()
            with torch.no_grad():
                m = 0.9 * m + w.grad
                w -= 0.1 * m
            w.grad = None
    """,
    "nothing is cleared": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for i in range(3):
            y = (x ** (i + 1)).sum()
            y.backward()
        print(x.grad)
    """,
    "a loop in a loop": """
        a = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        for i in range(2):
            for j in range(3):
                out = a[i, j] ** (j + 1)
                out.backward()
        print(a.grad)
    """,
    "a loop in a loop that clears": """
        a = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        for i in range(3):
            a.grad = None
            scale = i + 1
            for j in range(3):
                (a[j] ** 2 * scale).backward()
    """,
    "before an optimizer's last step": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        opt = torch.optim.SGD([x], lr=0.1)
        for i in range(3):
            opt.zero_grad()
            y = (x ** (i + 2)).sum()
            y.backward()
            opt.step()
        print(x.grad)
    """,
    "before the last step of a loop in a loop": """
        import torch.optim as optim
        w = torch.tensor([1.0, -2.0], requires_grad=True)
        data = torch.arange(1.0, 7.0).reshape(3, 2)
        opt = optim.Adam([w], lr=0.5)
        for epoch in range(2):
            total = 0.0
            for row in data:
                opt.zero_grad()
                loss = (torch.tanh(row * w) ** 2).sum()
                loss.backward()
                opt.step()
                total += loss.item()
            if epoch % 2 == 0:
                print(f"{epoch}: {total}")
    """,
    "a loop in a loop, by hand": """
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        for epoch in range(2):
            for row in torch.arange(6.0).reshape(3, 2):
                loss = ((row * w).sum() - 1) ** 2
                loss.backward()
                with torch.no_grad():
                    w -= 0.01 * w.grad
                w.grad.zero_()
            print(epoch)
        print(w)
    """,
    "weights that a function reads": """
        w = torch.tensor([0.5, 2.0], requires_grad=True)
        def model(t):
            return t * w
        loss_of = lambda t, y: ((model(t) - y) ** 2).sum()
        for epoch in range(3):
            for t, y in zip([1.0, 2.0], [3.0, 1.0]):
                loss_of(t, y).backward()
                w.data = w.data - 0.05 * w.grad.data
                w.grad.data.zero_()
        print(model(4.0))
    """,
    "a loop in a loop, a scale that grows outside": """
        w = torch.tensor([0.5, 2.0], requires_grad=True)
        scale = 1.0
        for epoch in range(3):
            scale = scale * 2
            for row in torch.arange(4.0).reshape(2, 2):
                loss = ((w * row) ** 2).sum() * scale
                loss.backward()
                with torch.no_grad():
                    w -= 0.01 * w.grad
                w.grad = None
    """,
    "a loop in a loop, what each epoch begins with": """
        w = torch.tensor([0.5, 2.0], requires_grad=True)
        for epoch in range(2):
            h = torch.zeros(2)
            for row in torch.arange(6.0).reshape(3, 2):
                h = torch.tanh(h.detach() + row * w)
                loss = (h * (epoch + 1)).sum()
                loss.backward()
                with torch.no_grad():
                    w -= 0.1 * w.grad
                w.grad = None
    """,
    "weights of its own": """
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        for v in [torch.tensor([1.0, 0.0]), torch.tensor([2.0, 5.0])]:
            y = x ** 2
            y.backward(v)
            x.grad.zero_()
    """,
}

def texts() -> list[str]:
    """Each optimizer and each schedule, at work."""
    found = [f"opt = optim.{made.format('[w, b]')}{LEAVES.format('')}" for made in OPTIMIZERS]
    for made in SCHEDULES:
        step = "sched.step(loss.item())" if "Plateau" in made else "sched.step()"
        start = f"opt = optim.SGD([w, b], lr=0.1, momentum=0.5)\nsched = optim.lr_scheduler.{made}"
        found.append(f"{start}{LEAVES.format(step)}")
    return found


def answered(text: str):
    """The document of a program's answer on the command line, where the language does not read it."""
    meant = as_meant(Request(text), may_run=True)
    return to_dict(report_of(meant))


def follows(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last derivative of a program is Python's, of each leaf."""
    document = answered(text)
    assert "as_python" in [each["code"] for each in document["warnings"]]
    ours, theirs = [*document["vjp"].values()], by_python(text, monkeypatch)
    assert len(ours) == len(theirs)
    for gradient in theirs:
        ours.remove(next(each for each in ours if fits(each, gradient)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(4))
def test_steps_are_torchs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in texts()[number::4]:
        follows(HEAD + text, monkeypatch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_train_as_python_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    follows(HEAD + textwrap.dedent(PROGRAMS[name]), monkeypatch)


@pytest.mark.parametrize("name", LOOPS)
def test_gradients_are_those_of_the_last_turn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    follows("import torch\n" + textwrap.dedent(LOOPS[name]), monkeypatch)


def test_tensors_of_a_program_go_with_its_answer():
    """What a program's names hold is gone once it is answered, though its graph knows where its steps stand in the text."""
    size = 54_321
    model = "class Loss(nn.Module):\n    def forward(self, x):\n        return (x ** 2).sum() + big.sum()\n"
    text = f"{HEAD}big = torch.zeros({size})\n{model}loss = Loss()(w)\nloss.backward()\n"
    assert "as_python" in [each["code"] for each in answered(text)["warnings"]]
    gc.collect()
    assert not [x for x in gc.get_objects() if type(x) is torch.Tensor and x.numel() == size]


def test_a_leaf_without_an_earlier_gradient_is_no_unused_input():
    """What one leaf's `.grad` held adds to the result, and nothing is said of the other leaf's having held nothing."""
    document = answered(f"{HEAD}class A: pass\n(w ** 2).sum().backward()\nloss = (w[0] * b).sum()\nloss.backward()\n")
    assert [each["code"] for each in document["warnings"]] == ["as_python"]
    assert document["vjp"]["w"]["value"] == [[2.0], [-4.0]]  # b is zero
    assert document["vjp"]["b"]["value"] == [1.0]


@pytest.mark.parametrize("kind", ["SGD", "LBFGS"])
def test_a_closure_that_steps_itself_ends_in_an_error_of_python(kind: str) -> None:
    """Wherever in a step the last call is that Python makes: torch died of it in some."""
    code = compiled(f"""
w = torch.ones(2, requires_grad=True)
o = torch.optim.{kind}([w], lr=0.1)
def closure():
    o.step(closure)
    return w.sum()
o.step(closure)
""")

    def below(frames: int) -> BaseException | None:
        return below(frames - 1) if frames else run_through(code, Settings())[1]

    assert [type(below(frames)) for frames in range(6)] == [RecursionError] * 6
