"""Whole arrays of another kind, each with a tangent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from funcgrad.testing.numbers.whole import Arrays, Back, Whole
from funcgrad.testing.rules.elementwise import Rule


class Moving(NamedTuple):
    """A value, and what it changes by along the direction; None for nothing."""

    value: Any
    tangent: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)


class Tangents(Whole):
    """Arrays of another kind with tangents.

    `maxima` says what becomes of the tangent of a maximum: "" for what it is, "held"
    for none, and "injected" for a random one.
    """

    type = Moving

    def __init__(self, kind: Any, maxima: str = ""):
        self.kind, self.maxima, self.effort = kind, maxima, kind.effort
        self._draw = np.random.default_rng(0)

    def lift(self, native: Any) -> Moving:
        return Moving(self.kind.lift(native))

    def constant(self, native: Any, dtype: Any) -> Moving:
        return Moving(self.kind.constant(native, dtype))

    def elementwise(self, rule: Rule, arrays: list[Moving]) -> Moving:
        values = [x.value for x in arrays]
        out = self.kind.elementwise(rule, values)
        if all(x.tangent is None for x in arrays):
            return Moving(out)
        slopes = self.kind.slopes(rule, values, out)
        tangent: Any = None
        for x, slope in zip(arrays, slopes, strict=True):
            if x.tangent is not None:
                part = x.tangent * slope
                tangent = part if tangent is None else tangent + part
        if tangent.shape != out.shape:
            (tangent,) = self.kind.moved(
                lambda t: [np.broadcast_to(t, out.shape)], [tangent]
            )
        return Moving(out, tangent)

    def _zeros(self, x: Moving) -> Any:
        return self.kind.lift(np.zeros(x.shape)) if x.tangent is None else x.tangent

    def moved(
        self, function: Arrays, arrays: list[Any], back: Back | None = None
    ) -> list[Moving]:
        values = self.kind.moved(function, [x.value for x in arrays])
        if all(x.tangent is None for x in arrays):
            return [Moving(v) for v in values]
        tangents = self.kind.moved(function, [self._zeros(x) for x in arrays])
        return [Moving(v, t) for v, t in zip(values, tangents, strict=True)]

    def bilinear(
        self, function: Callable[..., Any], a: Moving, b: Moving, terms: int, pulls: Any
    ) -> Moving:
        out = self.kind.bilinear(function, a.value, b.value, terms, pulls)
        tangent = None
        if a.tangent is not None:
            tangent = self.kind.bilinear(function, a.tangent, b.value, terms, pulls)
        if b.tangent is not None:
            part = self.kind.bilinear(function, a.value, b.tangent, terms, pulls)
            tangent = part if tangent is None else tangent + part
        return Moving(out, tangent)

    def linear(
        self, function: Callable[..., Any], x: Moving, terms: int, pull: Any
    ) -> Moving:
        out = self.kind.linear(function, x.value, terms, pull)
        if x.tangent is None:
            return Moving(out)
        return Moving(out, self.kind.linear(function, x.tangent, terms, pull))

    def differ(self, a: Moving, b: Moving) -> np.ndarray:
        return np.asarray(self.kind.differ(a.value, b.value))

    def stopped(self, x: Moving) -> Moving:
        return Moving(x.value)

    def cut(self, x: Moving) -> Moving:
        return Moving(self.kind.cut(x.value), x.tangent)

    def at_maximum(self, x: Moving) -> Moving:
        """Return a maximum, with the tangent that `maxima` asks for."""
        if self.maxima == "injected":
            return Moving(x.value, self.kind.field.random(x.shape, self._draw))
        return Moving(x.value) if self.maxima == "held" else x
