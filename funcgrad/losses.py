"""Losses: each returns one number, and none of them ever broadcasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

ValueCheck = Callable[[Any], None]
"""check(values) raises where a loss cannot take them."""

# Who wants to know of the values that cannot be looked at where they are traced.
_noted: ContextVar[list[tuple[Any, ValueCheck]] | None]
_noted = ContextVar("_noted", default=None)


def squared_error(y: ArrayLike, target: ArrayLike) -> jax.Array:
    """Return sum (y - target)^2 over all entries; both have the same shape."""
    y, target = _same_shape("squared_error", "y", y, "target", target)
    return jnp.sum((y - target) ** 2)


def mean_squared_error(y: ArrayLike, target: ArrayLike) -> jax.Array:
    """Return mean (y - target)^2 over all entries; both have the same shape."""
    y, target = _same_shape("mean_squared_error", "y", y, "target", target)
    return jnp.mean((y - target) ** 2)


def hinge(scores: ArrayLike, signs: ArrayLike) -> jax.Array:
    """Return mean max(0, 1 - sign * score), the max-margin loss for two classes.

    `scores` and `signs` have the same shape; each sign is -1 or 1. The slope where the
    margin is met exactly (sign * score = 1) is 0.
    """
    y, target = _same_shape("hinge", "scores", scores, "signs", signs)
    _check_values("hinge", "signs", signs, lambda s: abs(s) == 1, "-1 or 1")
    return jnp.mean(jax.nn.relu(1 - target * y))


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Return mean -log softmax(logits)[label], the loss for one class out of many.

    `logits` has shape (..., classes) and `labels` shape (...), whole numbers from 0 to
    classes - 1. A label outside that range raises where its value is known; inside a
    jitted function it makes the loss NaN.
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
    _check_values(
        "cross_entropy",
        "labels",
        labels,
        lambda k: (k >= 0) & (k < classes),
        f"from 0 to {classes - 1}, as there are {classes} logits",
    )
    chosen = labels[..., None] == jnp.arange(classes)
    log_probability = jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits), 0), axis=-1)
    return -jnp.mean(jnp.where(chosen.any(-1), log_probability, jnp.nan))


def binary_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Return mean -(label log s(logit) + (1 - label) log(1 - s(logit))), s the sigmoid.

    Both have the same shape; labels are 0, 1, or a probability between them. Written
    with softplus, so that no logit is too large.
    """
    z, p = _same_shape("binary_cross_entropy", "logits", logits, "labels", labels)
    _check_values(
        "binary_cross_entropy",
        "labels",
        labels,
        lambda p: (p >= 0) & (p <= 1),
        "from 0 to 1",
    )
    return jnp.mean(p * jax.nn.softplus(-z) + (1 - p) * jax.nn.softplus(z))


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


def _check_values(
    loss: str, name: str, values: Any, is_fine: Any, required: str
) -> None:
    """Raise where a value is known and wrong; of a traced one note what it must be."""

    def check(values: Any) -> None:
        values = np.asarray(values)
        fine = np.asarray(is_fine(values))
        if not np.all(fine):
            raise ValueError(f"{loss} needs {name} {required}, got {values[~fine][0]}")

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
