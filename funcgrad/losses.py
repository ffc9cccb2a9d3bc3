"""Losses: each returns one number, and none of them ever broadcasts.

Each takes `weights`, one number a row, and a weight of 2 is the row twice: sums add
w l, and means divide by the sum of the weights of all entries, sum w l / sum w. Rows
lie along the first axis, or along the first few: weights have the shape of the targets,
or of their first axes, and count for all entries that follow. They are finite, at least
0, and not all 0, which raises where they are known. Inside a jitted function means are
NaN where all weights are 0, as of no rows at all, and a sum is 0.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from funcgrad.errors import InputError

ValueCheck = Callable[[Any], None]
"""check(values) raises where a loss cannot take them."""

# Who wants to know of the values that cannot be looked at where they are traced.
_noted: ContextVar[list[tuple[Any, ValueCheck]] | None]
_noted = ContextVar("_noted", default=None)


def squared_error(
    y: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None
) -> jax.Array:
    """Return sum w (y - target)^2 over all entries; y and target have the same shape.

    `weights` has one number a row: see `funcgrad.losses`.

    >>> y, target = jnp.array([[1.0], [2.0]]), jnp.zeros((2, 1))
    >>> float(squared_error(y, target)), float(squared_error(y, target, [1, 3]))
    (5.0, 13.0)
    """
    y, target = _same_shape("squared_error", "y", y, "target", target)
    return _sum("squared_error", (y - target) ** 2, weights)


def mean_squared_error(
    y: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None
) -> jax.Array:
    """Return sum w (y - target)^2 / sum w over all entries, without weights the mean.

    `y` and `target` have the same shape, `weights` one number a row.
    """
    y, target = _same_shape("mean_squared_error", "y", y, "target", target)
    return _mean("mean_squared_error", (y - target) ** 2, weights)


def hinge(
    scores: ArrayLike, signs: ArrayLike, weights: ArrayLike | None = None
) -> jax.Array:
    """Return mean max(0, 1 - sign * score), the max-margin loss for two classes.

    `scores` and `signs` have the same shape; each sign is -1 or 1. The slope where the
    margin is met exactly (sign * score = 1) is 0. `weights` has one number a row, and
    the mean is sum w l / sum w.
    """
    y, target = _same_shape("hinge", "scores", scores, "signs", signs)
    check_values("hinge", "signs", signs, lambda s: abs(s) == 1, "-1 or 1")
    return _mean("hinge", jax.nn.relu(1 - target * y), weights)


def cross_entropy(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> jax.Array:
    """Return mean -log softmax(logits)[label], the loss for one class out of many.

    `logits` has shape (..., classes) and `labels` shape (...), whole numbers from 0 to
    classes - 1. A label outside that range raises where its value is known; inside a
    jitted function it makes the loss NaN. `weights` has one number for each label, or
    for each along their first axes, and the mean is sum w l / sum w.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"cross_entropy needs whole-number labels, got {labels.dtype}: convert "
            f"them with labels.astype(int)"
        )
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"cross_entropy needs logits of shape (..., classes) and labels of the "
            f"same shape without the last axis, got {logits.shape} and {labels.shape}"
            f"{_reshape_hint(labels.shape, logits.shape[:-1])}"
        )
    classes = logits.shape[-1]
    check_values(
        "cross_entropy",
        "labels",
        labels,
        lambda k: (k >= 0) & (k < classes),
        f"from 0 to {classes - 1}, as there are {classes} logits",
    )
    chosen = labels[..., None] == jnp.arange(classes)
    log_probability = jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits), 0), axis=-1)
    entries = jnp.where(chosen.any(-1), log_probability, jnp.nan)
    return -_mean("cross_entropy", entries, weights)


def binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> jax.Array:
    """Return mean -(label log s(logit) + (1 - label) log(1 - s(logit))), s the sigmoid.

    Both have the same shape; labels are 0, 1, or a probability between them. Written
    with softplus, so that no logit is too large. `weights` has one number a row, and
    the mean is sum w l / sum w.
    """
    z, p = _same_shape("binary_cross_entropy", "logits", logits, "labels", labels)
    check_values(
        "binary_cross_entropy",
        "labels",
        labels,
        lambda p: (p >= 0) & (p <= 1),
        "from 0 to 1",
    )
    entries = p * jax.nn.softplus(-z) + (1 - p) * jax.nn.softplus(z)
    return _mean("binary_cross_entropy", entries, weights)


