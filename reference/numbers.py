"""The numbers that a `Value` can hold, and the elementary functions on them.

| kind                 | arithmetic                      | exp, log, tanh, powers    |
|----------------------|---------------------------------|---------------------------|
| `float`              | rounded, IEEE binary64          | `math`, rounded           |
| `fractions.Fraction` | exact                           | raises: no exact value    |
| `Ball`               | intervals that hold the truth   | intervals, rigorous       |

Where two kinds meet, the more exact one wins: a float is an exact dyadic rational,
so it turns into a `Fraction` or a `Ball` without loss.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any


class Undecided(ArithmeticError):
    """Raised where balls overlap, so that the answer is not known."""


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[[Ball, Any], Ball]:
    """Return the method for an operator; what is no number, such as a Value, may try."""

    def method(ball: Ball, other: Any) -> Ball:
        try:
            arb = _arb(other)
        except TypeError:
            return NotImplemented
        return _ball(operation(ball.arb, arb))

    return method


class Ball:
    """A real number known to lie within `middle ± radius`, by python-flint's `arb`.

    Every operation returns a ball that contains the exact result, whatever was
    rounded on the way. The working precision is flint's own, `flint.ctx.prec` bits;
    the first ball made raises it from flint's default of 53 to 128.

    >>> Ball(2) / 3
    Ball([0.66666666666666667 +/- 3.34e-18])
    >>> Ball(2) / 3 < Ball("0.6667")
    True
    """

    __slots__ = ("arb",)

    def __init__(self, x: Any = 0):
        self.arb = _arb(x)

    __add__ = __radd__ = _binary(operator.add)
    __mul__ = __rmul__ = _binary(operator.mul)
    __sub__ = _binary(operator.sub)
    __rsub__ = _binary(lambda a, b: b - a)
    __truediv__ = _binary(lambda a, b: _divide(a, b))
    __rtruediv__ = _binary(lambda a, b: _divide(b, a))
    __pow__ = _binary(lambda a, b: _power(a, b))
    __rpow__ = _binary(lambda a, b: _power(b, a))

    def __neg__(self) -> Ball:
        return _ball(-self.arb)

    def exp(self) -> Ball:
        return _ball(self.arb.exp())

    def log(self) -> Ball:
        return _ball(self.arb.log())

    def tanh(self) -> Ball:
        return _ball(self.arb.tanh())

    def __lt__(self, other: Any) -> bool:
        other = _arb(other)
        return self._decided(self.arb < other, self.arb >= other, other)

    def __le__(self, other: Any) -> bool:
        other = _arb(other)
        return self._decided(self.arb <= other, self.arb > other, other)

    def __gt__(self, other: Any) -> bool:
        return Ball(other) < self

    def __ge__(self, other: Any) -> bool:
        return Ball(other) <= self

    def __eq__(self, other: Any) -> bool:
        other = _arb(other)
        return self._decided(self.arb == other, self.arb != other, other)

    __hash__ = None  # type: ignore[assignment]  # equality may be undecided

    def _decided(self, yes: bool, no: bool, other: Any) -> bool:
        if yes or no:
            return yes
        raise Undecided(
            f"{self} and {_ball(other)} overlap, so their order is not known: raise "
            f"the precision, for example flint.ctx.prec = {2 * _flint().ctx.prec}"
        )

    def __float__(self) -> float:
        """Round to the nearest float, correctly; raise where the ball leaves it open.

        Both ends of the ball are rounded, ties to even, and must agree.
        """
        if not self.arb.is_finite():
            raise Undecided(
                f"{self} is not a finite number, so it has no nearest float"
            )
        low, high = (_rounded(end) for end in (self.arb.lower(), self.arb.upper()))
        if low != high:
            raise Undecided(
                f"{self} lies across the border between two floats: raise the "
                f"precision, for example flint.ctx.prec = {2 * _flint().ctx.prec}"
            )
        return low

    def __repr__(self) -> str:
        return f"Ball({self.arb.str(17)})"


def exp(x: Any) -> Any:
    """Return e**x in the kind of number that `x` is."""
    return _function("exp", x)


def log(x: Any) -> Any:
    """Return the natural logarithm of `x` > 0 in the kind of number that `x` is."""
    if x <= 0:
        raise ValueError(f"log needs a number above 0, got {x}")
    return _function("log", x)


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent of `x` in the kind of number that `x` is."""
    return _function("tanh", x)


def power(x: Any, exponent: Any) -> Any:
    """Return x**exponent in the kind of number that they are.

    Whole exponents are exact for a `Fraction`; any other exponent needs `x` >= 0,
    since a root of a negative number is not real.
    """
    if _is_whole(exponent):
        return x ** int(exponent) if isinstance(x, Fraction) else x**exponent
    if x < 0:
        raise ValueError(
            f"{x} ** {exponent} is not a real number: a negative base takes whole "
            f"exponents only"
        )
    if isinstance(x, Fraction):
        raise _no_exact_value(f"** {exponent}")
    return x**exponent


def same_kind(a: Any, b: Any) -> tuple[Any, Any]:
    """Return `a` and `b` as the more exact of their two kinds of number.

    >>> same_kind(Fraction(1, 3), 0.5)
    (Fraction(1, 3), Fraction(1, 2))
    """
    if isinstance(a, Ball) or isinstance(b, Ball):
        return Ball(a), Ball(b)
    if isinstance(a, Fraction) or isinstance(b, Fraction):
        return Fraction(_plain(a)), Fraction(_plain(b))
    return a, b


def _function(name: str, x: Any) -> Any:
    if isinstance(x, Fraction):
        raise _no_exact_value(name)
    if isinstance(x, (int, float)):
        return getattr(math, name)(x)
    return getattr(x, name)()


def _no_exact_value(what: str) -> TypeError:
    return TypeError(
        f"{what} of a Fraction is not a fraction, so it cannot be held exactly: use "
        f"reference.numbers.Ball (rigorous intervals) or float instead"
    )


def _is_whole(x: Any) -> bool:
    if isinstance(x, Ball):
        return bool(x.arb.is_exact() and x.arb.is_integer())
    return x == x and x not in (math.inf, -math.inf) and x == int(x)


def _rounded(exact_arb: Any) -> float:
    mantissa, exponent = exact_arb.man_exp()
    return float(Fraction(int(mantissa)) * Fraction(2) ** int(exponent))


def _divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise ZeroDivisionError(f"{_ball(a)} divided by zero")
    return a / b


def _power(a: Any, exponent: Any) -> Any:
    if a == 0 and exponent < 0:
        raise ZeroDivisionError(f"zero to the power {_ball(exponent)}")
    return a**exponent


def _ball(arb: Any) -> Ball:
    ball = Ball.__new__(Ball)
    ball.arb = arb
    return ball


def _arb(x: Any) -> Any:
    if isinstance(x, Ball):
        return x.arb
    flint = _flint()
    if isinstance(x, Fraction):
        return flint.arb(flint.fmpq(x.numerator, x.denominator))
    return flint.arb(_plain(x))


def _plain(x: Any) -> Any:
    """Return the Python number that a NumPy or JAX scalar holds."""
    return x.item() if hasattr(x, "item") else x


@cache
def _flint() -> ModuleType:
    try:
        import flint
    except ImportError as error:
        raise ImportError(
            "Ball needs python-flint, which is not installed: "
            'pip install "funcgrad[testing]"'
        ) from error
    flint.ctx.prec = max(flint.ctx.prec, 128)
    return flint
