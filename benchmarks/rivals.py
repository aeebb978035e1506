"""The same functions in JAX, for the peers that live there: `jit(jacrev)`, `jit(jacfwd)` and asdex.

An optional extra (`pip install '.[peers]'`); without it these columns stay empty.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from torch import Tensor

from benchmarks.cases import Case


def make_functions(constants: Mapping[str, Tensor]) -> dict[str, Callable[..., Any]]:
    """Case name to the function, of JAX arrays."""
    c = {name: jnp.asarray(value.numpy()) for name, value in constants.items()}
    big, bias, point, keys, picks = c["big"], c["bias"], c["point"], c["keys"], c["picks"]

    def outer(x: Any) -> Any:
        return jnp.outer(x, x)

    def mlp(x: Any) -> Any:
        return c["w3"] @ jax.nn.relu(c["w2"] @ jax.nn.relu(c["w1"] @ x + bias) + bias)

    def mlp_weights(a: Any, b: Any, w: Any, d: Any, e: Any, f: Any) -> Any:
        return e @ jax.nn.relu(w @ jax.nn.relu(a @ point + b) + d) + f

    def laplacian(x: Any) -> Any:
        u = x.reshape(64, 64)
        p = jnp.pad(u, 1)
        return (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u).reshape(-1)

    def brusselator(z: Any) -> Any:
        u, v = z.reshape(2, -1)

        def diffuse(w: Any) -> Any:
            return jnp.roll(w, 1) + jnp.roll(w, -1) - 2 * w

        return jnp.concatenate([1 + u * u * v - 4 * u + 0.1 * diffuse(u), 3 * u - u * u * v + 0.1 * diffuse(v)])

    def recurrence(x: Any) -> Any:
        h, states = x[0], []
        for t in range(x.shape[0]):
            h = jnp.tanh(0.9 * h + x[t])
            states.append(h)
        return jnp.stack(states)

    def layer_norm(x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    def avg_pool(x: Any) -> Any:
        ones, step = (1, 1, 3, 3), (1, 1, 1, 1)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, ones, step, ((0, 0), (0, 0), (1, 1), (1, 1))) / 9

    def transposed(x: Any) -> Any:
        flipped = c["up"][:, :, ::-1, ::-1]
        return jax.lax.conv_general_dilated(x, flipped, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2))

    def grouped(x: Any) -> Any:
        return jax.lax.conv_general_dilated(x, c["grouped"], (1, 1), ((1, 1), (1, 1)), feature_group_count=4)

    def fold(x: Any) -> Any:
        parts = x.reshape(3, 3, 46, 46)
        result = jnp.zeros((48, 48))
        for i in range(3):
            for j in range(3):
                result = result.at[i : i + 46, j : j + 46].add(parts[i, j])
        return result[None, None]

    return {
        "outer 64": outer,
        "outer 256": outer,
        "outer 512": outer,
        "sin 4096": jnp.sin,
        "sin 20000": jnp.sin,
        "softmax 2048": jax.nn.softmax,
        "tanh(Wx) 512": lambda x: jnp.tanh(big @ x),
        "MLP to x": mlp,
        "MLP to weights": mlp_weights,
        "conv1d 2048": lambda x: jnp.convolve(x, c["kernel"][0, 0, ::-1], mode="same"),
        "Laplacian 64x64": laplacian,
        "block-diagonal": lambda x: jnp.einsum("bij,bj->bi", c["blocks"], x.reshape(512, 8)).reshape(-1),
        "cumsum 2048": lambda x: jnp.cumsum(x),
        "Brusselator 2048": brusselator,
        "sum of squares": lambda x: (x * x).sum(),
        "inv 16x16": jnp.linalg.inv,
        "solve to A 64": lambda a: jnp.linalg.solve(a, c["rhs"]),
        "logsumexp rows": lambda x: jax.nn.logsumexp(x, axis=1),
        "layer_norm rows": layer_norm,
        "attention to Q": lambda q: jax.nn.softmax(q @ keys.T / 4, axis=-1) @ c["values"],
        "MLP of a batch": lambda x: jnp.tanh(x @ c["wide"].T) @ c["wide"],
        "gather": lambda x: x[picks] * jnp.sin(x),
        "recurrence 64": recurrence,
        "einsum batch": lambda x: jnp.einsum("bij,bjk->bik", x, x),
        "stencil then dense": lambda x: big[:64] @ jnp.tanh(jnp.roll(x, 1) - 2 * x + jnp.roll(x, -1)),
        "softmax then gather": lambda x: jax.nn.softmax(x, axis=1)[:, ::4].reshape(-1),
        "avg-pool 64x64": avg_pool,
        "pad circular": lambda x: jnp.pad(x, ((0, 0), (0, 0), (2, 2)), mode="wrap"),
        "interpolate": lambda x: jax.image.resize(x, (1, 1, 96, 96), "linear"),
        "transposed conv": transposed,
        "grouped conv": grouped,
        "fold": fold,
        "small: 4 to 3": lambda x: jnp.stack([x[0] * x[1], jnp.sin(x[2]), x.sum()]),
        "small: MLP 16": lambda x: jnp.tanh(big[:8, :16] @ jnp.tanh(big[:16, :16] @ x)),
    }


def measure(case: Case, constants: Mapping[str, Tensor], way: str) -> dict[str, float]:
    """`first`: the first call, with tracing and compiling (for asdex: detection and coloring too); `again`: a median.  ms.

    Raises:
        ValueError: this version of the function gives other values than torch's.
    """
    function = make_functions(constants)[case.name]
    inputs = [jnp.asarray(x.numpy()) for x in case.inputs]
    if not np.allclose(np.asarray(function(*inputs)), case.function(*case.inputs).numpy(), rtol=1e-3, atol=1e-4):
        raise ValueError(f"{case.name} is another function in JAX than in torch")
    arguments = tuple(range(len(inputs)))
    start = time.perf_counter()
    if way == "asdex":
        import asdex

        call = jax.jit(asdex.jacobian(function, *inputs, argnums=arguments))
    else:
        call = jax.jit({"jax jacrev": jax.jacrev, "jax jacfwd": jax.jacfwd}[way](function, argnums=arguments))
    jax.block_until_ready(call(*inputs))
    first = time.perf_counter() - start
    again = []
    for _ in range(1 if first > 20 else 7):
        start = time.perf_counter()
        jax.block_until_ready(call(*inputs))
        again.append(time.perf_counter() - start)
    return {"first": first * 1e3, "again": sorted(again)[len(again) // 2] * 1e3}
