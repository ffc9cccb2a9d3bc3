"""Differentiable functions by name, for the tests of the gradient proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax


class Case(NamedTuple):
    """A function, its arguments, and those to differentiate."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: Any = 0


def draw(*shape: int, dtype: Any, seed: int = 0) -> jax.Array:
    # By NumPy: JAX would compile a program for each shape and type.
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), dtype)


NUMPY_ANYWHERE = [
    "exp",
    "exp2",
    "expm1",
    "tanh",
    "sin",
    "cos",
    "tan",
    "arcsinh",
    "sinh",
    "cosh",
    "square",
    "negative",
    "abs",
    "sign",
    "floor",
    "ceil",
    "rint",
    "cbrt",
]
NUMPY_ABOVE_ONE = ["log", "log1p", "log2", "log10", "sqrt", "reciprocal", "arccosh"]
NUMPY_INSIDE_ONE = ["arcsin", "arccos", "arctan", "arctanh"]
ACTIVATIONS = [
    "relu",
    "relu6",
    "sigmoid",
    "softplus",
    "silu",
    "gelu",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "hard_tanh",
    "hard_sigmoid",
    "hard_swish",
    "mish",
    "soft_sign",
    "log_sigmoid",
    "softmax",
    "log_softmax",
    "logsumexp",
    "squareplus",
    "standardize",
    "glu",
]
REDUCTIONS = [
    "sum",
    "mean",
    "prod",
    "max",
    "min",
    "std",
    "var",
    "cumsum",
    "cumprod",
    "sort",
    "median",
]


def elementwise(dtype: Any) -> dict[str, Case]:
    x = draw(5, dtype=dtype)
    above, inside = jnp.abs(x) + 1.5, jnp.tanh(x) * 0.9
    out = {n: Case(getattr(jnp, n), (x,)) for n in NUMPY_ANYWHERE}
    out |= {n: Case(getattr(jnp, n), (above,)) for n in NUMPY_ABOVE_ONE}
    out |= {n: Case(getattr(jnp, n), (inside,)) for n in NUMPY_INSIDE_ONE}
    out |= {n: Case(getattr(jax.nn, n), (jnp.append(x, x[0]),)) for n in ACTIVATIONS}
    special = jax.scipy.special
    return out | {
        "erf": Case(special.erf, (x,)),
        "erfc": Case(special.erfc, (x,)),
        "erfinv": Case(special.erfinv, (inside,)),
        "gammaln": Case(special.gammaln, (above,)),
        "digamma": Case(special.digamma, (above,)),
        "gelu by erf": Case(lambda x: jax.nn.gelu(x, approximate=False), (x,)),
        "rsqrt": Case(lax.rsqrt, (above,)),
        "power": Case(lambda a, b: a**b, (above, x), (0, 1)),
        "power 3": Case(lambda a: a**3, (x,)),
        "power -3": Case(lambda a: a**-3, (above,)),
        "power 2.5": Case(lambda a: a**2.5, (above,)),
        "divide": Case(lambda a, b: a / b, (x, above), (0, 1)),
        "subtract": Case(lambda a, b: a - b, (x, above), (0, 1)),
        "multiply": Case(lambda a, b: a * b, (x, above), (0, 1)),
        "arctan2": Case(jnp.arctan2, (x, above), (0, 1)),
        "logaddexp": Case(jnp.logaddexp, (x, above), (0, 1)),
        "maximum": Case(jnp.maximum, (x, above - 2), (0, 1)),
        "minimum": Case(jnp.minimum, (x, above - 2), (0, 1)),
        "remainder": Case(lax.rem, (x * 5, above), (0, 1)),
        "modulo": Case(lambda a: a % 0.75, (x * 5,)),
        "clip": Case(lambda a: jnp.clip(a, -0.5, 0.5), (x,)),
        "polynomial": Case(
            lambda a: jnp.polyval(jnp.arange(4.0).astype(dtype), a), (x,)
        ),
        "where": Case(lambda a: jnp.where(a > 0, a**2, jnp.sin(a)), (x,)),
        "select": Case(lambda a: jnp.select([a > 1, a > 0], [a, 2 * a], a**2), (x,)),
        "stop_gradient": Case(lambda a: lax.stop_gradient(a) * a, (x,)),
        "bfloat16 inside": Case(
            lambda a: (a.astype(jnp.bfloat16) * 2).astype(dtype) ** 2, (x,)
        ),
        "integers": Case(lambda a, n: a * n + (a * 3).astype(int), (x, jnp.arange(5))),
        "reduce_precision": Case(lambda a: lax.reduce_precision(a, 8, 7) * a, (x,)),
        "nameless float": Case(lambda a: lax.reduce_precision(a, 5, 2) * a, (x,)),
    }


