"""Whole arrays in a finite field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.testing.numbers.dual import Dual, DualField
from funcgrad.testing.numbers.field import Field
from funcgrad.testing.numbers.residues import LIMIT, Residues, halves
from funcgrad.testing.numbers.whole import Arrays, Back, Whole
from funcgrad.testing.rules.elementwise import Rule


class Modular(Whole):
    """Arrays in a finite field."""

    type = (Residues, Dual)

    def __init__(self, field: Field | DualField):
        self.field: Any = field
        self.effort = 2.0 if isinstance(field, DualField) else 1.0

    def lift(self, native: Any) -> Any:
        return self.field.lift(native)

    def constant(self, native: Any, dtype: Any) -> Any:
        return self.field.constant(native, dtype)

    def elementwise(self, rule: Rule, arrays: list[Any]) -> Any:
        return rule.value(self.field, *arrays)

    def slopes(self, rule: Rule, arrays: list[Any], out: Any) -> tuple[Any, ...]:
        return rule.slopes(self.field, *arrays, out)

    def moved(
        self, function: Arrays, arrays: list[Any], back: Back | None = None
    ) -> list[Any]:
        if isinstance(arrays[0], Residues):
            most = max(x.most for x in arrays)
            field = arrays[0].field
            return [
                Residues(field, x, most) for x in function(*(x.data for x in arrays))
            ]
        planes = [[x.first for x in arrays], [x.second for x in arrays]]
        if all(x.exponent is not None for x in arrays):
            planes.append([x.exponent for x in arrays])
        out = [self.moved(function, plane) for plane in planes]
        return [Dual(self.field, *parts) for parts in zip(*out, strict=True)]

    def bilinear(
        self, function: Callable[..., Any], a: Any, b: Any, terms: int, pulls: Any
    ) -> Any:
        if isinstance(a, Dual):
            first = self.bilinear(function, a.first, b.first, terms, pulls)
            return Dual(
                self.field,
                first,
                self.bilinear(function, a.second, b.second, terms, pulls),
            )
        most = a.most * b.most * max(terms, 1)
        if most > LIMIT:
            a, b = a.reduced(), b.reduced()
            most = a.most * b.most * terms
        if most > LIMIT:
            high, low = halves(b)
            upper = self.bilinear(function, a, high, terms, pulls)
            return upper * 2**11 + self.bilinear(function, a, low, terms, pulls)
        return Residues(a.field, np.asarray(function(a.data, b.data)), most)

    def linear(
        self, function: Callable[..., Any], x: Any, terms: int, pull: Any
    ) -> Any:
        if isinstance(x, Dual):
            return Dual(
                self.field,
                self.linear(function, x.first, terms, pull),
                self.linear(function, x.second, terms, pull),
            )
        terms = max(terms, 1)
        x = x if x.most * terms <= LIMIT else x.reduced()
        return Residues(x.field, np.asarray(function(x.data)), x.most * terms)

    def cut(self, x: Any) -> Any:
        """Return a power in place of a number, unless it is one already."""
        return x if x.exponent is not None else self.field.cut(x)

    def differ(self, a: Any, b: Any) -> np.ndarray:
        a, b = (x.first if isinstance(x, Dual) else x for x in (a, b))
        return np.asarray((a - b).canonical() != 0)
