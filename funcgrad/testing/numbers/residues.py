"""Whole arrays of residues modulo a prime of 22 bits, kept in float64.

Residues are centred integers, |r| <= (p - 1) / 2, so a product stays below 2^42 and
BLAS adds 2^11 of them without rounding; what an array's numbers may have grown to is
tracked, and they are reduced only before 2^53.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Integers up to 2^53 are float64s. Beside that, a multiple of p must fit.
LIMIT = 2.0**53 - 2.0**22

# What is reduced at once, so that it stays in the processor's cache.
_BLOCK = 2**15


class Accident(ArithmeticError):
    """Raised where a divisor has the residue 0: bad luck, or a true division by 0."""


class Residues:
    """An array of residues; `most` is what the numbers in `data` do not exceed."""

    __slots__ = ("data", "field", "most")
    __array_ufunc__ = None  # so that NumPy leaves `array * residues` to Residues

    def __init__(self, field: Any, data: Any, most: float):
        self.field, self.data, self.most = field, data, most

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.data)

    def reduced(self) -> Residues:
        """Return the same residues, centred: none exceeds p / 2 by more than 3."""
        centred = self.field.p / 2 + 3
        if self.most <= centred:
            return self
        return Residues(self.field, _reduced(self.data, self.field), centred)

    def canonical(self) -> np.ndarray:
        """Return the residues as the integers from -(p - 1) / 2 to (p - 1) / 2."""
        x = self.reduced() if self.most > 2.0**44 else self
        # The quotient of so small a number is right, however near to a half it is.
        return x.data if x.most < self.field.p / 2 else _reduced(x.data, self.field)

    def __add__(self, other: Any) -> Residues:
        a, b = self, self.field.lift(other)
        if a.most + b.most > LIMIT:
            a, b = a.reduced(), b.reduced()
        return Residues(self.field, a.data + b.data, a.most + b.most)

    def __sub__(self, other: Any) -> Residues:
        a, b = self, self.field.lift(other)
        if a.most + b.most > LIMIT:
            a, b = a.reduced(), b.reduced()
        return Residues(self.field, a.data - b.data, a.most + b.most)

    def __mul__(self, other: Any) -> Residues:
        a, b = fitting(self, self.field.lift(other))
        return Residues(self.field, a.data * b.data, a.most * b.most)

    def __neg__(self) -> Residues:
        return Residues(self.field, -self.data, self.most)

    def __truediv__(self, other: Any) -> Residues:
        return self * self.field.lift(other).inverse()

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Residues:
        return self.field.lift(other) - self

    def __rtruediv__(self, other: Any) -> Residues:
        return self.field.lift(other) * self.inverse()

    def __pow__(self, n: int) -> Residues:
        if n < 0:
            return (self**-n).inverse()
        out, base = self.field.lift(1), self
        while n:
            out = out * base if n & 1 else out
            n >>= 1
            base = base * base if n else base
        if not out.shape and self.shape:
            return Residues(self.field, np.ones(self.shape), 1)
        return out

    def inverse(self) -> Residues:
        """Return 1 / x; Accident is raised where some residue is 0.

        Products of pairs, of pairs of pairs, and so on, leave one number to invert.
        """
        p = self.field.p
        levels = [self.canonical().ravel()]
        if not levels[0].all():
            raise Accident("a divisor with the residue 0")
        if not levels[0].size:
            return self
        while levels[-1].size > 1:
            row = levels[-1]
            if row.size % 2:
                row = levels[-1] = np.append(row, 1.0)
            levels.append(_reduced(row[::2] * row[1::2], self.field))
        inverse = np.array([centred(pow(int(levels.pop()[0]), -1, p), p)], np.float64)
        for row in levels[::-1]:
            swapped = row.reshape(-1, 2)[:, ::-1]
            inverse = inverse[: len(swapped), None]
            inverse = _reduced(swapped * inverse, self.field).ravel()
        data = inverse[: np.size(self.data)].reshape(self.shape)
        return Residues(self.field, data, p / 2 + 3)


def fitting(a: Residues, b: Residues) -> tuple[Residues, Residues]:
    """Return both, reduced where their product would not fit."""
    if a.most * b.most > LIMIT:
        a, b = (a.reduced(), b) if a.most >= b.most else (a, b.reduced())
    if a.most * b.most > LIMIT:
        a, b = a.reduced(), b.reduced()
    return a, b


def halves(x: Residues) -> tuple[Residues, Residues]:
    """Return (high, low) with x = 2^11 high + low, both of 11 bits.

    Products with a residue then stay below 2^32, and 2^20 of them can be added.
    """
    x = x.reduced()
    high = np.rint(x.data * 2.0**-11)
    low = x.data - high * 2.0**11
    return Residues(x.field, high, 2.0**10 + 1), Residues(x.field, low, 2.0**10)


def centred(x: int, p: int) -> int:
    """Return x modulo p as the integer nearest to 0."""
    r = x % p
    return r - p if 2 * r > p else r


def _reduced(values: Any, field: Any) -> Any:
    """Return v - rint(v / p) p, exact for |v| < 2^53 - 2^22."""
    if np.size(values) <= _BLOCK:
        quotient = np.rint(values * field.inverse_p)
        return values - quotient * float(field.p)
    flat = np.ascontiguousarray(values).reshape(-1)
    out, some = np.empty_like(flat), np.empty(_BLOCK)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        quotient = np.multiply(part, field.inverse_p, out=some[: part.size])
        np.rint(quotient, out=quotient)
        quotient *= field.p
        np.subtract(part, quotient, out=out[start : start + _BLOCK])
    return out.reshape(np.shape(values))
