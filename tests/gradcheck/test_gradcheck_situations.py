"""`check` against `torch.autograd.gradcheck`, situation by situation: the same verdict, or a difference with its reason.

What gradcheck is made for: functions of autograd's own with a backward or jvp that fails, jitters, breaks a rule or forgets
something; hooks; several outputs, complex ones, ones of other shapes, ones without a gradient.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch.autograd import Function, functional, gradcheck
from torch.autograd.function import once_differentiable

import jvpcli
from jvpcli.errors import EvaluationError


class Jitter(Function):
    @staticmethod
    def forward(ctx, x, size):
        ctx.size = size
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * (1 + torch.rand_like(g) * ctx.size), None


class Failing(Function):
    """The identity, whose backward or jvp raises if it is told to."""

    @staticmethod
    def forward(ctx, x, in_jvp, in_backward):
        ctx.in_jvp, ctx.in_backward = in_jvp, in_backward
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        if ctx.in_backward:
            raise RuntimeError("no backward today")
        return g, None, None

    @staticmethod
    def jvp(ctx, t, *others):
        if ctx.in_jvp:
            raise RuntimeError("no forward today")
        return t.clone()


class WrongJvp(Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g

    @staticmethod
    def jvp(ctx, t):
        return 3 * t


class JvpAlone(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_forward(x)
        return x**2

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 2 * x * t


class WrongJvpAlone(JvpAlone):
    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 3 * x * t


class InPlace(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx, g):
        return 2 * g

    @staticmethod
    def jvp(ctx, t):
        return t.mul_(2)


class InPlaceWithout(InPlace):
    @staticmethod
    def jvp(ctx, t):
        return 2 * t


class View(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return g

    @staticmethod
    def jvp(ctx, t):
        return t.view_as(t)


class ViewWithout(View):
    @staticmethod
    def jvp(ctx, t):
        return t.clone()


class ViewOfNoView(View):
    @staticmethod
    def forward(ctx, x):
        return x.clone()


class Handled(Function):
    """x·y and x + y, whose backward gets None for an output that no gradient arrives at."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, y)
        return x * y, x + y

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        parts = [(g * y, g * x)] if g is not None else []
        parts += [(h, h)] if h is not None else []
        return tuple(sum(part) for part in zip(*parts, strict=True)) if parts else (None, None)


class Unhandled(Handled):
    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        return g * y + h, g * x + h


