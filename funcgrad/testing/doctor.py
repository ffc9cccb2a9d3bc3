"""Hold the present device to exact numbers: what `funcgrad doctor` runs.

Two kinds of check. The gradient proof judges small programs in full. Products with
tens of thousands of rows are fed small integers, on which no float operation rounds in
any order, so that the compiled numbers must equal NumPy's integers bit for bit.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from funcgrad import losses
from funcgrad.testing import check_gradients

ROWS = (1, 100, 32_768, 32_769, 40_000)

WRONG_NUMBERS = (
    "this version of JAX compiles wrong numbers on this device: install another "
    "version of jax and jaxlib, or set JAX_PLATFORMS=cpu"
)
LOW_PRECISION = (
    'float32 products run in lower precision here: jax.config.update("jax_default_'
    'matmul_precision", "highest") pins them to float32'
)
WRONG_RULE = "please report this to the project whose rule it is, with the text above"


class Finding(NamedTuple):
    """One check: its verdict ("ok" or what is wrong), the details, and what to do."""

    name: str
    verdict: str
    detail: str = ""
    advice: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


def describe_device() -> dict[str, str]:
    """Return what the checks run on, and with which versions."""
    device = jax.devices()[0]
    config: Any = jax.config  # whose flags no type checker knows
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
        "matmul precision": str(config.jax_default_matmul_precision or "default"),
    }


def examine() -> Iterator[Finding]:
    """Yield one finding after another, so that a caller can print as it goes."""
    for rows in ROWS:
        for name, f, exact in _products(rows):
            yield on_integers(f"{name}, {rows:,} rows", f, *exact)
    yield from _proofs()


# Bit for bit on integers --------------------------------------------------------------


def _products(rows: int) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Yield (name, function of float arrays, (integer arguments, integer results))."""
    for n_in, n_out in ((2, 1), (3, 4), (16, 1)):
        x, w, b = _integers(rows, n_in), _integers(n_in, n_out), _integers(n_out)
        g = _integers(rows, n_out)
        y = x @ w + b

        def layer(x: Any, w: Any, b: Any, g: Any) -> Any:
            y, pull = jax.vjp(lambda x, w, b: x @ w + b, x, w, b)
            return y, *pull(g)

        right: tuple[Any, ...] = (y, g @ w.T, x.T @ g, g.sum(0))
        yield f"x @ w + b, {n_in} to {n_out}", layer, ((x, w, b, g), right)

    members = 3
    x, w = _integers(rows, 2), _integers(members, 2, 3)
    b, scale = _integers(members, 3), _integers(members, 3)

    def scaled(x: Any, w: Any, b: Any, scale: Any) -> Any:
        return jax.vmap(lambda w, b, scale: scale * (x @ w + b))(w, b, scale)

    right = (scale[:, None] * (x @ w + b[:, None]),)
    yield (
        "vmapped scale * (x @ w + b)",
        lambda *a: (scaled(*a),),
        ((x, w, b, scale), right),
    )

    batched = _integers(rows, 2, 3)
    column = _integers(rows, 3, 1)
    yield (
        "batched (2, 3) @ (3, 1)",
        lambda a, c: (jnp.matmul(a, c),),
        ((batched, column), (batched @ column,)),
    )


def _integers(*shape: int) -> np.ndarray:
    """Return integers from -3 to 3: sums of 40,000 products of them stay below 2^24."""
    count = int(np.prod(shape))
    return ((np.arange(count) * 5 + count) % 7 - 3).reshape(shape)


def on_integers(
    name: str, f: Callable[..., Any], inputs: tuple[Any, ...], right: tuple[Any, ...]
) -> Finding:
    """Compare what the compiled f gives on integers with what is right, exactly."""
    got = jax.jit(f)(*(jnp.asarray(x, jnp.float32) for x in inputs))
    for i, (g, r) in enumerate(zip(got, right, strict=True)):
        wrong = np.argwhere(np.asarray(g) != r)
        if len(wrong):
            at = tuple(int(k) for k in wrong[0])
            detail = (
                f"{len(wrong):,} of {r.size:,} numbers of result {i} are wrong; the "
                f"first at {at}: {np.asarray(g)[at]} instead of {r[at]}"
            )
            return Finding(name, "compiler", detail, WRONG_NUMBERS)
    return Finding(name, "ok")


# The proof ----------------------------------------------------------------------------


def _proofs() -> Iterator[Finding]:
    draw = np.random.RandomState(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(draw.standard_normal(shape), jnp.float32)

    x, w, b, scale = normal(8, 5), normal(5, 3), normal(3), normal(3)
    yield proof(
        "float32 products (TF32?)",
        lambda x, w: x @ w,
        normal(4, 64),
        normal(64, 3),
        advice=LOW_PRECISION,
        argnums=(0, 1),
    )
    yield proof(
        "scale * (x @ w + b)", lambda p: p[0] * (x @ p[1] + p[2]), (scale, w, b)
    )
    yield proof(
        "vmapped scale * (x @ w + b)",
        jax.vmap(lambda p: p[0] * (x @ p[1] + p[2])),
        (normal(4, 3), normal(4, 5, 3), normal(4, 3)),
    )
    yield proof(
        "a scan of tanh layers",
        lambda w: jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), h), x, None, length=4)[0],
        normal(5, 5),
    )
    y, labels = normal(6, 3), jnp.array([0, 2, 1, 1, 0, 2])
    signs = jnp.where(y > 0, 1.0, -1.0)
    yield proof("squared_error", losses.squared_error, y, y[::-1])
    yield proof("mean_squared_error", losses.mean_squared_error, y, y[::-1])
    yield proof("hinge", losses.hinge, y[:, 0], signs[:, 0])
    yield proof("cross_entropy", losses.cross_entropy, y, labels)
    yield proof(
        "binary_cross_entropy",
        losses.binary_cross_entropy,
        y[:, 0],
        (signs[:, 0] + 1) / 2,
    )
    yield proof("l2", losses.l2, (w, b))


def proof(
    name: str,
    f: Callable[..., Any],
    *args: Any,
    advice: str = WRONG_NUMBERS,
    argnums: Any = 0,
) -> Finding:
    """Prove one gradient on this device."""
    report = check_gradients(f, *args, argnums=argnums)
    if report.ok:
        return Finding(f"gradient of {name}", "ok")
    what_to_do = advice if report.verdict == "compiler" else WRONG_RULE
    return Finding(f"gradient of {name}", report.verdict, str(report), what_to_do)
