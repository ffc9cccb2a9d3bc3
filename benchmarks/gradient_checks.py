"""Compare the gradient proof with finite differences: digits first, then size.

`python -m benchmarks.gradient_checks [--json FILE] [ITEM ...]`. `digits` prints, for n
numbers, how small a wrong factor in a custom_vjp each checker catches (the smallest
1 + 2^-k), and how many of some right gradients it rejects. The other items are nets of
growing size: seconds (medians), memory, and whether two planted faults are found.
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

from benchmarks import gradient_checkers as by
from benchmarks import gradient_sizes as at_size

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


def with_factor(factor: float) -> Callable[..., Any]:
    """Return tanh with a derivative that is wrong by a factor."""

    @jax.custom_vjp
    def f(x: Any) -> Any:
        return jnp.tanh(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2) * factor,))
    return f


def gross_error_missed(judge: by.Checker, x: Any) -> str:
    """Return the first of GROSS that is let pass, "" if all are caught."""
    wrong = {name: with_factor(factor) for name, factor in GROSS.items()}
    return next((name for name, f in wrong.items() if judge(f, x).accepted), "")


def smallest_caught(judge: by.Checker, x: Any) -> float:
    """Return the smallest wrong factor 1 + 2^-k that is caught, 2 being caught."""
    last = 2.0
    for k in (*range(1, 12), 16, 20, 23, 30, 40, 50, 52):
        factor = 1 + 2.0**-k
        is_one = float(np.asarray(factor, x.dtype)) == 1
        if is_one or judge(with_factor(factor), x).accepted:
            break
        last = factor
    return last


def measure(
    checkers: dict[str, by.Checker], sizes: Sequence[int] = SIZES
) -> Iterator[Row]:
    """Let each checker judge wrong and right gradients of n float32, then float64."""
    for name, judge in checkers.items():
        for dtype in ("float32", "float64"):
            for n in sizes:
                with jax.enable_x64(dtype == "float64"):
                    draw = np.random.RandomState(n)
                    x = jnp.asarray(draw.standard_normal(n), dtype)
                    missed = gross_error_missed(judge, x)
                    caught = None if missed else smallest_caught(judge, x)
                    right = [judge(f, point(x)) for f, point in RIGHT.values()]
                rejected = sum(judged.accepted is False for judged in right)
                yield Row(name, dtype, n, caught, missed, rejected, len(right))


def terminal_line(row: Row) -> str:
    if row.smallest_caught is None:
        caught = f"not even {row.missed}"
    elif row.smallest_caught == 2:
        caught = "2"
    else:
        caught = f"1 + 2^{math.log2(row.smallest_caught - 1):.0f}"
    alarms = f"{row.rejected} of {row.right}"
    return f"{row.checker:18} {row.dtype} {row.n:5}  {caught:24} {alarms}"


def digits(has_torch: bool) -> Iterator[Row]:
    checkers: dict[str, by.Checker] = {
        "funcgrad.testing": by.by_proof,
        "jax check_grads": by.by_check_grads,
    }
    if has_torch:
        checkers["torch gradcheck"] = by.by_gradcheck
    print(f"{'checker':18} {'dtype':7} {'n':>5}  {'smallest factor caught':24} alarms")
    for row in measure(checkers):
        print(terminal_line(row), flush=True)
        yield row


def sizes(nets: Sequence[str], has_torch: bool) -> Iterator[at_size.Row]:
    names = [n for n in at_size.CHECKERS if has_torch or not n.startswith("torch")]
    print(at_size.HEADER)
    for net in nets:
        for row in at_size.rows_of(net, names, at_size.ROUNDS):
            print(at_size.terminal_line(row), flush=True)
            yield row
    print("\nwhat they say of a wrong gradient")
    for name in names:
        print(f"{name:25} {at_size.CHECKERS[name].says}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    items = ("digits", *at_size.NETS)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(items))
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows there too"
    )
    given = parser.parse_args()
    chosen = given.items or items
    if not set(chosen) <= set(items):
        parser.error(f"items are {', '.join(items)}; got {' '.join(chosen)}")
    has_torch = importlib.util.find_spec("torch") is not None
    rows = list(digits(has_torch)) if "digits" in chosen else []
    nets = [net for net in at_size.NETS if net in chosen]
    large = list(sizes(nets, has_torch)) if nets else []
    if not has_torch:
        how = 'pip install "funcgrad[bench]"'
        print(f"{'torch gradcheck':18} absent: needs torch: {how}")
    if given.json:
        found = [m for m in ("jax", "numpy", "torch") if importlib.util.find_spec(m)]
        told = {
            "versions": {name: importlib.metadata.version(name) for name in found},
            "rows": [row._asdict() for row in rows],
            "sizes": [row._asdict() for row in large],
        }
        given.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