def arrays(dtype: Any) -> dict[str, Case]:
    x, m = draw(5, dtype=dtype), draw(3, 4, dtype=dtype)
    index = jnp.array([0, 2, 2])
    out = {n: Case(getattr(jnp, n), (m,)) for n in REDUCTIONS}
    return out | {
        "cummax": Case(lax.cummax, (x,)),
        "cummin": Case(lax.cummin, (x,)),
        "norm": Case(jnp.linalg.norm, (m,)),
        "matmul": Case(jnp.matmul, (m, draw(4, 2, dtype=dtype)), (0, 1)),
        "batched matmul": Case(
            lambda a, b: jnp.einsum("bij,bkj->bik", a, b),
            (draw(2, 3, 4, dtype=dtype), draw(2, 5, 4, dtype=dtype)),
            (0, 1),
        ),
        "outer": Case(jnp.outer, (x, m[0]), (0, 1)),
        "gather": Case(lambda a: a[index], (x,)),
        "gather outside": Case(
            lambda a: a.at[jnp.array([1, 9])].get(mode="fill", fill_value=2.0), (x,)
        ),
        "set": Case(lambda a: a.at[jnp.array([0, 2])].set(a[:2] * 2), (x,)),
        "scatter-add": Case(lambda a: a.at[index].add(a[:3] ** 2), (x,)),
        "segment sum": Case(lambda a: jax.ops.segment_sum(a, index, 3) ** 2, (x[:3],)),
        "dynamic slice": Case(
            lambda a, i: lax.dynamic_slice(a, (i, 1), (2, 2)), (m, 1)
        ),
        "dynamic update": Case(
            lambda a, b: lax.dynamic_update_slice(a, b * 2, (1, 0)), (m, m[:1]), (0, 1)
        ),
        "concatenate": Case(lambda a: jnp.concatenate([a, a * 2], 1), (m,)),
        "stack": Case(lambda a: jnp.stack([a, a**2]), (m,)),
        "split": Case(lambda a: jnp.split(a, 2, 1)[0] ** 2, (m,)),
        "pad": Case(
            lambda a: lax.pad(a, jnp.ones((), dtype), ((1, 2, 1), (0, 1, 0))), (m,)
        ),
        "reverse": Case(lambda a: a[::-1] * 2, (m,)),
        "transpose": Case(lambda a: a.T**2, (m,)),
        "tile": Case(lambda a: jnp.tile(a, (2, 2)), (m,)),
        "top_k": Case(lambda a: lax.top_k(a, 2)[0], (m,)),
        "argmax": Case(lambda a: a[jnp.argmax(a)] * 2, (x,)),
        "argsort": Case(lambda a: a[jnp.argsort(a)] ** 2, (x,)),
        "associative scan": Case(lambda a: lax.associative_scan(jnp.multiply, a), (x,)),
        "layer norm": Case(
            lambda a: (
                (a - a.mean(-1, keepdims=True))
                / jnp.sqrt(a.var(-1, keepdims=True) + 1e-5)
            ),
            (m,),
        ),
    }


