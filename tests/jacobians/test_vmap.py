"""Products of every kind of map under `torch.vmap`: a row of the result is the product of that row."""

from __future__ import annotations

import pytest
import torch

import jvpcli
from jvpcli.jacobians.linear_map import LinearMap

N = 24
X, W = torch.linspace(-1, 2, N, dtype=torch.float64), torch.linspace(-2, 1, 10 * N, dtype=torch.float64).reshape(10, N)
Z = torch.complex(X[:5], X[5:10])
LARGE = torch.linspace(0, 1, 900, dtype=torch.float64).reshape(30, 30) + torch.eye(30, dtype=torch.float64)

CASES = [
    ("torch.tanh(W @ x)", {"x": X, "W": W}, {}, 2),
    ("torch.outer(x, x)", {"x": X}, {}, 1),
    ("x.sin()", {"x": X}, {}, 1),
    ("2 * x", {"x": X}, {}, 1),
    ("x.exp()", {"x": X}, {"create_graph": True}, 1),
    ("x[::3]", {"x": X}, {}, 1),
    ("x[1:] * x[:-1]", {"x": X}, {}, 1),
    ("x.cumsum(0)", {"x": X}, {}, 1),
    ("x.exp().sum()", {"x": X}, {}, 1),
    ("x * 2, torch.ones(3)", {"x": X}, {}, 2),
    ("x[:0] * 2", {"x": X}, {}, 1),
    ("x * 2", {"x": X[3]}, {}, 1),
    ("F.conv1d(x[None, None], W[:1, :3][None])", {"x": X, "W": W}, {}, 2),
    ("torch.cat([x.sin(), W.sum(1), x])", {"x": X, "W": W}, {}, 2),
    ("torch.fft.rfft(x)", {"x": X}, {}, 1),
    ("z**2", {"z": Z}, {}, 1),
    ("z.abs()", {"z": Z}, {}, 1),
    ("x * x", {"x": X.float()}, {}, 1),
    ("torch.linalg.inv(x)", {"x": LARGE}, {"memory_limit": 2_000_000}, 1),
]


def maps() -> list[LinearMap]:
    found = []
    for text, inputs, options, count in CASES:
        several = jvpcli.jacobian(text, inputs, **options).values()
        assert len(several) == count
        found += several
    return found


def random(shape, is_complex, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.complex128 if is_complex else torch.float64)


def test_every_kind_of_map():
    seen = set()
    for each in maps():
        seen.add(type(each))
        for product, shape, is_complex in (
            (each.pullback, each.out_shape, each.of_complex[0]),
            (each.pushforward, each.in_shape, each.of_complex[1]),
        ):
            rows = random((3, *shape), is_complex, 1)
            expected = torch.stack([product(row) for row in rows])
            torch.testing.assert_close(torch.vmap(product)(rows), expected)
            torch.testing.assert_close(torch.vmap(product, in_dims=-1, out_dims=-1)(rows.movedim(0, -1)), expected.movedim(0, -1))
            twice = random((2, 3, *shape), is_complex, 2)
            torch.testing.assert_close(
                torch.vmap(torch.vmap(product))(twice), torch.stack([torch.stack([product(v) for v in vs]) for vs in twice])
            )
    stored = "jvpcli.jacobians.store_maps"  # read from a file, block by block
    assert seen == {kind for kind in concrete(LinearMap) if kind.__module__.startswith("jvpcli.") and kind.__module__ != stored}


def concrete(kind: type) -> set[type]:
    """All classes of maps that can be made."""
    found = set() if getattr(kind, "__abstractmethods__", None) else {kind}
    return found.union(*[concrete(each) for each in kind.__subclasses__()])


@pytest.mark.parametrize("wrong", [torch.ones(3, 7), torch.ones(3, 4, 5)])
def test_rows_of_another_shape_are_refused(wrong):
    for text, options in (("x[1:] * x[:-1]", {}), ("torch.tanh(x.outer(x))", {"memory_limit": 20_000})):
        (each,) = jvpcli.jacobian(text, x=X, **options).values()
        with pytest.raises(jvpcli.JvpError, match="has the output's shape"):
            torch.vmap(each.pullback)(wrong)
