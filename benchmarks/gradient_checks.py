"""Compare the gradient proof with finite differences, in one table.

For n numbers it prints how small a wrong factor in a custom_vjp each checker catches
(the smallest 1 + 2^-k), and how many of some right gradients it rejects. Run it with
`python benchmarks/gradient_checks.py [--json FILE]`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from funcgrad.testing import check_gradients

SIZES = (1, 10, 100, 1000)

# Functions that JAX differentiates correctly, with points where that is not easy.
RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "tanh": (jnp.tanh, lambda x: x),
    "exp": (jnp.exp, lambda x: 5 + x),
    "log": (jnp.log, lambda x: abs(x) + 1e-3),
    "sqrt": (jnp.sqrt, lambda x: abs(x) + 1e-3),
    "cube": (lambda x: x**3, lambda x: 100 * x),
    "sin of 30 x": (lambda x: jnp.sin(30 * x), lambda x: x),
    "reciprocal": (lambda x: 1 / x, lambda x: abs(x) + 0.01),
    "softmax": (jax.nn.softmax, lambda x: 10 * x),
    "logsumexp": (jax.nn.logsumexp, lambda x: x),
    "norm": (lambda x: jnp.sqrt((x * x).sum()), lambda x: x),
    "mean": (jnp.mean, lambda x: x + 1000),
    "relu": (jax.nn.relu, lambda x: x),
}

# Errors that are no matter of digits; who lets one pass catches no smaller factor.
GROSS = {"sign": -1.0, "zero": 0.0, "twice": 2.0}


class Row(NamedTuple):
    """What a checker does with n numbers of a dtype."""

    checker: str
    dtype: str
    n: int
    smallest_caught: (
        float | None
    )  # the factor, 1 + 2^-k; None if it missed one of GROSS
    missed: str  # which; "" if none
    rejected: int  # of the right gradients
    right: int  # how many there are


def accepted_by_proof(f: Callable[..., Any], x: Any) -> bool:
    return check_gradients(f, x).ok


def accepted_by_check_grads(f: Callable[..., Any], x: Any) -> bool:
    try:
        check_grads(f, (x,), order=1, modes=["rev"])
    except AssertionError:
        return False
    return True


def accepted_by_gradcheck(f: Callable[..., Any], x: Any) -> bool:
    """Hand JAX's function and gradient to torch.autograd.gradcheck."""
    import torch

    value, pull = jax.jit(f), jax.jit(lambda x, g: jax.vjp(f, x)[1](g)[0])

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.from_numpy(np.array(value(x.detach().numpy())))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return torch.from_numpy(np.array(pull(x.numpy(), g.numpy())))

    point = torch.from_numpy(np.array(x)).requires_grad_()
    return bool(
        torch.autograd.gradcheck(Wrapped.apply, (point,), raise_exception=False)
    )


def with_factor(factor: float) -> Callable[..., Any]:
    """Return tanh with a derivative that is wrong by a factor."""

    @jax.custom_vjp
    def f(x: Any) -> Any:
        return jnp.tanh(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2) * factor,))
    return f


def gross_error_missed(accepted: Callable[..., bool], x: Any) -> str:
    """Return the first of GROSS that is let pass, "" if all are caught."""
    return next((n for n, by in GROSS.items() if accepted(with_factor(by), x)), "")


def smallest_caught(accepted: Callable[..., bool], x: Any) -> float:
    """Return the smallest wrong factor 1 + 2^-k that is caught, 2 being caught."""
    last = 2.0
    for k in (*range(1, 12), 16, 20, 23, 30, 40, 50, 52):
        factor = 1 + 2.0**-k
        if float(np.asarray(factor, x.dtype)) == 1 or accepted(with_factor(factor), x):
            break
        last = factor
    return last


def measure(
    checkers: dict[str, Callable[..., bool]], sizes: Sequence[int] = SIZES
) -> Iterator[Row]:
    """Let each checker judge wrong and right gradients of n float32, then float64."""
    for name, accepted in checkers.items():
        for dtype in ("float32", "float64"):
            for n in sizes:
                with jax.enable_x64(dtype == "float64"):
                    draw = np.random.RandomState(n)
                    x = jnp.asarray(draw.standard_normal(n), dtype)
                    missed = gross_error_missed(accepted, x)
                    caught = None if missed else smallest_caught(accepted, x)
                    judged = [accepted(f, point(x)) for f, point in RIGHT.values()]
                rejected = judged.count(False)
                yield Row(name, dtype, n, caught, missed, rejected, len(judged))


def terminal_line(row: Row) -> str:
    if row.smallest_caught is None:
        caught = f"not even {row.missed}"
    elif row.smallest_caught == 2:
        caught = "2"
    else:
        caught = f"1 + 2^{math.log2(row.smallest_caught - 1):.0f}"
    alarms = f"{row.rejected} of {row.right}"
    return f"{row.checker:18} {row.dtype} {row.n:5}  {caught:24} {alarms}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows there too"
    )
    given = parser.parse_args()
    checkers = {
        "funcgrad.testing": accepted_by_proof,
        "jax check_grads": accepted_by_check_grads,
    }
    if importlib.util.find_spec("torch"):
        checkers["torch gradcheck"] = accepted_by_gradcheck
    print(f"{'checker':18} {'dtype':7} {'n':>5}  {'smallest factor caught':24} alarms")
    rows = []
    for row in measure(checkers):
        print(terminal_line(row), flush=True)
        rows.append(row._asdict())
    if "torch gradcheck" not in checkers:
        how = 'pip install "funcgrad[bench]"'
        print(f"{'torch gradcheck':18} absent: needs torch: {how}")
    if given.json:
        found = [m for m in ("jax", "numpy", "torch") if importlib.util.find_spec(m)]
        versions = {module: importlib.metadata.version(module) for module in found}
        given.json.write_text(
            json.dumps({"versions": versions, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
