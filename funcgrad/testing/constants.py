"""Rounded constants, read as the real numbers that they may stand for.

A constant of a program whose digits fill its float type was rounded by somebody, so it
stands for any real number within half an ulp: 0.70710677 for 1 / sqrt(2), 0.134145 for
3 * 0.044715. Which number it is, its digits may tell; `constant_search` seeks others.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from funcgrad.testing.flint import flint


class Constant(NamedTuple):
    """A constant's digits: its mantissa in [1/2, 1), and its float type.

    Rounding commutes with signs and powers of two, so -c, 2 c and c / 4 are c.
    """

    mantissa: float
    dtype: np.dtype

    @property
    def half_ulp(self) -> float:
        return float(ml_dtypes.finfo(self.dtype).eps) / 4


Reals = Mapping[Constant, Any]


def off(constant: Constant, real: Any) -> Any:
    """Return how far a number is from its constant, in half ulps."""
    return (real - constant.mantissa) / constant.half_ulp


def within_half_an_ulp(constant: Constant, real: Any) -> bool:
    """Return whether a number rounds to its constant."""
    return bool(abs(off(constant, real)) < 1)


@lru_cache(maxsize=4096)
def rounded(x: float, dtype: np.dtype) -> Constant | None:
    """Return the constant that x was rounded to, or None where x is meant as it is.

    Whole numbers are, and those that need but a third of the type's places. So is what
    lies a few ulps beside such a one, lest 1 + 2^-23 pass for a rounded number.

    >>> rounded(0.125, np.dtype("float32")), rounded(3.0, np.dtype("float32"))
    (None, None)
    >>> rounded(1 + 2.0**-23, np.dtype("float32")) is None
    True
    >>> rounded(-1.4, np.dtype("float64"))
    Constant(mantissa=0.7, dtype=dtype('float64'))
    """
    info = ml_dtypes.finfo(dtype)
    places = int(info.nmant) + 1
    if not float(info.tiny) <= abs(x) < math.inf:
        return None
    if abs(x) < 2.0**places and x == int(x):
        return None
    mantissa = abs(math.frexp(x)[0])
    whole = int(math.ldexp(mantissa, places))
    beside = places // 6  # ulps: 8 of float64, 4 of float32, 1 of the half types
    if (whole + beside) % 2 ** (places - places // 3) <= 2 * beside:
        return None
    return Constant(mantissa, np.dtype(dtype))


class Written(NamedTuple):
    """A constant as a program writes it, and whether it closes over it."""

    value: float
    text: str
    closed_over: bool


class Reading:
    """What a program's rounded constants are read as, and which of them were met."""

    def __init__(self, reals: Mapping[Constant, Any] | None = None):
        self.reals = reals or {}
        self.met: dict[Constant, Written] = {}
        self._seen: set[tuple[float, bool]] = set()

    def read(self, native: np.ndarray, *, closed_over: bool) -> Any:
        """Return the exact number for a constant without axes."""
        x = float(native.astype(np.float64))
        constant = rounded(x, native.dtype)
        if constant is None:
            return flint().arb(x)
        if (x, closed_over) not in self._seen:
            self._seen.add((x, closed_over))
            self._note(constant, Written(x, str(native), closed_over))
        real = self.reals.get(constant)
        return flint().arb(x) if real is None else real * (x / constant.mantissa)

    def _note(self, constant: Constant, met: Written) -> None:
        """Keep the shortest text, and whether any program closes over it."""
        before = self.met.get(constant, met)
        shorter = min(before, met, key=lambda m: len(m.text))
        closed_over = before.closed_over or met.closed_over
        self.met[constant] = shorter._replace(closed_over=closed_over)


# Numbers that are known by their floats -----------------------------------------------


class Known(NamedTuple):
    """The number that a constant is the float of; `sure` where it can be no other."""

    real: Any
    sure: bool


def known(met: Mapping[Constant, Written]) -> dict[Constant, Known]:
    """Return what is known of each constant: what number it is the float of.

    That is a number with a name, a short decimal, or for a float64 what Python makes of
    two others (0.48999999999999994 of 0.7**2). A float32 constant was rounded once,
    from float64, and has digits enough to be sure of what it was. Of float64 constants
    that is so where all of them are known; else one may be what several roundings left
    of others. In half types many a number lies near a name. There the known number is
    only tried first.

    A float64, or a float32 array closed over, was computed in its own type, so that it
    may be the second nearest to a number with a name, as `1 / math.sqrt(2)` is.
    """
    reals = {}
    names = _named_numbers() if met else []
    for constant, how in met.items():
        own_type = constant.dtype == np.float64 or (
            how.closed_over and constant.dtype == np.float32
        )
        distances = [(abs(off(constant, x)), x) for x in names]
        near = [x for distance, x in distances if distance <= (2 if own_type else 1)]
        near += _short_decimal(constant, how)
        if near:
            reals[constant] = near[0]
    unknown = [c for c in met if c not in reals and c.dtype == np.float64]
    if unknown:
        used = [(m.value, reals[c] * (m.value / c.mantissa))
                for c, m in met.items() if c in reals]  # fmt: skip
        whole = [flint().arb(n) for n in range(1, 11)]
        pool = [*used, *((float(x), x) for x in (*names, *whole))]
        for constant in unknown:
            made = _made_of_two(constant, pool)
            if made is not None:
                reals[constant] = made
    all_known = met.keys() == reals.keys()

    def is_sure(constant: Constant, real: Any) -> bool:
        whole = constant.dtype == np.float64 and all_known
        sure = whole or constant.dtype == np.float32
        return sure or not within_half_an_ulp(constant, real)

    return {c: Known(x, is_sure(c, x)) for c, x in reals.items()}


def _named_numbers() -> list[Any]:
    """Return the mantissas of the numbers that rules are full of."""
    arb = flint().arb
    pi, two, three = arb.pi(), arb(2), arb(3)
    roots = [two.sqrt(), three.sqrt(), pi.sqrt(), (2 * pi).sqrt()]
    logs = [two.log(), arb(10).log(), pi.log(), (2 * pi).log()]
    numbers = [three, pi, *roots, *logs]
    return [m for x in numbers for m in (_mantissa(x), _mantissa(1 / x))]


def _mantissa(x: Any) -> Any:
    return x * 2.0 ** -math.frexp(float(x))[1]


def _short_decimal(constant: Constant, how: Written) -> list[Any]:
    """Return the decimal that a constant is written as, if it is a short one.

    Two digits fewer than the type holds (5 in float32) are few enough: 3 floats in a
    thousand have so short a decimal by chance.
    """
    places = int(ml_dtypes.finfo(constant.dtype).nmant) + 1
    digits = how.text.lower().partition("e")[0].replace(".", "").strip("-0")
    if not digits.isdigit() or len(digits) > int(places * math.log10(2)) - 2:
        return []
    return [abs(flint().arb(how.text)) * (constant.mantissa / abs(how.value))]


def _made_of_two(constant: Constant, pool: list[tuple[float, Any]]) -> Any:
    """Return what Python computed a float64 from, if two numbers give that very float.

    Some dozens of numbers make some thousands of pairs, against 2^52 floats.
    """
    for (x, a), (y, b) in product(pool, pool):
        for operation in (operator.mul, operator.truediv, operator.add, operator.sub):
            if math.frexp(abs(operation(x, y)))[0] == constant.mantissa:
                return _mantissa(abs(operation(a, b)))
    return None
