"""What the exactness tests share: the same net in both engines, and exact numbers."""

import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import funcgrad as fg
from reference import MLP, Value

# The significand of each float type, in bits: integers up to 2**bits are all floats.
SIGNIFICAND = {"bfloat16": 8, "float32": 24, "float64": 53}

ACTIVATIONS = {"relu": jax.nn.relu, "linear": fg.linear, "tanh": jnp.tanh}


def total(y: jax.Array, target: jax.Array) -> jax.Array:
    """Return the sum of the outputs; the targets are ignored."""
    return jnp.sum(y)


# Each loss over the outputs and targets of several rows, as funcgrad and in Values.
# Outputs come as one list of Values a row; labels of cross_entropy are one a row.


def _pairs(outputs: list[list[Value]], targets: Any) -> list[tuple[Value, Any]]:
    return [
        (y, t)
        for row, target_row in zip(outputs, targets, strict=True)
        for y, t in zip(row, target_row, strict=True)
    ]


def _mean(values: Sequence[Value]) -> Value:
    return sum(values[1:], values[0]) / len(values)


def _sum(values: Sequence[Value]) -> Value:
    return sum(values[1:], values[0])


def _softplus(x: Value) -> Value:
    return (1 + x.exp()).log()


LOSSES: dict[str, tuple[Callable, Callable]] = {
    "total": (total, lambda ys, ts: _sum([y for y, _ in _pairs(ys, ts)])),
    "squared_error": (
        fg.squared_error,
        lambda ys, ts: _sum([(y - t) ** 2 for y, t in _pairs(ys, ts)]),
    ),
    "mean_squared_error": (
        fg.mean_squared_error,
        lambda ys, ts: _mean([(y - t) ** 2 for y, t in _pairs(ys, ts)]),
    ),
    "hinge": (
        fg.hinge,
        lambda ys, ts: _mean([(1 - t * y).relu() for y, t in _pairs(ys, ts)]),
    ),
    "binary_cross_entropy": (
        fg.binary_cross_entropy,
        lambda ys, ts: _mean(
            [t * _softplus(-y) + (1 - t) * _softplus(y) for y, t in _pairs(ys, ts)]
        ),
    ),
    "cross_entropy": (
        fg.cross_entropy,
        lambda ys, ks: _mean(
            [
                _sum([y.exp() for y in row]).log() - row[k]
                for row, k in zip(ys, ks, strict=True)
            ]
        ),
    ),
}


def reference_loss(
    net: MLP, loss: str, x: Any, target: Any, number: Callable[[Any], Any]
) -> Value:
    """Return the loss of `net` on all rows as one graph."""
    rows = [[number(v) for v in row] for row in np.asarray(x).tolist()]
    outputs = [net(row) for row in rows]
    outputs = [[y] if isinstance(y, Value) else y for y in outputs]
    targets = np.asarray(target)
    if targets.dtype.kind != "i" or targets.ndim > 1:
        targets = [[number(v) for v in row] for row in targets.tolist()]
    return LOSSES[loss][1](outputs, targets)


def reference_net(params: Any, activation: str, number: Callable[[Any], Any]) -> MLP:
    nested = [(np.asarray(w).tolist(), np.asarray(b).tolist()) for w, b in params]
    return MLP.from_params(nested, activation, "linear", number=number)


def flat(nested: Any) -> list[Any]:
    """Return the numbers of nested lists, of arrays, or of both, in order."""
    if isinstance(nested, (list, tuple)):
        return [leaf for item in nested for leaf in flat(item)]
    if hasattr(nested, "tolist") and np.ndim(nested):
        return flat(np.asarray(nested, np.float64).tolist())
    return [nested]


def bits_needed(params: Any, loss: str, x: Any, target: Any) -> int:
    """Return the significand in which nothing in loss or gradient can be rounded.

    With absolute values everywhere, and no activation to cut anything off, every node
    of the graph and every gradient is at least the sum of the absolute values of the
    terms that the real net adds up there. So it bounds each partial sum, whatever the
    order. The one division is a mean's, by n, so all of them are multiples of 1/n:
    where n is a power of two they are integers in that unit, exact if the bits suffice.
    """
    net = reference_net([(abs(w), abs(b)) for w, b in params], "linear", Fraction)
    return bits_of(reference_loss(net, loss, np.abs(x), -np.abs(target), Fraction))


def bits_of(bound: Value) -> int:
    """Return the significand that holds every number of this graph and its gradient."""
    bound.backward()
    nodes = bound.graph()
    numbers = [Fraction(v) for n in nodes for v in (n.data, n.grad)]
    denominators = {number.denominator for number in numbers}
    if any(d & (d - 1) for d in denominators):
        return sys.maxsize  # a third is in no float: nothing but powers of two divides
    return int(max(map(abs, numbers)) * max(denominators)).bit_length()


def ulps(value: Any, ball: Any) -> float:
    """Return how far a float64 is from the truth, in units of its last place."""
    nearest = float(ball)
    distance = Fraction(float(value)) - Fraction(nearest)
    return float(abs(distance) / Fraction(float(np.spacing(abs(nearest)))))