def l2(params: Any) -> jax.Array:
    """Return the sum of the squares of all parameters, biases included."""
    return jnp.asarray(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)))


def _same_shape(
    loss: str, a_name: str, a: ArrayLike, b_name: str, b: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Return both as arrays, `b` in the dtype of `a`, or raise unless shapes agree."""
    a = jnp.asarray(a)
    if not jnp.issubdtype(a.dtype, jnp.floating):
        a = a.astype(jnp.result_type(float))
    b = jnp.asarray(b, a.dtype)
    if a.shape != b.shape:
        raise ValueError(
            f"{loss} needs {a_name} and {b_name} of the same shape, got {a.shape} and "
            f"{b.shape}{_reshape_hint(b.shape, a.shape)}"
        )
    return a, b


def _reshape_hint(given: tuple[int, ...], required: tuple[int, ...]) -> str:
    if np.prod(given) != np.prod(required):
        return ""
    return f": reshape the second to {required}, for example with .reshape{required}"


def _sum(loss: str, entries: jax.Array, weights: ArrayLike | None) -> jax.Array:
    """Return sum w l, without weights sum l."""
    if weights is None:
        return jnp.sum(entries)
    w, entries_wide = _weighted(loss, weights, entries)
    return jnp.sum(w * entries_wide).astype(entries.dtype)


def _mean(loss: str, entries: jax.Array, weights: ArrayLike | None) -> jax.Array:
    """Return sum w l / sum w, without weights the mean of l."""
    if weights is None:
        return jnp.mean(entries)
    w, entries_wide = _weighted(loss, weights, entries)
    return (jnp.sum(w * entries_wide) / jnp.sum(w)).astype(entries.dtype)


def _weighted(
    loss: str, weights: ArrayLike, entries: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the weight of each entry, and entries, or raise unless each row has one.

    Both are float32 at least: narrow floats hold no weight of 257, and are summed and
    divided wider by `jnp.mean` too.
    """
    wide = jnp.promote_types(entries.dtype, jnp.float32)
    w = jnp.asarray(weights, wide)
    if w.shape != entries.shape[: max(w.ndim, 1)]:
        shapes = [entries.shape[: n + 1] for n in range(entries.ndim)] or [()]
        raise ValueError(
            f"{loss} needs one weight a row, weights of shape "
            f"{' or '.join(map(str, shapes))}, got {w.shape}: reshape them, or give "
            f"each row its own"
        )
    check_values(
        loss,
        "weights",
        weights,
        lambda w: np.isfinite(w) & (w >= 0),
        "finite and at least 0",
    )
    check_values(
        loss,
        "weights",
        weights,
        lambda w: np.broadcast_to(np.any(w > 0), w.shape),
        "of which one at least is above 0",
    )
    w = w.reshape(w.shape + (1,) * (entries.ndim - w.ndim))
    return jnp.broadcast_to(w, entries.shape), entries.astype(wide)


def check_values(
    loss: str, name: str, values: Any, is_fine: Any, required: str
) -> None:
    """Raise where a value is known and wrong; of a traced one note what it must be."""

    def check(values: Any) -> None:
        values = np.asarray(values)
        fine = np.asarray(is_fine(values))
        if not np.all(fine):
            raise InputError(f"{loss} needs {name} {required}, got {values[~fine][0]}")

    if not isinstance(values, jax.core.Tracer):
        check(values)
    elif (noted := _noted.get()) is not None:
        noted.append((values, check))


@contextmanager
def noted_checks() -> Iterator[list[tuple[Any, ValueCheck]]]:
    """Collect (traced values, check) for each loss within that has a rule for them.

    `data_checks` looks at the data by them before a run is compiled.
    """
    noted: list[tuple[Any, ValueCheck]] = []
    before = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(before)
