"""The integers modulo a prime, and a model of each function in them.

Two programs that compute the same rational function agree modulo every prime, and two
that do not agree by chance alone, about once in p draws. A float is a dyadic rational
m 2^e, so it has an exact residue.

tanh, exp and the like are no rational functions. Here they are keyed hashes with the
symmetry of the function: what holds for a random odd function holds for tanh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import ml_dtypes
import numpy as np

from funcgrad.testing.numbers.functions import Functions
from funcgrad.testing.numbers.residues import LIMIT, Residues, centred

# The primes of a draw: as large as centred products of 42 bits allow.
SMALLEST, BEYOND = 2**22 - 2**19, 2**22 - 8

# An exponent below this is a power to be multiplied out; a random one rarely is.
_WHOLE = 2**10


def is_prime(n: int) -> bool:
    """Return whether n is a prime, for n up to 2^22.

    >>> [n for n in range(2, 20) if is_prime(n)]
    [2, 3, 5, 7, 11, 13, 17, 19]
    """
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def draw_prime(draw: Random, *, with_exponents: bool = False) -> int:
    """Return a random prime p = 3 mod 4; with exponents, p = 4 q + 1 for a prime q.

    In the first -1 is no square, so that 1 + x^2 is never 0; in the second there are
    numbers whose powers repeat after q, which serve as exponentials.
    """
    while True:
        n = draw.randrange(SMALLEST, BEYOND)
        if with_exponents:
            if n % 4 == 1 and is_prime((n - 1) // 4) and is_prime(n):
                return n
        elif n % 4 == 3 and is_prime(n):
            return n


# Numbers that rules hold as floats: a constant that is within two roundings of one of
# these, up to its sign and a power of 2, is that number.
_IDEALS = {
    "log 2": math.log(2),
    "1 / log 2": 1 / math.log(2),
    "2 / sqrt pi": 2 / math.sqrt(math.pi),
    "sqrt pi / 2": math.sqrt(math.pi) / 2,
    "1 / 3": 1 / 3,
}


class Field(Functions):
    """The integers modulo p, and a model of each function, drawn by `seed`."""

    def __init__(self, p: int, seed: int = 0):
        self.p, self.seed = p, seed
        self.inverse_p = 1.0 / p
        self.half = Residues(self, np.float64(centred(pow(2, -1, p), p)), p / 2)
        exponents = np.arange(-1130, 1024)
        powers = [centred(pow(2, int(e), p), p) for e in exponents]
        self._powers_of_two = np.array(powers, np.float64)
        self._ideals: dict[str, Residues] = {}

    # Making residues -----------------------------------------------------------------

    def lift(self, x: Any) -> Residues:
        """Return floats or integers as the residues of what they are, m 2^e.

        What is not finite becomes 0; the walk knows where that is.
        """
        if isinstance(x, Residues):
            return x
        if isinstance(x, int):
            return Residues(self, np.float64(centred(x, self.p)), self.p / 2)
        values = np.asarray(x).astype(np.float64)
        if not values.ndim or np.abs(values).max(initial=0) < 2.0**21:
            whole = np.rint(values)
            if np.array_equal(whole, values):  # 0 and 1 above all
                most = float(np.abs(whole).max(initial=0))
                if most < LIMIT:
                    return Residues(self, whole, most)
        mantissas, exponents = np.frexp(np.where(np.isfinite(values), values, 0.0))
        high = np.floor(mantissas * 2.0**27)
        low = (mantissas * 2.0**27 - high) * 2.0**26
        parts = [Residues(self, high, 2.0**27), Residues(self, low, 2.0**26)]
        powers = [
            self._power_of_two(exponents - 27),
            self._power_of_two(exponents - 53),
        ]
        return parts[0] * powers[0] + parts[1] * powers[1]

    def _power_of_two(self, exponents: Any) -> Residues:
        return Residues(self, self._powers_of_two[exponents + 1130], self.p / 2)

    def constant(self, x: Any, dtype: Any) -> Residues:
        """Return a constant of a program: some floats stand for numbers near them."""
        native = np.asarray(x)
        if native.ndim or not native:
            return self.lift(native)
        value = float(native.astype(np.float64))
        mantissa, exponent = math.frexp(abs(value))
        near = 2 * float(ml_dtypes.finfo(dtype).eps)
        for name, number in _IDEALS.items():
            ideal, own = math.frexp(number)
            if abs(mantissa - ideal) <= near * ideal and math.isfinite(value):
                sign = 1 if value > 0 else -1
                return sign * self._ideal(name) * self.lift(2.0 ** (exponent - own))
        return self.lift(native)

    def _ideal(self, name: str) -> Residues:
        if name not in self._ideals:
            self._ideals |= {
                "log 2": (log2 := self.log(self.lift(2))),
                "1 / log 2": 1 / log2,
                "1 / 3": 1 / self.lift(3),
                "sqrt pi / 2": (root := self.model("sqrt pi / 2", self.lift(1))),
                "2 / sqrt pi": 1 / root,
            }
        return self._ideals[name]

    def random(self, shape: Sequence[int], draw: np.random.Generator) -> Residues:
        """Return random residues, none of them 0."""
        values = draw.integers(1, self.p, size=shape).astype(np.float64)
        return Residues(self, values, float(self.p)).reduced()

    # Functions -----------------------------------------------------------------------

    def model(self, name: str, *operands: Residues) -> Residues:
        """Return a random function of the operands, the same whenever it is asked."""
        mixed: Any = np.uint64(0)
        for i, x in enumerate(operands):
            keys = _keys(f"{self.seed} {self.p} {name} {i}")
            mixed = mixed ^ _mix(x.canonical().astype(np.int64).view(np.uint64), keys)
        # 52 bits of a number that has 64 of them are a float64.
        return Residues(self, (mixed >> np.uint64(12)).astype(np.float64), 2.0**52)

    def even(self, name: str, x: Residues) -> Residues:
        return self.model(name, Residues(self, np.abs(x.canonical()), self.p / 2))

    def odd(self, name: str, x: Residues) -> Residues:
        return self.even(name, x).reduced() * Residues(self, np.sign(x.canonical()), 1)

    def exp(self, x: Residues) -> Residues:
        return self.model("exp", x)

    def exp2(self, x: Residues) -> Residues:
        return self.exp(x * self._ideal("log 2"))

    def expm1(self, x: Residues) -> Residues:
        return self.exp(x) - 1

    def log(self, x: Residues) -> Residues:
        return self.model("log", x)

    def log2(self, x: Residues) -> Residues:
        return self.log(x) * self._ideal("1 / log 2")

    def log1p(self, x: Residues) -> Residues:
        return self.log(x + 1)

    def sqrt(self, x: Residues) -> Residues:
        return self.model("sqrt", x)

    def rsqrt(self, x: Residues) -> Residues:
        return 1 / self.sqrt(x)

    def cbrt(self, x: Residues) -> Residues:
        return self.odd("cbrt", x)

    def tanh(self, x: Residues) -> Residues:
        return self.odd("tanh", x)

    def logistic(self, x: Residues) -> Residues:
        return self.odd("logistic", x) + self.half

    def sin(self, x: Residues) -> Residues:
        return self.odd("sin", x)

    def cos(self, x: Residues) -> Residues:
        return self.even("cos", x)

    def tan(self, x: Residues) -> Residues:
        return self.odd("tan", x)

    def asin(self, x: Residues) -> Residues:
        return self.odd("asin", x)

    def acos(self, x: Residues) -> Residues:
        return self.model("acos", x)

    def atan(self, x: Residues) -> Residues:
        return self.odd("atan", x)

    def atan2(self, y: Residues, x: Residues) -> Residues:
        return self.model("atan2", y, x)

    def sinh(self, x: Residues) -> Residues:
        return self.odd("sinh", x)

    def cosh(self, x: Residues) -> Residues:
        return self.even("cosh", x)

    def asinh(self, x: Residues) -> Residues:
        return self.odd("asinh", x)

    def acosh(self, x: Residues) -> Residues:
        return self.model("acosh", x)

    def atanh(self, x: Residues) -> Residues:
        return self.odd("atanh", x)

    def erf(self, x: Residues) -> Residues:
        return self.odd("erf", x)

    def erfc(self, x: Residues) -> Residues:
        return 1 - self.erf(x)

    def erf_inv(self, x: Residues) -> Residues:
        return self.odd("erf_inv", x)

    def lgamma(self, x: Residues) -> Residues:
        return self.model("lgamma", x)

    def digamma(self, x: Residues) -> Residues:
        return self.model("digamma", x)

    def polygamma(self, m: Residues, x: Residues) -> Residues:
        return self.model("polygamma", m, x)

    def logaddexp(self, x: Residues, y: Residues) -> Residues:
        return self.model("logaddexp", x, y)

    def pow(self, x: Residues, y: Residues) -> Residues:
        """Return x^n h(x), where n is the residue of y and h(x) is left out of powers.

        So x pow(x, y) = pow(x, y + 1), and a small whole y is a power.
        """
        n = y.canonical()
        plain, whole = self._to_the(x, n), np.abs(n) < _WHOLE
        if whole.all():
            return plain
        factor = self.model("pow", x).reduced()
        shape = np.broadcast_shapes(n.shape, x.shape)
        factors = np.where(np.broadcast_to(whole, shape), 1.0, factor.data)
        return plain * Residues(self, factors, self.p / 2)

    def small_whole(self, y: Residues) -> int | None:
        """Return the one small whole number that y is, if it is one."""
        n = np.asarray(y.canonical())
        small = n.size and (n == n.flat[0]).all() and abs(n.flat[0]) < _WHOLE
        return int(n.flat[0]) if small else None

    def _to_the(self, x: Residues, n: np.ndarray) -> Residues:
        if not n.ndim:
            return x ** int(n)
        out: Residues = self.lift(1)
        base, left = x, np.abs(n).astype(np.int64)
        while left.any():
            times = np.where(left & 1, base.reduced().data, 1.0)
            out = out * Residues(self, times, self.p / 2)
            base, left = base * base, left >> 1
        if not (n < 0).any():
            return out
        shape = np.broadcast_shapes(n.shape, out.shape)
        below = np.broadcast_to(n < 0, shape)
        divisors = Residues(self, np.where(below, out.reduced().data, 1.0), self.p / 2)
        return Residues(
            self, np.where(below, divisors.inverse().data, out.data), out.most
        )


def power_table(base: int, count: int, p: int) -> np.ndarray:
    """Return base^0, base^1, ... base^(count - 1) modulo p, centred."""
    field = Field(p)
    out = Residues(field, np.ones(1), 1)
    while out.data.size < count:
        factor = field.lift(pow(base, out.data.size, p))
        out = Residues(field, np.append(out.data, (out * factor).canonical()), p / 2)
    return np.asarray(out.data[:count])


@cache
def _keys(name: str) -> tuple[np.uint64, np.uint64, np.uint64]:
    draw = Random(name)
    first, second, third = (draw.getrandbits(64) for _ in range(3))
    return np.uint64(first), np.uint64(second | 1), np.uint64(third | 1)


def _mix(n: Any, keys: tuple[np.uint64, np.uint64, np.uint64]) -> Any:
    """Return 64 bits that depend on every bit of n: multiply, fold, and again."""
    with np.errstate(over="ignore"):
        n = (n + keys[0]) * keys[1]
        n = (n ^ (n >> np.uint64(32))) * keys[2]
        n = (n ^ (n >> np.uint64(29))) * keys[1]
    return n ^ (n >> np.uint64(32))
