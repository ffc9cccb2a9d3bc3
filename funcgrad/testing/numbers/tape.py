"""Whole float arrays on a tape: derivatives backward, and what roundings cost.

With errors, every operation that rounds also leaves how far a float may be off there;
one pass back weights that with the derivative of the result by that very number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.constants import Reading
from funcgrad.testing.control import Place
from funcgrad.testing.numbers.floats import Floats
from funcgrad.testing.numbers.objects import unit
from funcgrad.testing.numbers.whole import Arrays, Back, Whole
from funcgrad.testing.rules.elementwise import Rule

Pull = Callable[[np.ndarray], list[np.ndarray]]


class Taped:
    """An array, what it was made from, and the derivative by it, once that is known.

    `pull(g)` returns the derivatives by the parents. `error` gives the worst and the
    typical error of a float made here, or None where nothing rounds.
    """

    __slots__ = ("adjoint", "error", "parents", "place", "pull", "value")

    def __init__(self, value: np.ndarray, parents: tuple[Taped, ...] = ()):
        self.value, self.parents = value, parents
        self.pull: Pull | None = None
        self.adjoint: Any = None
        self.error: Callable[[], tuple[Any, Any]] | None = None
        self.place: Place | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


class Tape(Whole):
    """Arrays that know where they came from, in order.

    What has no variable among its ancestors is not differentiated, unless `errors` are
    asked for, as those are made anywhere.
    """

    type = Taped

    def __init__(self, *, errors: bool = False, reading: Reading | None = None):
        self.kind, self.errors = Floats(reading), errors
        self.nodes: list[Taped] = []
        self.place: Place | None = None

    def at(self, place: Place) -> None:
        self.place = place

    def variable(self, value: Any) -> Taped:
        out = Taped(self.kind.lift(value))
        self.nodes.append(out)
        out.pull = lambda g: []
        return out

    def lift(self, native: Any) -> Taped:
        return Taped(self.kind.lift(native))

    def constant(self, native: Any, dtype: Any) -> Taped:
        return Taped(self.kind.constant(native, dtype))

    def _node(
        self,
        value: Any,
        parents: list[Taped],
        pull: Pull,
        error: Callable[[], tuple[Any, Any]] | None = None,
    ) -> Taped:
        out = Taped(np.asarray(value))
        error = error if self.errors else None
        if error is None and all(p.pull is None for p in parents):
            return out
        out.parents, out.pull, out.error = tuple(parents), pull, error
        out.place = self.place
        self.nodes.append(out)
        return out

    def elementwise(self, rule: Rule, arrays: list[Taped]) -> Taped:
        values = [x.value for x in arrays]
        out = self.kind.elementwise(rule, values)

        def pull(g: np.ndarray) -> list[np.ndarray]:
            slopes = self.kind.slopes(rule, values, out)
            with np.errstate(all="ignore"):
                # Beside an infinity a slope is no number, and nothing moves.
                return [
                    _summed_to(np.nan_to_num(g * s, nan=0, posinf=0, neginf=0), v.shape)
                    if x.pull is not None
                    else np.zeros(v.shape)
                    for x, s, v in zip(arrays, slopes, values, strict=True)
                ]

        if not self.errors or self.place is None or rule.ulps == 0:
            return self._node(out, arrays, pull)

        def error() -> tuple[Any, Any]:
            ulps = rule.error(np.dtype(self._dtype))
            size = np.abs(out) * (2 * ulps * self._unit)
            return size, size

        return self._node(out, arrays, pull, self._fixed(error))

    @property
    def _dtype(self) -> Any:
        assert self.place is not None
        return result_dtype(self.place.eqn)

    @property
    def _unit(self) -> float:
        dtype = self._dtype
        if not np.issubdtype(dtype, np.floating) and dtype.kind in "biu":
            return 0.0
        return unit(dtype)

    def _fixed(self, error: Callable[[], Any]) -> Callable[[], Any]:
        """Return an error that is computed later, at the place of today."""
        place = self.place

        def later() -> Any:
            before, self.place = self.place, place
            try:
                with np.errstate(all="ignore"):
                    return error()
            finally:
                self.place = before

        return later

    def moved(
        self, function: Arrays, arrays: list[Any], back: Back | None = None
    ) -> list[Taped]:
        outs = self.kind.moved(function, [x.value for x in arrays])
        if all(x.pull is None for x in arrays):
            return [Taped(x) for x in outs]
        if back is not None:
            return [self._node(outs[0], arrays, lambda g: [back(g)])]

        def places() -> list[np.ndarray]:
            starts = np.cumsum([0, *(x.value.size for x in arrays)])
            index = [
                np.arange(a, b).reshape(x.shape)
                for a, b, x in zip(starts, starts[1:], arrays, strict=False)
            ]
            return [np.asarray(x) for x in function(*index)]

        def pull_of(i: int) -> Pull:
            def pull(g: np.ndarray) -> list[np.ndarray]:
                sizes = [x.value.size for x in arrays]
                at = places()[i].ravel()
                flat = np.bincount(at, g.ravel(), sum(sizes))
                parts = np.split(flat, np.cumsum(sizes)[:-1])
                return [p.reshape(x.shape) for p, x in zip(parts, arrays, strict=True)]

            return pull

        return [self._node(x, arrays, pull_of(i)) for i, x in enumerate(outs)]

    def bilinear(
        self, function: Callable[..., Any], a: Taped, b: Taped, terms: int, pulls: Any
    ) -> Taped:
        out = self.kind.bilinear(function, a.value, b.value, terms, pulls)

        def pull(g: np.ndarray) -> list[np.ndarray]:
            with np.errstate(all="ignore"):
                return [
                    pulls[0](g, b.value) if a.pull is not None else np.zeros(a.shape),
                    pulls[1](g, a.value) if b.pull is not None else np.zeros(b.shape),
                ]

        def error() -> tuple[Any, Any]:
            size = function(np.abs(a.value), np.abs(b.value)) * self._unit
            return size * terms, size * math.sqrt(terms)

        return self._node(out, [a, b], pull, self._fixed(error))

    def linear(
        self, function: Callable[..., Any], x: Taped, terms: int, pull: Any
    ) -> Taped:
        out = self.kind.linear(function, x.value, terms, pull)

        def error() -> tuple[Any, Any]:
            size = function(np.abs(x.value)) * self._unit
            return size * (terms - 1), size * math.sqrt(max(terms - 1, 0))

        return self._node(
            out, [x], lambda g: [pull(g)], self._fixed(error) if terms > 1 else None
        )

    def differ(self, a: Taped, b: Taped) -> np.ndarray:
        return np.asarray(False)

    def rounded_to(self, x: Taped, info: Any) -> Taped:
        def error() -> tuple[Any, Any]:
            size = np.abs(x.value) * (float(info.eps) / 2)
            return size, size

        return self._node(x.value, [x], lambda g: [g], error)

    def stopped(self, x: Taped) -> Taped:
        return Taped(x.value)

    def back(
        self,
        seeds: list[tuple[Taped, np.ndarray]],
        visit: Callable[[Taped], None] | None = None,
    ) -> None:
        """Find the derivatives of sum <seed, array> by every node, last to first.

        `visit(node)` is called where a derivative is complete; then only variables
        keep theirs.
        """
        for node in self.nodes:
            node.adjoint = None
        for node, seed in seeds:
            _accumulate(node, np.asarray(seed, np.float64))
        for node in reversed(self.nodes):
            g = node.adjoint
            if g is None:
                continue
            if visit is not None:
                visit(node)
            assert node.pull is not None
            live = [p for p in node.parents if p.pull is not None]
            if live:
                for parent, part in zip(node.parents, node.pull(g), strict=True):
                    if parent.pull is not None:
                        _accumulate(parent, part)
            if node.parents:
                node.adjoint = None


class Shaken(Tape):
    """Floats to which every rounding adds a random error, as large as is typical.

    Nothing is recorded.
    """

    def __init__(self, seed: int):
        super().__init__(errors=True)
        self._draw = np.random.default_rng(seed)

    def _node(
        self,
        value: Any,
        parents: list[Taped],
        pull: Pull,
        error: Callable[[], tuple[Any, Any]] | None = None,
    ) -> Taped:
        value = np.asarray(value)
        if error is not None:
            _, typical = error()
            shake = typical * self._draw.standard_normal(value.shape)
            value = value + np.where(np.isfinite(value), shake, 0.0)
        return Taped(value)


def _accumulate(node: Taped, g: np.ndarray) -> None:
    node.adjoint = g if node.adjoint is None else node.adjoint + g


def _summed_to(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return g summed over what was broadcast."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    g = g.sum(tuple(range(extra)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    return g.sum(axes, keepdims=True).reshape(shape) if axes else g.reshape(shape)