def windows(dtype: Any) -> dict[str, Case]:
    image, kernel = draw(1, 6, 6, 2, dtype=dtype), draw(3, 3, 2, 3, dtype=dtype)
    numbering = ("NHWC", "HWIO", "NHWC")

    def conv(**options: Any) -> Callable[..., Any]:
        given = {"window_strides": (1, 1), "padding": "SAME"} | options
        return lambda a, b: lax.conv_general_dilated(
            a, b, dimension_numbers=numbering, **given
        )

    return {
        "convolution": Case(conv(window_strides=(2, 1)), (image, kernel), (0, 1)),
        "dilated": Case(
            conv(padding="VALID", rhs_dilation=(2, 2)), (image, kernel), (0, 1)
        ),
        "depthwise": Case(
            conv(feature_group_count=2), (image, draw(3, 3, 1, 4, dtype=dtype)), (0, 1)
        ),
        "transposed": Case(
            lambda a, b: lax.conv_transpose(
                a, b, (2, 2), "SAME", dimension_numbers=numbering
            ),
            (image[:, :3, :3], kernel),
            (0, 1),
        ),
        "max pool": Case(
            lambda a: lax.reduce_window(
                a, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
            ),
            (image,),
        ),
        "average pool": Case(
            lambda a: lax.reduce_window(
                a, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"
            ),
            (image,),
        ),
    }


def control(dtype: Any) -> dict[str, Case]:
    x = draw(5, dtype=dtype)
    key = jax.random.key(3)

    def body(c: Any, t: Any) -> Any:
        return jnp.tanh(c + t), c * t

    return {
        "scan": Case(lambda a: lax.scan(body, a[0], a)[1], (x,)),
        "reverse scan": Case(lambda a: lax.scan(body, a[0], a, reverse=True)[0], (x,)),
        "fori_loop": Case(
            lambda a: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * c, a), (x,)
        ),
        "while, forward": Case(
            lambda a, n: lax.fori_loop(0, n, lambda i, c: c, 1.0) * a, (x, 3)
        ),
        "cond": Case(lambda a: lax.cond(a[0] > 0, jnp.sin, jnp.cos, a), (x,)),
        "switch": Case(lambda a: lax.switch(1, [jnp.sin, jnp.cos, jnp.tanh], a), (x,)),
        "map": Case(lambda a: lax.map(jnp.sin, a), (x,)),
        "remat": Case(
            lambda a: jax.checkpoint(lambda b: jnp.sin(jnp.tanh(b)))(a), (x,)
        ),
        "vmap": Case(jax.vmap(lambda r: r**2 * jnp.sin(r)), (x,)),
        "jvp": Case(lambda a: jax.jvp(jnp.tanh, (a,), (a * 2,))[1], (x,)),
        "grad": Case(jax.grad(lambda a: (jnp.tanh(a) ** 3).sum()), (x,)),
        "hessian": Case(jax.hessian(lambda a: (jnp.tanh(a) ** 3).sum()), (x,)),
        "dropout": Case(
            lambda a, key: jnp.where(
                jax.random.bernoulli(key, 0.5, a.shape), a / 0.5, 0
            ),
            (x, key),
        ),
        "noise": Case(
            lambda a, key: a * jax.random.normal(key, a.shape, dtype), (x, key)
        ),
    }


FAMILIES = {
    "elementwise": elementwise,
    "arrays": arrays,
    "windows": windows,
    "control": control,
}


def by_name(*, every: int, dtypes: list[str] | None = None) -> list[Any]:
    """Return (family, name) or (family, name, dtype) for each case, as parameters.

    All are exhaustive but the first of each family and every so manieth after it; of
    several dtypes, each keeps others.
    """
    out = []
    for family, make in FAMILIES.items():
        names: list[str] = []
        # Traced for the names alone: to collect the tests shall compile nothing.
        jax.eval_shape(lambda make=make, names=names: names.extend(make(jnp.float32)))
        for i, name in enumerate(names):
            for k, dtype in enumerate(dtypes or [""]):
                brief = (i + k) % every == 0
                out.append(
                    pytest.param(
                        *((family, name, dtype) if dtype else (family, name)),
                        id=f"{name}-{dtype}" if dtype else name,
                        marks=() if brief else pytest.mark.exhaustive,
                    )
                )
    return out