class UnhandledAlone(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class ByVmap(Function):
    """x³ with all that batches of cotangents and tangents ask for; `wrong` is added to the 3 of its backward."""

    wrong = 0.0

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @classmethod
    def factor(cls, ctx):
        return (3 + cls.wrong) * ctx.saved_tensors[0] ** 2

    @staticmethod
    def backward(ctx, g):
        return ByVmap.factor(ctx) * g

    @staticmethod
    def jvp(ctx, t):
        return ByVmap.factor(ctx) * t


class SlightlyWrong(ByVmap):
    wrong = 1e-4

    @staticmethod
    def backward(ctx, g):
        return SlightlyWrong.factor(ctx) * g


class DrawingJvp(ByVmap):
    """Its jvp draws random numbers, which no batch can do, and makes no use of them."""

    @staticmethod
    def jvp(ctx, t):
        torch.randn_like(t)
        return ByVmap.factor(ctx) * t


class Pair(Function):
    """2x and 3x; the tangent of the second is `second` times that of x."""

    @staticmethod
    def forward(ctx, x, second):
        ctx.second = second
        return 2 * x, 3 * x

    @staticmethod
    def backward(ctx, g, h):
        return 2 * g + 3 * h, None

    @staticmethod
    def jvp(ctx, t, _):
        return 2 * t, ctx.second * t


class Between(Function):
    """2x, between arguments that are no tensors."""

    @staticmethod
    def forward(ctx, before, x, after):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return None, 2 * g, None

    @staticmethod
    def jvp(ctx, before, t, after):
        assert before is None
        assert after is None
        return 2 * t


class Copies(Function):
    """Both inputs, with a jvp alone, which runs on tensors that require no gradient."""

    @staticmethod
    def forward(ctx, x, y):
        if forward_ad._current_level >= 0:
            assert not x.requires_grad
            assert not y.requires_grad
        return x.clone(), y.clone()

    @staticmethod
    def jvp(ctx, t, u):
        return t, u


class Rows(Function):
    """Some rows, as a view; the jvp gives no view if it is told to."""

    @staticmethod
    def forward(ctx, x, view):
        ctx.view, ctx.shape = view, x.shape
        return x.narrow(0, 1, 2)

    @staticmethod
    def backward(ctx, g):
        whole = g.new_zeros(ctx.shape)
        whole.narrow(0, 1, 2).copy_(g)
        return whole, None

    @staticmethod
    def jvp(ctx, t, _):
        rows = t.narrow(0, 1, 2)
        return rows if ctx.view else rows.clone()


class SparseGradient(Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g.to_sparse()


class Branching(Cube):
    """Its backward looks at a number, of which there are many when many cotangents come at once."""

    @staticmethod
    def backward(ctx, g):
        return Cube.backward(ctx, g) if float(g.sum()) < 1e30 else None


def hooked(make, hook):
    def function(x):
        y = make(x)
        y.register_hook(hook)
        return y

    return function


def refuses_none(g):
    if g is None:
        raise RuntimeError("nothing came")


def other_in_forward_mode(x, y):
    if forward_ad._current_level >= 0:
        primal, tangent = forward_ad.unpack_dual(y)
        y = y if tangent is None else forward_ad.make_dual(primal, 1.1 * tangent)
    return x + y, y


def gradient_of(make):
    """What `gradgradcheck` checks: the gradient, as a function of the point and of the cotangent."""

    def function(x, v):
        return torch.autograd.grad(make(x), x, v, create_graph=True)[0]

    return function


def at_a_fixed_point(make, x):
    """The gradient there as a function of the cotangent."""
    return lambda v: gradient_of(make)(x.clone().requires_grad_(), v)


def view_written_to(x):
    y = x.clone()
    y[0].mul_(3)
    return y


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


ONE, COMPLEX = torch.ones(1, dtype=torch.float64), torch.complex128
FORWARD, BACKWARD = {"check_forward_ad": True, "check_backward_ad": False}, {}


@dataclass
class Situation:
    """A function and its inputs; options of gradcheck, and those of `check` that ask for the same."""

    name: str
    function: Any
    inputs: tuple[torch.Tensor, ...]
    theirs: dict[str, Any] = field(default_factory=dict)
    ours: dict[str, Any] = field(default_factory=dict)
    differs: str = ""


def plus(g):
    return g + 1e-2


WHERE = torch.tensor([[0, 0, 1], [0, 2, 1]])
DENSE = "check differentiates by dense inputs, by the values of a sparse one where a function makes it from them, and says so"


def sparse(layout: torch.layout) -> torch.Tensor:
    blocks = {"blocksize": (2, 2)} if layout in (torch.sparse_bsr, torch.sparse_bsc) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these layouts are said to be in a beta state
        return draw(2, 4).to_sparse(layout=layout, **blocks)


def summed_rows(matrix):
    return torch.sparse.sum(matrix, dim=1).to_dense()


def other_dimensions(x):
    y = x.clone()
    y.register_hook(lambda g: None if g is None else g.to_dense().to_sparse(1))
    return y.to_dense()


SITUATIONS = [
    *(Situation(f"jitter of {size}", lambda x, size=size: Jitter.apply(x, size), (draw(5, 5),)) for size in (0.0, 1e-12, 1e-6)),
    Situation("jitter that is let pass", lambda x: Jitter.apply(x, 1e-6), (draw(5, 5),), {"nondet_tol": 1e-5},
              {"nondet_tol": 1e-5}),
    Situation("numbers copied", lambda x: torch.tensor([float(x)]), (ONE,)),
    Situation("a hook without None", hooked(torch.clone, refuses_none), (ONE,), {}, {"undefined": "all"}),
    Situation("the same, not asked", hooked(torch.clone, refuses_none), (ONE,), {"check_undefined_grad": False}),
    Situation("a hook adds", hooked(torch.clone, plus), (draw(2, 2),)),
    Situation("a hook adds, to complex", hooked(torch.clone, plus), (draw(2, 2, dtype=COMPLEX),)),
    Situation("a hook adds, from real", hooked(lambda x: torch.complex(x, x), plus), (draw(2, 2),)),
    Situation("a hook adds, to the real part", hooked(torch.real, plus), (draw(2, 2, dtype=COMPLEX),)),
    Situation("a hook scales", hooked(torch.clone, lambda g: 1.01 * g), (draw(3),), {"check_undefined_grad": False}),
    Situation("a hook that does nothing", hooked(torch.clone, lambda g: 1 * g), (draw(3),), {"check_undefined_grad": False}),
    Situation("forward mode", lambda x, y: (x + y, y), (draw(2), draw(2)), FORWARD, {"mode": "forward"}),
    Situation("another forward mode", other_in_forward_mode, (draw(2), draw(2)), FORWARD, {"mode": "forward"}),
    Situation("forward mode, complex", lambda x: torch.view_as_real(torch.resolve_conj(x * 1j)), (draw(2, dtype=COMPLEX),),
              FORWARD, {"mode": "forward"}),
    *(Situation(f"failing: jvp {in_jvp}, backward {in_backward}, {mode}",
                lambda x, a=in_jvp, b=in_backward: Failing.apply(x, a, b), (draw(2),), theirs, {"mode": mode})
      for in_jvp in (False, True) for in_backward in (False, True)
      for mode, theirs in (("forward", FORWARD), ("reverse", BACKWARD))),
    Situation("a wrong jvp", WrongJvp.apply, (draw(3),), {"check_forward_ad": True}),
    Situation("a wrong jvp beside a right backward", WrongJvp.apply, (draw(3),), {}, {"mode": "reverse"}),
    Situation("a jvp alone", JvpAlone.apply, (draw(3),), FORWARD),
    Situation("a wrong jvp alone", WrongJvpAlone.apply, (draw(3),), FORWARD),
    Situation("in place", lambda x: InPlace.apply(x.clone()), (draw(3),), {"check_forward_ad": True}),
    Situation("in place, the jvp not", lambda x: InPlaceWithout.apply(x.clone()), (draw(3),), {"check_forward_ad": True}),
    Situation("a view", View.apply, (draw(3),), {"check_forward_ad": True}),
    Situation("a view, the jvp none", ViewWithout.apply, (draw(3),), {"check_forward_ad": True}),
    Situation("no view, the jvp one", ViewOfNoView.apply, (draw(3),), {"check_forward_ad": True}),
    Situation("None handled", Handled.apply, (draw(2), draw(2))),
    Situation("None not handled", Unhandled.apply, (draw(2), draw(2))),
    Situation("None not handled, one output", UnhandledAlone.apply, (draw(2),)),
    Situation("None not handled, not asked", UnhandledAlone.apply, (draw(2),), {"check_undefined_grad": False},
              {"undefined": "none"}),
    Situation("once differentiable", Once.apply, (draw(3),)),
    Situation("many cotangents", Cube.apply, (draw(3),), {"check_batched_grad": True}, {"batched": True}),
    Situation("many cotangents at a branch", Branching.apply, (draw(3),), {"check_batched_grad": True}, {"batched": True}),
    Situation("the branch alone", Branching.apply, (draw(3),)),
    Situation("by vmap", ByVmap.apply, (draw(3),), {"check_forward_ad": True, "check_batched_grad": True}, {"batched": True}),
    Situation("many tangents", ByVmap.apply, (draw(3),), {**FORWARD, "check_batched_forward_grad": True},
              {"mode": "forward", "batched": True}),
    Situation("many tangents, a jvp alone", Copies.apply, (draw(2), draw(2)), {**FORWARD, "check_batched_forward_grad": True},
              {"mode": "forward", "batched": True}),
    Situation("many tangents, an input not used", lambda x, y: x.clone(), (draw(2), draw(2)),
              {**FORWARD, "check_batched_forward_grad": True}, {"mode": "forward", "batched": True}),
    Situation("many tangents and random numbers", DrawingJvp.apply, (draw(3),), {**FORWARD, "check_batched_forward_grad": True},
              {"mode": "forward", "batched": True}),
    Situation("random numbers in a jvp, not asked", DrawingJvp.apply, (draw(3),), {"check_forward_ad": True}),
    Situation("two outputs", lambda x: Pair.apply(x, 3), (draw(2),), {"check_forward_ad": True}),
    Situation("two outputs, the jvp of one wrong", lambda x: Pair.apply(x, 2), (draw(2),), {"check_forward_ad": True}),
    Situation("between what is no tensor", lambda x: Between.apply(3, x, "s"), (draw(2),), {"check_forward_ad": True}),
    Situation("rows", lambda x: Rows.apply(x, True), (draw(4, 2),), {"check_forward_ad": True}),
    Situation("rows of a result", lambda x: Rows.apply(x.clone(), True), (draw(4, 2),), {"check_forward_ad": True}),
    Situation("rows, the jvp no view", lambda x: Rows.apply(x, False), (draw(4, 2),), {"check_forward_ad": True}),
    Situation("a tolerance that both are given", SlightlyWrong.apply, (draw(3) + 1,), {"atol": 1e-5, "rtol": 1e-3},
              {"atol": 1e-5, "rtol": 1e-3}),
    Situation("a smaller tolerance", SlightlyWrong.apply, (draw(3) + 1,), {"atol": 1e-7, "rtol": 1e-6},
              {"atol": 1e-7, "rtol": 1e-6}),
    Situation("not multiplied by the cotangent", hooked(torch.clone, plus), (ONE,), {"atol": 0.1}, {"atol": 0.1}),
    Situation("the gradient's gradient", gradient_of(lambda x: x**3), (draw(3), draw(3))),
    *(Situation(f"the gradient's gradient, jitter of {size}",
                at_a_fixed_point(lambda x, size=size: Jitter.apply(x, size), draw(5)), (draw(5),))
      for size in (0.0, 1e-12, 1e-6)),
    Situation("forward mode, the second complex", lambda x, y: (x + y, y), (draw(2), draw(2, dtype=COMPLEX)), FORWARD,
              {"mode": "forward"}),
    Situation("another forward mode, complex", other_in_forward_mode, (draw(2, dtype=COMPLEX), draw(2)), FORWARD,
              {"mode": "forward"}),
    Situation("single precision", lambda x: x, (draw(3).float(),), {"atol": 0.1}),
    Situation("log of a determinant", lambda x: torch.linalg.slogdet(x)[1], (draw(3, 3),)),
    Situation("singular values", torch.linalg.svdvals, (draw(4, 3),)),
    Situation("a Cholesky factor", lambda x: torch.linalg.cholesky(x @ x.T + torch.eye(3, dtype=x.dtype)), (draw(3, 3),)),
    Situation("a loss over alignments", lambda x: F.ctc_loss(x.log_softmax(2), torch.tensor([[1, 2]]), torch.tensor([5]),
                                                             torch.tensor([2])), (draw(5, 1, 4),)),
    Situation("dropout", lambda x: F.dropout(x, 0.5), (draw(9),)),
    Situation("the angle of complex", torch.angle, (draw(3, dtype=COMPLEX),)),
    Situation("a conjugate", torch.conj, (draw(3, dtype=COMPLEX),)),
    Situation("a shape that depends", lambda x: torch.cat([x, x]) if bool((x >= 1).all()) else x, (ONE,)),
    Situation("a dtype that depends", lambda x: x.float() if bool((x >= 1).all()) else x, (ONE,)),
    Situation("complex beside real", lambda x, y: (torch.complex(x, y), x + 1), (draw(2, 2), draw(2, 2))),
    Situation("real beside complex", lambda z: (z, torch.real(z)), (draw(2, 2, dtype=COMPLEX),)),
    Situation("indices beside values", torch.sort, (draw(5),)),
    Situation("an integer output", lambda x: (2 * x, x.argmax()), (draw(3),)),
    Situation("an input that is not used", lambda x, y: 2 * x, (draw(3), draw(2))),
    Situation("the input itself", lambda x: x, (draw(3),)),
    Situation("a constant", lambda x: torch.ones(2), (draw(3),)),
    Situation("nothing", lambda x: 2 * x, (draw(0),)),
    Situation("0-d", lambda x: x**2, (draw(),)),
    Situation("broadcast", lambda x, y: x * y, (draw(3, 1), draw(4))),
    Situation("a detached factor", lambda x: x * x.detach(), (draw(3) + 1,)),
    Situation("a view that is written to", view_written_to, (draw(3, 2),)),
    Situation("floor", torch.floor, (draw(3) + 0.2,)),
    Situation("sign", torch.sign, (draw(3),)),
    Situation("the gradient of a maximum", lambda x: torch.autograd.grad(x.max(), x, create_graph=True)[0], (draw(3),)),
    Situation("relu at its kink", torch.relu, (torch.tensor([0.0, 1.0], dtype=torch.float64),)),
    Situation("a product with a zero", torch.prod, (torch.tensor([0.0, 2.0, 3.0], dtype=torch.float64),)),
    Situation("tails", F.gelu, (torch.tensor([-7.0, -8.0, -9.0, -20.0], dtype=torch.float64),)),
    Situation("an eigenvalue by iteration", lambda x: torch.lobpcg(x @ x.T + 3 * torch.eye(9, dtype=x.dtype), k=2)[0],
              (draw(9, 9),)),
    Situation("a vjp", lambda x, v: functional.vjp(lambda a: a.sum(1), x, v, create_graph=True), (draw(2, 2), draw(2))),
    Situation("a jvp", lambda x, v: functional.jvp(lambda a: (a**2).sum(1), x, v, create_graph=True), (draw(2, 2), draw(2, 2))),
    Situation("a Jacobian", lambda x: functional.jacobian(lambda a: a.exp().sum(1), x, create_graph=True), (draw(2, 2),)),
    Situation("a Hessian", lambda x: functional.hessian(lambda a: (a**3).sum(), x, create_graph=True), (draw(3),)),
    Situation("a small complex number that is divided by", lambda z: 1.0 / torch.norm(z),
              (torch.tensor([0.08 + 0.06j, 0.05 + 0.09j], dtype=COMPLEX),), {"atol": 8.3e-6, "rtol": 1e-9},
              {"atol": 8.3e-6, "rtol": 1e-9}),
    Situation("the values of a sparse matrix", lambda v: summed_rows(torch.sparse_coo_tensor(WHERE, v, (2, 3))), (draw(3),)),
    Situation("a function that raises", lambda x: torch.linalg.cholesky(-x), (torch.eye(2, dtype=torch.float64),)),
    Situation("a sparse gradient that loses a dimension, of a sparse input", other_dimensions, (sparse(torch.sparse_coo),),
              {"masked": True, "atol": 0.1}, {"atol": 0.1}),
    Situation("a hook adds, to a sparse input", hooked(lambda x: x.to_dense(), plus), (sparse(torch.sparse_coo),),
              {"masked": True, "atol": 0.1}, {"atol": 0.1}),
    Situation("sparse to sparse", lambda x: x.clone(), (sparse(torch.sparse_coo),), {"masked": True}),
    # where the two differ on purpose
    *(Situation(f"the sum of a {layout} input", torch.sum, (sparse(layout),), differs=DENSE)
      for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)),
    Situation("sparse to dense", lambda x: x.to_dense(), (sparse(torch.sparse_coo),), {"masked": True}, differs=DENSE),
    Situation("sparse beside dense", lambda x, y: x * y.coalesce().to_dense(), (draw(2, 4), sparse(torch.sparse_coo)),
              {"masked": True}, differs=DENSE),
    Situation("the layout of oneDNN", lambda x, y: x + y.to_dense(), (draw(3, dtype=torch.float32), torch.rand(3).to_mkldnn()),
              {"atol": 0.1}, differs=DENSE),
    Situation("a result in the layout of oneDNN", lambda x: x.to_mkldnn(), (draw(4, 5, dtype=torch.float32),),
              differs="gradcheck can't read it; check does, and the gradient is right"),
    Situation("a jvp that raises", lambda x: Failing.apply(x, True, False), (draw(2),), {"check_forward_ad": True},
              differs="gradcheck was asked for forward mode; check says that it raises, and that the gradient is right"),
    Situation("|x| at its kink", torch.abs, (torch.tensor([0.0, 1.0], dtype=torch.float64),),
              differs="the central difference is 0 by symmetry; the one-sided ones are -1 and 1"),
    Situation("a norm at zero", torch.norm, (torch.zeros(3, dtype=torch.float64),),
              differs="the central difference is 0 by symmetry; the one-sided ones are -1 and 1"),
    Situation("whole numbers with a new graph", lambda x: x.long().double().requires_grad_().clone(), (draw(3),),
              differs="no small step shows the cast that the gradient is lost at; wide ones do"),
    Situation("a hook that forgets None", hooked(torch.clone, lambda g: 1 * g), (draw(3),),
              differs="gradcheck gives a hook None, which it gets where a function gives None; check says what happens"),
    Situation("a gradient that is sparse", SparseGradient.apply, (ONE,),
              differs="gradcheck refuses other layouts; the numbers are right, as those of embedding(sparse=True)"),
    Situation("slightly wrong, by default", SlightlyWrong.apply, (draw(3) + 1,),
              differs="gradcheck passes a relative error of 1e-3; check what roundings explain"),
    Situation("another forward mode beside a right backward", other_in_forward_mode, (draw(2), draw(2)),
              {"check_forward_ad": True},
              differs="gradcheck was asked for both; check takes forward mode by itself under mode='forward'"),
    Situation("nothing at all", lambda x: (), (draw(2),), differs="nothing was differentiated: check has nothing to say of it"),
]  # fmt: skip


def of_inputs(function: Any, count: int) -> Any:
    return {1: lambda a: function(a), 2: lambda a, b: function(a, b)}[count]


def their_verdict(situation: Situation) -> bool:
    leaves = tuple(x.clone().requires_grad_() for x in situation.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return gradcheck(situation.function, leaves, **situation.theirs)
        except Exception:  # whatever a function of the user's raises goes through
            return False


def our_verdict(situation: Situation) -> bool:
    function = of_inputs(situation.function, len(situation.inputs))
    try:
        return jvpcli.check(function, dict(zip("ab", situation.inputs, strict=False)), **situation.ours).passed
    except Exception:  # here too
        return False


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_the_verdict_is_gradcheck_s(situation):
    assert (our_verdict(situation) == their_verdict(situation)) is (not situation.differs)


def test_there_are_enough_of_both():
    verdicts = [their_verdict(situation) for situation in SITUATIONS if not situation.differs]
    assert (sum(verdicts) >= 35, len(verdicts) - sum(verdicts) >= 20) == (True, True)


# What is said


def said(function: Any, *inputs: torch.Tensor, **options: Any) -> tuple[str, str]:
    report = jvpcli.check(of_inputs(function, len(inputs)), dict(zip("ab", inputs, strict=False)), **options).report
    return report.verdict, report.explanation


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (lambda x: InPlaceWithout.apply(x.clone()), {}, "`InPlaceWithout.jvp` (…) breaks a rule of torch's forward mode: "),
        (ViewWithout.apply, {}, "`ViewWithout.jvp` (…) breaks a rule of torch's forward mode: "),
        (WrongJvp.apply, {}, "`WrongJvp.jvp` (…) does not agree with backward, which the differences confirm."),
        (WrongJvp.apply, {"mode": "forward"}, "`WrongJvp.jvp` (…) does not give the derivative of forward."),
        (UnhandledAlone.apply, {}, "`UnhandledAlone.backward` (…), given None where no gradient arrives, raises TypeError: "),
        (Branching.apply, {"batched": True},
         "`Branching.backward` (…), given many cotangents at once (is_grads_batched=True), raises RuntimeError: "),
    ],
)  # fmt: skip
def test_faults_are_named(function, options, text):
    verdict, explanation = said(function, draw(3), **options)
    before, after = text.split("(…)")
    assert verdict == "wrong_backward"
    assert explanation.startswith(f"{before}({__name__}.py, line ")
    assert f"){after}" in explanation


