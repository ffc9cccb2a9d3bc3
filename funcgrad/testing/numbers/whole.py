"""What whole arrays do alike, whatever kind of number is in them.

A kind has `lift`, `constant`, `elementwise` and `differ`, and the three operations
below that raise NotImplementedError; the rest follows from those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Arrays = Callable[..., Sequence[np.ndarray]]
Back = Callable[[np.ndarray], np.ndarray]


def in_float64(function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    """Call a function of JAX on float64 arrays, which it would cut to 32 bits."""
    with jax.enable_x64(True):
        return np.asarray(function(*(jnp.asarray(x) for x in arrays)))


class Whole:
    """A kind of number in whole arrays.

    To most kinds a rounding, a stopped gradient and a maximum are the number itself.
    `effort` is what a walk takes with it, where residues modulo one prime take 1.
    """

    effort = 1.0

    # What each kind does in its own way ----------------------------------------------

    def moved(
        self, function: Arrays, arrays: list[Any], back: Back | None = None
    ) -> list[Any]:
        """Apply a function that only moves numbers; `back` is its inverse, if known."""
        raise NotImplementedError

    def linear(
        self, function: Callable[..., Any], x: Any, terms: int, pull: Any
    ) -> Any:
        """Apply a function that adds up numbers, at most so many of them.

        `pull` is its transpose.
        """
        raise NotImplementedError

    def bilinear(
        self, function: Callable[..., Any], a: Any, b: Any, terms: int, pulls: Any
    ) -> Any:
        """Apply a function that adds up so many products of numbers of a and b.

        `pulls` are (g, b) -> derivative by a, and (g, a) -> derivative by b.
        """
        raise NotImplementedError

    # What follows --------------------------------------------------------------------

    def rounded_to(self, x: Any, info: Any) -> Any:
        """Convert to a float type, of which this is the `finfo`."""
        return x

    def stopped(self, x: Any) -> Any:
        return x

    def at_maximum(self, x: Any) -> Any:
        return x

    def where(self, mask: np.ndarray, a: Any, b: Any) -> Any:
        def chosen(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
            return [np.where(mask, x, y)]

        return self.moved(chosen, [a, b])[0]

    def sum_over(self, x: Any, axes: Sequence[int], dtype: Any) -> Any:
        axes, shape = tuple(axes), x.shape

        def pull(g: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.expand_dims(g, axes), shape)

        terms = math.prod(shape[i] for i in axes)
        return self.linear(lambda a: a.sum(axes), x, terms, pull)

    def running_sum(self, x: Any, dtype: Any) -> Any:
        """Return the cumulative sums along the last axis."""

        def pull(g: np.ndarray) -> np.ndarray:
            return np.cumsum(g[..., ::-1], -1)[..., ::-1]

        return self.linear(lambda a: np.cumsum(a, -1), x, x.shape[-1], pull)

    def contract(self, a: Any, b: Any, dtype: Any) -> Any:
        """Return the batched product of a (B, M, K) with b (B, K, N): (B, M, N)."""
        pulls = (
            lambda g, y: _matmul(g, y.swapaxes(1, 2)),
            lambda g, x: _matmul(x.swapaxes(1, 2), g),
        )
        return self.bilinear(_matmul, a, b, a.shape[2], pulls)

    def convolve(self, eqn: Any, a: Any, b: Any) -> Any:
        """Return a convolution, by XLA: it adds up in any order."""
        params = dict(eqn.params) | {"preferred_element_type": None}
        out = params["dimension_numbers"].rhs_spec[0]
        terms = math.prod(n for i, n in enumerate(b.shape) if i != out)

        def bind(x: Any, y: Any) -> Any:
            return eqn.primitive.bind(x, y, **params)

        def by_left(g: Any, y: Any) -> Any:
            return jax.vjp(lambda x: bind(x, y), jnp.zeros(a.shape))[1](g)[0]

        def by_right(g: Any, x: Any) -> Any:
            return jax.vjp(lambda y: bind(x, y), jnp.zeros(b.shape))[1](g)[0]

        pulls = partial(in_float64, by_left), partial(in_float64, by_right)
        return self.bilinear(partial(in_float64, bind), a, b, terms, pulls)

    def added_at(self, places: np.ndarray, updates: Any, shape: Sequence[int]) -> Any:
        """Return zeros with updates added at flat places; one below 0 is none."""
        size = math.prod(shape)
        places = np.where(places < 0, size, places)
        meet = max(1, int(np.max(np.bincount(places, minlength=1))))
        return self.linear(
            lambda u: np.bincount(places, u.ravel(), size + 1)[:-1].reshape(shape),
            updates,
            meet,
            lambda g: np.append(g, 0.0)[places].reshape(updates.shape),
        )


def _matmul(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.matmul(_for_blas(x), _for_blas(y))


def _for_blas(x: np.ndarray) -> np.ndarray:
    """Return x as an array that NumPy hands to BLAS as it is."""
    return x if x.itemsize in x.strides[-2:] else np.ascontiguousarray(x)
