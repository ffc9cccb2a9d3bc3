"""Residues modulo p = 4 q + 1, with residues modulo q beside them as exponents.

Let g be a number whose powers repeat after q: then exp x = g^s, where s is x modulo q,
so that exp(x) exp(y) = exp(x + y) holds, and tanh, logistic, sinh, cosh, sin, cos and
tan are the rational functions of exponentials that they are. What has an argument that
may be cut from its origin, log and the roots, is a power too: where the argument is
replaced by g^k for a random k, its logarithm is k and its square root g^(k / 2).

A divisor that is 0 modulo q makes the exponent unknown, a NaN, which is no harm unless
somebody asks for its exponential.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funcgrad.testing.numbers.field import Field, power_table
from funcgrad.testing.numbers.functions import Functions
from funcgrad.testing.numbers.residues import Accident, Residues


class Dual:
    """Numbers by two residues: `first` modulo p and `second` modulo q.

    `exponent` is k where the number was cut and is g^k, else None.
    """

    __slots__ = ("exponent", "field", "first", "second")
    __array_ufunc__ = None

    def __init__(
        self,
        field: DualField,
        first: Residues,
        second: Residues,
        exponent: Residues | None = None,
    ):
        self.field, self.first, self.second = field, first, second
        self.exponent = exponent

    @property
    def shape(self) -> tuple[int, ...]:
        return self.first.shape

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Dual:
        other = self.field.lift(other)
        return Dual(
            self.field,
            operation(self.first, other.first),
            operation(self.second, other.second),
        )

    def __add__(self, other: Any) -> Dual:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> Dual:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Dual:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Dual:
        return self._with(other, lambda a, b: a * b)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Dual:
        return Dual(self.field, -self.first, -self.second)

    def __truediv__(self, other: Any) -> Dual:
        return self * self.field.lift(other).inverse()

    def __rtruediv__(self, other: Any) -> Dual:
        return self.field.lift(other) * self.inverse()

    def __pow__(self, n: int) -> Dual:
        if n < 0:
            return (self**-n).inverse()
        return Dual(self.field, self.first**n, self.second**n)

    def inverse(self) -> Dual:
        known = self.second.canonical()
        is_fine = (known != 0) & ~np.isnan(known)
        divisors = Residues(self.second.field, np.where(is_fine, known, 1.0), 2.0**20)
        inverse = divisors.inverse()
        second = np.where(is_fine, inverse.data, np.nan)
        return Dual(
            self.field,
            self.first.inverse(),
            Residues(inverse.field, second, inverse.most),
        )


class DualField(Functions):
    """The integers modulo p and those modulo q, with the functions between them."""

    def __init__(self, p: int, seed: int = 0):
        q = (p - 1) // 4
        self.p, self.q = p, q
        self.first, self.second = Field(p, seed), Field(q, seed)
        base = next(b for b in range(2 + seed % 1000, p) if pow(b, 4, p) != 1)
        self._powers = power_table(pow(base, 4, p), q, p)
        other = next(b for b in range(base + 1, p) if pow(b, 4, p) != 1)
        self._turns = power_table(pow(other, 4, p), q, p)
        # b^q has an order that divides 4; where it is 4, its square is -1.
        roots = (pow(b, q, p) for b in range(2, p))
        root = next(r for r in roots if r * r % p == p - 1)
        self._over_2i = self.first.lift(2 * root).inverse()

    # Making numbers ------------------------------------------------------------------

    def lift(self, x: Any) -> Dual:
        if isinstance(x, Dual):
            return x
        return Dual(self, self.first.lift(x), self.second.lift(x))

    def constant(self, x: Any, dtype: Any) -> Dual:
        return Dual(self, self.first.constant(x, dtype), self.second.constant(x, dtype))

    def random(self, shape: Sequence[int], draw: np.random.Generator) -> Dual:
        return Dual(
            self, self.first.random(shape, draw), self.second.random(shape, draw)
        )

    def cut(self, x: Dual) -> Dual:
        """Return g^k in place of x, where k is a random function of x."""
        exponent = self.second.model("cut", x.first)
        return Dual(
            self,
            self._power(exponent),
            self.second.model("cut as a number", x.first),
            exponent,
        )

    def _power(self, exponent: Residues, table: np.ndarray | None = None) -> Residues:
        """Return g^s, from the table of all its powers."""
        s = exponent.canonical()
        if np.isnan(s).any():
            raise Accident("an exponent that was divided by the residue 0")
        table = self._powers if table is None else table
        at = np.asarray(s).astype(np.int64)
        return Residues(self.first, table[at + (at < 0) * self.q], self.p / 2)

    def _other(self, name: str, x: Dual, symmetry: str = "") -> Residues:
        """Return the second residue of a function: a random function of the first."""
        if symmetry == "odd":
            return self.second.odd(name, x.first)
        if symmetry == "even":
            return self.second.even(name, x.first)
        return self.second.model(name, x.first)

    def _model(self, name: str, x: Dual, symmetry: str = "") -> Dual:
        kinds = {"odd": self.first.odd, "even": self.first.even}
        model = kinds.get(symmetry, self.first.model)
        return Dual(self, model(name, x.first), self._other(name, x, symmetry))

    # Functions of exponentials -------------------------------------------------------

    def exp(self, x: Dual) -> Dual:
        return Dual(self, self._power(x.second), self._other("exp", x))

    def exp2(self, x: Dual) -> Dual:
        return self.exp(x * self.log_2)

    def expm1(self, x: Dual) -> Dual:
        return self.exp(x) - 1

    def logistic(self, x: Dual) -> Dual:
        return Dual(
            self,
            (1 + self._power(-x.second)).inverse(),
            self._other("logistic", x, "odd") + self.second.half,
        )

    def tanh(self, x: Dual) -> Dual:
        square = self._power(2 * x.second)
        first = (square - 1) * (square + 1).inverse()
        return Dual(self, first, self._other("tanh", x, "odd"))

    def sinh(self, x: Dual) -> Dual:
        first = (self._power(x.second) - self._power(-x.second)) * self.first.half
        return Dual(self, first, self._other("sinh", x, "odd"))

    def cosh(self, x: Dual) -> Dual:
        first = (self._power(x.second) + self._power(-x.second)) * self.first.half
        return Dual(self, first, self._other("cosh", x, "even"))

    def _turn(self, x: Dual) -> tuple[Residues, Residues]:
        turns = self._turns
        return self._power(x.second, turns), self._power(-x.second, turns)

    def sin(self, x: Dual) -> Dual:
        there, back = self._turn(x)
        return Dual(self, (there - back) * self._over_2i, self._other("sin", x, "odd"))

    def cos(self, x: Dual) -> Dual:
        there, back = self._turn(x)
        return Dual(
            self, (there + back) * self.first.half, self._other("cos", x, "even")
        )

    def tan(self, x: Dual) -> Dual:
        there, back = self._turn(x)
        sine, cosine = (there - back) * self._over_2i, (there + back) * self.first.half
        return Dual(self, sine * cosine.inverse(), self._other("tan", x, "odd"))

    # Functions of numbers that may have been cut -------------------------------------

    def log(self, x: Dual) -> Dual:
        if x.exponent is None:
            return self._model("log", x)
        return Dual(self, self.first.model("log", x.first), x.exponent)

    def log2(self, x: Dual) -> Dual:
        return self.log(x) / self.log_2

    def log1p(self, x: Dual) -> Dual:
        return self.log(x + 1)

    def _root(self, name: str, x: Dual, n: int, symmetry: str = "") -> Dual:
        if x.exponent is None:
            return self._model(name, x, symmetry)
        exponent = x.exponent * self.second.lift(n).inverse()
        other = self._other(name, x, symmetry)
        return Dual(self, self._power(exponent), other, exponent)

    def sqrt(self, x: Dual) -> Dual:
        return self._root("sqrt", x, 2)

    def rsqrt(self, x: Dual) -> Dual:
        return self._root("sqrt", x, 2).inverse()

    def cbrt(self, x: Dual) -> Dual:
        return self._root("cbrt", x, 3, "odd")

    def pow(self, x: Dual, y: Dual) -> Dual:
        whole = self.first.small_whole(y.first)
        if whole is not None:
            return x**whole
        if x.exponent is not None:
            exponent = x.exponent * y.second
            other = self.second.model("pow", x.first, y.first)
            return Dual(self, self._power(exponent), other, exponent)
        return Dual(
            self,
            self.first.pow(x.first, y.first),
            self.second.model("pow", x.first, y.first),
        )

    # Functions that are nothing but models -------------------------------------------

    def asin(self, x: Dual) -> Dual:
        return self._model("asin", x, "odd")

    def acos(self, x: Dual) -> Dual:
        return self._model("acos", x)

    def atan(self, x: Dual) -> Dual:
        return self._model("atan", x, "odd")

    def atan2(self, y: Dual, x: Dual) -> Dual:
        return self._of_two("atan2", y, x)

    def asinh(self, x: Dual) -> Dual:
        return self._model("asinh", x, "odd")

    def acosh(self, x: Dual) -> Dual:
        return self._model("acosh", x)

    def atanh(self, x: Dual) -> Dual:
        return self._model("atanh", x, "odd")

    def erf(self, x: Dual) -> Dual:
        return self._model("erf", x, "odd")

    def erfc(self, x: Dual) -> Dual:
        return 1 - self.erf(x)

    def erf_inv(self, x: Dual) -> Dual:
        return self._model("erf_inv", x, "odd")

    def lgamma(self, x: Dual) -> Dual:
        return self._model("lgamma", x)

    def digamma(self, x: Dual) -> Dual:
        return self._model("digamma", x)

    def polygamma(self, m: Dual, x: Dual) -> Dual:
        return self._of_two("polygamma", m, x)

    def logaddexp(self, x: Dual, y: Dual) -> Dual:
        return self._of_two("logaddexp", x, y)

    def _of_two(self, name: str, x: Dual, y: Dual) -> Dual:
        return Dual(
            self,
            self.first.model(name, x.first, y.first),
            self.second.model(name, x.first, y.first),
        )