def test_a_backward_that_is_not_repeatable():
    result = jvpcli.check(lambda x: Jitter.apply(x, 1e-3), x=draw(3))
    assert (result.verdict, result.worst) == ("nondeterministic", None)
    assert result.report.explanation.startswith("`Jitter.backward` (")
    assert result.report.explanation.endswith(
        " gives other gradients when the same is pulled back again: none of them can be checked."
    )
    assert 0 < result.max_error < 1e-2
    assert [(c.name, c.agrees) for c in result.report.comparisons] == [("pulled back twice", False)]


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("shape", [(5,), (2, 3)])
def test_inspect_refuses_a_backward_that_is_not_repeatable(size, shape):
    x = draw(*shape)
    with pytest.raises(EvaluationError, match=r"`Jitter\.backward` .* gives other gradients when the same is pulled back again"):
        jvpcli.inspect(lambda x: Jitter.apply(x, size), x)
    assert torch.equal(jvpcli.inspect(lambda x: Jitter.apply(x, 0.0), x).vjp["x"], torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("make", [torch.clone, lambda x: Handled.apply(x, x)[0]])
def test_a_hook_that_none_is_too_much_for_is_said_and_not_held_against_a_gradient(make):
    function = hooked(make, lambda g: 1 * g)
    report = jvpcli.check(lambda x: function(x), x=draw(3)).report
    assert report.passed
    (notice,) = report.warnings
    assert notice.message == (
        "a hook, given None as it is where a function behind it gives None for a gradient, raises TypeError: "
        "unsupported operand type(s) for *: 'int' and 'NoneType'; --undefined all makes that a part of the check"
    )
    asked = jvpcli.check(lambda x: function(x), x=draw(3), undefined="all").report
    assert asked.explanation.startswith("A hook, given None where no gradient arrives, raises TypeError: ")
    assert jvpcli.check(lambda x: function(x), x=draw(3), undefined="none").report.warnings == ()


def test_what_many_tangents_do_is_named():
    verdict, explanation = said(DrawingJvp.apply, draw(3), mode="forward", batched=True)
    assert verdict == "wrong_backward"
    assert explanation.startswith("`DrawingJvp.jvp` (test_gradcheck_situations.py, line ")
    assert ", given many tangents at once, raises RuntimeError: vmap: " in explanation


def test_a_jvp_that_raises_is_said():
    report = jvpcli.check(lambda x: Failing.apply(x, True, False), x=draw(2)).report
    assert (report.passed, report.mode) == (True, "reverse")
    (notice,) = report.warnings
    assert notice.message.startswith("`Failing.jvp` (test_gradcheck_situations.py, line ")
    assert notice.message.endswith(") raises RuntimeError: no forward today, so forward mode was not compared")
    with pytest.raises(RuntimeError, match="no forward today") as caught:
        jvpcli.check(lambda x: Failing.apply(x, True, False), x=draw(2), mode="forward")
    assert sys.version_info < (3, 11) or "Forward mode failed: `Failing.jvp`" in caught.value.__notes__[0]


def test_a_function_without_a_backward_is_checked_in_forward_mode():
    report = jvpcli.check(JvpAlone.apply, x=draw(3)).report
    assert (report.passed, report.mode, report.explanation) == (True, "forward", "Forward mode agrees with finite differences.")
    (notice,) = report.warnings
    assert notice.message == "there is a jvp and no backward here, so forward mode alone was checked"
    wrong = jvpcli.check(WrongJvpAlone.apply, x=draw(3))
    (place,) = wrong.worst.input_index
    assert (wrong.worst.analytic, wrong.worst.numeric) == pytest.approx((3 * float(draw(3)[place]), 2 * float(draw(3)[place])))
    large = torch.linspace(1, 2, 3000, dtype=torch.float64)
    assert jvpcli.check(JvpAlone.apply, x=large).passed
    wrong = jvpcli.check(WrongJvpAlone.apply, x=large)
    (place,) = wrong.worst.input_index
    assert (wrong.worst.analytic, wrong.worst.numeric) == pytest.approx((3 * float(large[place]), 2 * float(large[place])))


@pytest.mark.parametrize(("expression", "step"), [("torch.round(x)", 1), ("torch.round(x) + x", 1), ("torch.floor(10*x)/10", 1)])
def test_a_derivative_that_is_rightly_zero_passes_with_a_note(expression, step):
    report = jvpcli.check(expression, x=[1.23]).report
    assert report.passed
    (notice,) = report.warnings
    assert notice.code == "graph_break"
    assert "is a staircase: its derivative is zero (or there is none), so what flows through it is lost" in notice.message
    assert f"the slope over a step of {step} is " in notice.message


def test_the_tolerance_that_is_asked_for():
    def wrong(x):
        y = x.clone()
        y.register_hook(lambda g: g * 1.001)
        return y

    x = draw(3) + 1
    assert not jvpcli.check(wrong, x=x).passed
    for options, passes in (({"rtol": 1e-2}, True), ({"rtol": 1e-4}, False), ({"atol": 1e-2}, True), ({"atol": 1e-4}, False)):
        assert jvpcli.check(wrong, x=x, **options).passed is passes
        assert gradcheck(wrong, (x.requires_grad_(),), raise_exception=False, check_undefined_grad=False,
                         **{"rtol": 0.0, "atol": 0.0, **options}) is passes  # fmt: skip
    assert jvpcli.check("torch.relu(x)", x=[0.0, 1.0], atol=1.0).passed
    assert jvpcli.check("(1 - torch.cos(x)) / x**2", x=[1e-4]).verdict == "precision"
    assert jvpcli.check("(1 - torch.cos(x)) / x**2", x=[1e-4], atol=1e6).passed


def test_implicit_gradients_by_a_hook():
    """z = tanh(W z + x), whose gradient a hook finds by iteration: right; and scaled by 1.01: wrong."""

    def fixed_point(x, factor=1.0):
        def step(z, x):
            return torch.tanh(0.3 * z.roll(1) + x)

        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(60):
                z = step(z, x)
        z = step(z, x)
        start = z.detach().requires_grad_()
        again = step(start, x)

        def solve(g):
            u = g
            for _ in range(60):
                u = torch.autograd.grad(again, start, u, retain_graph=True)[0] + g
            return factor * u

        z.register_hook(solve)
        return z

    for n in (4, 2000):
        x = torch.linspace(-1, 1, n, dtype=torch.float64)
        report = jvpcli.check(lambda x: fixed_point(x), x=x).report
        assert report.passed
        assert 0 < report.max_error < 1e-8
        assert [(c.name, c.agrees, c.error, c.about) for c in report.comparisons[1:]] == [
            ("forward against reverse", None, None, "not compared: a backward here, differentiated again, gives other numbers")
        ]
        wrong = jvpcli.check(lambda x: fixed_point(x, 1.01), x=x)
        assert wrong.verdict == "wrong_backward"
        assert wrong.worst.analytic == pytest.approx(1.01 * wrong.worst.numeric)
