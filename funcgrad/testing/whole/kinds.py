"""Kinds of whole arrays: floats that decide, residues, and either with a tangent.

| kind       | an array is                     | what it gives                         |
|------------|---------------------------------|---------------------------------------|
| `Floats`   | a float64 array                 | a program's values, and its decisions |
| `Modular`  | `Residues` or `Dual`            | a program's value in a finite field   |
| `Tangents` | `Moving`: a value and a tangent | a program's derivative along a line   |

All have the same methods, by which the walk evaluates whatever program it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from funcgrad.testing.numbers.dual import Dual, DualField
from funcgrad.testing.numbers.residues import LIMIT, Field, Residues, halves
from funcgrad.testing.whole.rules import Rule

Arrays = Callable[..., Sequence[np.ndarray]]


def choosing(mask: np.ndarray) -> Arrays:
    """Return the movement that takes x where the mask is true, y elsewhere."""

    def chosen(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        return [np.where(mask, x, y)]

    return chosen


class _AsItIs:
    """A kind to which a rounding, a stopped gradient and a maximum are the number."""

    def rounded(self, x: Any, unit: float) -> Any:
        return x

    def stopped(self, x: Any) -> Any:
        return x

    def at_maximum(self, x: Any) -> Any:
        return x


class Floats(_AsItIs):
    """Float64 arrays; their functions are NumPy's and SciPy's."""

    type = np.ndarray

    def lift(self, native: Any) -> np.ndarray:
        return np.asarray(native).astype(np.float64)

    def constant(self, native: Any, dtype: Any) -> np.ndarray:
        return self.lift(native)

    def elementwise(self, rule: Rule, arrays: list[np.ndarray]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(rule.value(self, *arrays))

    def slopes(self, rule: Rule, arrays: list[Any], out: Any) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            return rule.slopes(self, *arrays, out)

    def moved(self, function: Arrays, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(x) for x in function(*arrays)]

    def bilinear(
        self,
        function: Callable[..., Any],
        a: np.ndarray,
        b: np.ndarray,
        terms: int,
        pulls: Any,
    ) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(function(a, b))

    def linear(
        self, function: Callable[..., Any], x: np.ndarray, terms: int, pull: Any
    ) -> np.ndarray:
        """Apply a function that adds up numbers, at most so many of them."""
        with np.errstate(all="ignore"):
            return np.asarray(function(x))

    def where(self, mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(mask, a, b)

    def differ(self, a: Any, b: Any) -> np.ndarray:
        return np.asarray(a != b)

    exp, exp2, expm1 = np.exp, np.exp2, np.expm1
    log, log2, log1p = np.log, np.log2, np.log1p
    sqrt, cbrt, tanh = np.sqrt, np.cbrt, np.tanh
    sin, cos, tan, asin, acos, atan = (
        np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan
    )  # fmt: skip
    sinh, cosh, asinh, acosh, atanh = (
        np.sinh, np.cosh, np.arcsinh, np.arccosh, np.arctanh
    )  # fmt: skip
    atan2, pow, logaddexp = np.arctan2, np.power, np.logaddexp
    logistic = scipy.special.expit
    erf, erfc, erf_inv = scipy.special.erf, scipy.special.erfc, scipy.special.erfinv
    lgamma, digamma = scipy.special.gammaln, scipy.special.digamma

    def rsqrt(self, x: np.ndarray) -> np.ndarray:
        return 1 / np.sqrt(x)

    def polygamma(self, m: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.special.polygamma(m.astype(int), x))


class Modular(_AsItIs):
    """Arrays in a finite field."""

    type = (Residues, Dual)

    def __init__(self, field: Field | DualField):
        self.field: Any = field

    def lift(self, native: Any) -> Any:
        return self.field.lift(native)

    def constant(self, native: Any, dtype: Any) -> Any:
        return self.field.constant(native, dtype)

    def elementwise(self, rule: Rule, arrays: list[Any]) -> Any:
        return rule.value(self.field, *arrays)

    def slopes(self, rule: Rule, arrays: list[Any], out: Any) -> tuple[Any, ...]:
        return rule.slopes(self.field, *arrays, out)

    def moved(self, function: Arrays, arrays: list[Any]) -> list[Any]:
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

    def where(self, mask: np.ndarray, a: Any, b: Any) -> Any:
        return self.moved(choosing(mask), [a, b])[0]

    def differ(self, a: Any, b: Any) -> np.ndarray:
        a, b = (x.first if isinstance(x, Dual) else x for x in (a, b))
        return np.asarray((a - b).canonical() != 0)


class Moving(NamedTuple):
    """A value, and what it changes by along the direction; None for nothing."""

    value: Any
    tangent: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)


class Tangents:
    """Arrays of another kind with tangents.

    `maxima` says what becomes of the tangent of a maximum: "" for what it is, "held"
    for none, and "injected" for a random one.
    """

    type = Moving

    def __init__(self, kind: Any, maxima: str = ""):
        self.kind, self.maxima = kind, maxima
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

    def moved(self, function: Arrays, arrays: list[Moving]) -> list[Moving]:
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

    def where(self, mask: np.ndarray, a: Moving, b: Moving) -> Moving:
        return self.moved(choosing(mask), [a, b])[0]

    def differ(self, a: Moving, b: Moving) -> np.ndarray:
        return np.asarray(self.kind.differ(a.value, b.value))

    def rounded(self, x: Moving, unit: float) -> Moving:
        return x

    def stopped(self, x: Moving) -> Moving:
        return Moving(x.value)

    def cut(self, x: Moving) -> Moving:
        return Moving(self.kind.cut(x.value), x.tangent)

    def at_maximum(self, x: Moving) -> Moving:
        """Return a maximum, with the tangent that `maxima` asks for."""
        if self.maxima == "injected":
            return Moving(x.value, self.kind.field.random(x.shape, self._draw))
        return Moving(x.value) if self.maxima == "held" else x


def in_float64(function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    """Call a function of JAX on float64 arrays, which it would cut to 32 bits."""
    with jax.enable_x64(True):
        return np.asarray(function(*(jnp.asarray(x) for x in arrays)))
