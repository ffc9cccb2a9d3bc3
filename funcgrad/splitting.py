"""Rows of the data: which of them to learn from, and how much each counts.

Both look at all rows, on the host and before a run.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from funcgrad.arguments import check_key
from funcgrad.batches import count_rows, take
from funcgrad.errors import listed
from funcgrad.permutation import permutation


def split(data: Any, key: jax.Array, share: float, by: Any = None) -> tuple[Any, Any]:
    """Return (train, held_out): `share` of the rows, drawn by `key`, is held out.

    `data` is any pytree of NumPy or JAX arrays whose leaves share a leading axis of
    rows; both parts have its leaves, of the same kind, with rows in the order they had.
    share * rows is rounded, and each part has one row at least.

    `by`, one label a row, of shape (rows,) or (rows, 1), makes it alike in each class:
    share * count is rounded down, then up where most was cut off, until the total is
    that of all rows. A class of two or more has at least one in each part, even where
    the total is then another; one of a single row is learnt from, and not counted.

    >>> x, labels = np.arange(6), np.array([0, 0, 0, 0, 1, 1])
    >>> train, held_out = split((x, labels), jax.random.key(0), 0.5, by=labels)
    >>> train[1], held_out[1]
    (array([0, 0, 1]), array([0, 0, 1]))
    """
    _check_arrays(data)
    rows = count_rows(data)
    check_key("split", key)
    is_share = isinstance(share, (float, np.floating)) and 0 < share < 1
    if not is_share:
        raise ValueError(
            f"split needs the share of rows to hold out, a number between 0 and 1, got "
            f"{share!r}: for a fifth of them pass 0.2"
        )
    labels = np.zeros(rows) if by is None else _labels("split", by)
    if len(labels) != rows:
        raise ValueError(
            f"split needs a label in by for each of the {rows} rows of the data, got "
            f"{len(labels)}: take them from the same rows"
        )
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not np.any(counts > 1):
        raise ValueError(
            f"split needs two rows or more{'' if by is None else ' of some class'}, as "
            f"one is learnt from and one held out, got {rows}"
            f"{'' if by is None else ' of as many classes: leave by out'}"
        )
    drawn = np.asarray(permutation(key, rows))
    by_class = drawn[np.argsort(classes[drawn], kind="stable")]
    place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    is_held = np.zeros(rows, bool)
    is_held[by_class[place < np.repeat(_held_out(counts, share), counts)]] = True
    return take(data, np.flatnonzero(~is_held)), take(data, np.flatnonzero(is_held))


def class_weights(
    labels: Any, weight: str | Mapping[Any, float] = "balanced"
) -> np.ndarray:
    """Return each row's weight by its class, for the `weights` of a loss: float32.

    "balanced" is rows / (classes * count of the row's class), so that all classes have
    the same sum of weights, and all rows together that of their number. A mapping is
    {label: weight}. `labels` has shape (rows,) or (rows, 1), the result (rows,).
    Source: scikit-learn's `compute_sample_weight`.

    >>> class_weights(["a", "b", "b", "b"])
    array([2.       , 0.6666667, 0.6666667, 0.6666667], dtype=float32)
    >>> class_weights([0, 1, 1], {0: 10, 1: 1})
    array([10.,  1.,  1.], dtype=float32)
    """
    classes, of_row, counts = np.unique(
        _labels("class_weights", labels), return_inverse=True, return_counts=True
    )
    if isinstance(weight, Mapping):
        missing = [label for label in classes.tolist() if label not in weight]
        if missing:
            raise ValueError(
                f"class_weights needs a weight for each label, got none for "
                f"{listed(missing)}: add them to the mapping"
            )
        of_class = np.array([weight[label] for label in classes.tolist()], np.float64)
        fine = np.isfinite(of_class) & (of_class >= 0)
        if not fine.all():
            raise ValueError(
                f"class_weights needs finite weights of at least 0, got "
                f"{of_class[~fine][0]} for {classes[~fine].tolist()[0]!r}: a weight of "
                f"2 counts a row twice, and 0 leaves it out"
            )
    elif isinstance(weight, str) and weight == "balanced":
        of_class = of_row.size / (len(classes) * counts)
    else:
        raise ValueError(
            f"class_weights needs 'balanced' or a mapping {{label: weight}}, got "
            f"{weight!r}"
        )
    return of_class[of_row].astype(np.float32)


def _held_out(counts: np.ndarray, share: float) -> np.ndarray:
    """Return how many rows of each class are held out, by largest remainders."""
    most = counts - 1
    wanted = share * np.where(counts > 1, counts, 0)
    held = np.clip(np.floor(wanted).astype(int), np.minimum(1, most), most)
    missing = round(wanted.sum()) - held.sum()
    if missing > 0:
        cut_off = np.where(held < most, wanted - held, -1)
        chosen = np.argsort(-cut_off, kind="stable")[:missing]
        held[chosen[cut_off[chosen] > 0]] += 1
    return held


def _labels(name: str, labels: Any) -> np.ndarray:
    """Return one label a row, (rows,), or say what is wrong with them."""
    if isinstance(labels, jax.core.Tracer):
        raise ValueError(
            f"{name} needs labels whose values are known, got traced ones: call it "
            f"outside jit and vmap"
        )
    labels = np.asarray(labels)
    shape = labels.shape
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)) or not labels.size:
        raise ValueError(
            f"{name} needs one label a row, of shape (rows,) or (rows, 1), got {shape}"
        )
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError(
            f"{name} needs a label in each row, got nan: leave such rows out, or make "
            f"them a class of their own"
        )
    return labels.reshape(-1)


def _check_arrays(data: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(data):
        if not hasattr(leaf, "shape"):
            raise ValueError(
                f"data needs arrays, got {leaf!r} at data{jax.tree_util.keystr(path)}: "
                f"make an array of each list, with np.asarray"
            )
