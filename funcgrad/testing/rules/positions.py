"""Where primitives that move data put each number, whatever kind of number it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax


def _broadcast(eqn: Any, x: np.ndarray) -> np.ndarray:
    shape, axes = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    thin = [1] * len(shape)
    for axis, size in zip(axes, x.shape, strict=True):
        thin[axis] = size
    return np.broadcast_to(x.reshape(thin), shape)


def _slice(eqn: Any, x: np.ndarray) -> np.ndarray:
    p = eqn.params
    strides = p["strides"] or (1,) * x.ndim
    limits = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return x[tuple(slice(*limit) for limit in limits)]


def _split(eqn: Any, x: np.ndarray) -> list[Any]:
    borders = np.cumsum(eqn.params["sizes"])[:-1]
    return np.split(x, borders, eqn.params["axis"])


def _reshape(eqn: Any, x: np.ndarray) -> np.ndarray:
    return x.reshape(eqn.outvars[0].aval.shape)


# Those that NumPy has itself, on arrays of anything.
FAST_MOVES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda eqn, *xs: np.concatenate(xs, eqn.params["dimension"]),
    "expand_dims": _reshape,
    "reshape": _reshape,
    "rev": lambda eqn, x: np.flip(x, eqn.params["dimensions"]),
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": lambda eqn, x: np.transpose(x, eqn.params["permutation"]),
}


def _reshape_back(eqn: Any, x: np.ndarray) -> np.ndarray:
    return x.reshape(eqn.invars[0].aval.shape)


# The inverse of those that have one.
BACK: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    **dict.fromkeys(("expand_dims", "reshape", "squeeze"), _reshape_back),
    "transpose": lambda eqn, x: x.transpose(np.argsort(eqn.params["permutation"])),
}

# Those that JAX does on positions.
PICKS = (
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "pad",
    "scatter",
    "stack",
    "tile",
    "unstack",
)

MOVES = {*FAST_MOVES, *PICKS}


def windows(
    shape: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> np.ndarray:
    """Return the positions in each window: (*output shape, elements), -1 outside."""
    positions = jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    config = [
        (lo, hi, d - 1) for (lo, hi), d in zip(padding, base_dilation, strict=True)
    ]
    padded = np.asarray(lax.pad(positions, jnp.int32(-1), config))
    reach = [(n - 1) * d + 1 for n, d in zip(size, window_dilation, strict=True)]
    counts = [
        max(0, (n - r) // s + 1)
        for n, r, s in zip(padded.shape, reach, strides, strict=True)
    ]
    if 0 in counts:  # of which sliding_window_view knows nothing
        return np.empty((*counts, math.prod(size)), np.int32)
    views = np.lib.stride_tricks.sliding_window_view(padded, reach)
    every = tuple(slice(None, None, s) for s in strides)
    inside = tuple(slice(None, None, d) for d in window_dilation)
    views = views[(*every, *inside)]
    return views.reshape(*views.shape[: len(shape)], -1)


def windows_of(eqn: Any, shape: Sequence[int]) -> np.ndarray:
    """Return the windows of a reduction over windows of an array of this shape."""
    p, ones = eqn.params, (1,) * len(shape)
    return windows(
        shape,
        p["window_dimensions"],
        p["window_strides"],
        p["padding"],
        p.get("base_dilation") or ones,
        p.get("window_dilation") or ones,
    )


def targets(
    eqn: Any, shape: Sequence[int], indices: Any, updates: Sequence[int]
) -> np.ndarray:
    """Return where each update lands in the flat operand; -1 where it is dropped.

    `shape` is the operand's and `updates` that of the updates. A gather with the
    matching dimension numbers reads exactly the places that the scatter writes to.
    """
    d = eqn.params["dimension_numbers"]
    single = (*d.inserted_window_dims, *d.operand_batching_dims)
    window = iter(d.update_window_dims)
    sizes = [1 if i in single else updates[next(window)] for i in range(len(shape))]
    numbering = lax.GatherDimensionNumbers(
        offset_dims=d.update_window_dims,
        collapsed_slice_dims=d.inserted_window_dims,
        start_index_map=d.scatter_dims_to_operand_dims,
        operand_batching_dims=d.operand_batching_dims,
        start_indices_batching_dims=d.scatter_indices_batching_dims,
    )
    places = jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    found = lax.gather(
        places, indices, numbering, sizes, mode=eqn.params["mode"], fill_value=-1
    )
    return np.asarray(found).ravel()
