"""The numbers that a `Value` can hold, and the elementary functions on them.

| kind                 | arithmetic                      | exp, log, tanh, powers    |
|----------------------|---------------------------------|---------------------------|
| `float`              | rounded, IEEE binary64          | `math`, rounded           |
| `fractions.Fraction` | exact                           | raises: no exact value    |
| `Ball`               | intervals that hold the truth   | intervals, rigorous       |

An `int` is welcome where a float is, and follows Python: 1 / 3 is a float.

Where two kinds meet, the more exact one wins: a float is an exact dyadic rational,
so it turns into a `Fraction` or a `Ball` without loss. What was rounded before they
met stays rounded, so a computation is exact where its leaves all are.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from types import ModuleType
from typing import Any


class Undecided(ArithmeticError):
    """Raised where balls overlap, so that the answer is not known."""


def _operation(function: Callable[[Any, Any], Any]) -> Callable[[Ball, Any], Ball]:
    """Return a method of `Ball`; what is no number gets its own say (`Value` does)."""

    def method(self: Ball, other: Any) -> Ball:
        if not isinstance(other, Ball | int | float | Fraction):
            return NotImplemented
        return _ball(function(self.arb, _arb(other)))

    return method


def _comparison(
    yes: Callable[[Any, Any], bool], no: Callable[[Any, Any], bool]
) -> Callable[[Ball, Any], bool]:
    """Return a method of `Ball` that raises where neither answer is certain."""

    def method(self: Ball, other: Any) -> bool:
        if not isinstance(other, Ball | int | float | Fraction):
            return NotImplemented
        a, b = self.arb, _arb(other)
        if yes(a, b) or no(a, b):
            return yes(a, b)
        raise Undecided(
            f"{self} and {_ball(b)} overlap, so their order is not known: "
            f"{_more_precision()}"
        )

    return method


def _arb_divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise ZeroDivisionError(f"{_ball(a)} divided by zero")
    return a / b


def _arb_power(a: Any, b: Any) -> Any:
    if a == 0 and b < 0:
        raise ZeroDivisionError(f"zero to the power {_ball(b)}")
    return a**b


class Ball:
    """A real number known to lie within `middle ± radius`, by python-flint's `arb`.

    Every operation returns a ball that contains the exact result, whatever was
    rounded on the way. The working precision is flint's own, `flint.ctx.prec` bits;
    the first ball made raises it from flint's default of 53 to 128.

    One thing is out of its hands: before Python 3.13, `Fraction ** Ball` rounds the
    fraction to a float first. Write `Ball(fraction) ** ball`.

    >>> Ball(2) / 3
    Ball([0.66666666666666667 +/- 3.34e-18])
    >>> Ball(2) / 3 < Ball("0.6667")
    True
    """

    __slots__ = ("arb",)

    def __init__(self, x: Any = 0):
        self.arb = _arb(x)
        if not self.arb.is_finite():
            raise ValueError(f"a Ball holds a finite number, got {x}")

    __add__ = __radd__ = _operation(operator.add)
    __mul__ = __rmul__ = _operation(operator.mul)
    __sub__ = _operation(operator.sub)
    __rsub__ = _operation(lambda a, b: b - a)
    __truediv__ = _operation(_arb_divide)
    __rtruediv__ = _operation(lambda a, b: _arb_divide(b, a))
    __pow__ = _operation(_arb_power)
    __rpow__ = _operation(lambda a, b: _arb_power(b, a))

    __lt__ = _comparison(operator.lt, operator.ge)
    __le__ = _comparison(operator.le, operator.gt)
    __gt__ = _comparison(operator.gt, operator.le)
    __ge__ = _comparison(operator.ge, operator.lt)
    __eq__ = _comparison(operator.eq, operator.ne)
    __hash__ = None  # type: ignore[assignment]  # equality may be undecided

    def __neg__(self) -> Ball:
        return _ball(-self.arb)

    def exp(self) -> Ball:
        return _ball(self.arb.exp())

    def log(self) -> Ball:
        return _ball(self.arb.log())

    def tanh(self) -> Ball:
        return _ball(self.arb.tanh())

    def sigmoid(self) -> Ball:
        return _ball(1 / (1 + (-self.arb).exp()))

    def __float__(self) -> float:
        """Round to the nearest float, correctly; raise where the ball leaves it open.

        Both ends of the ball are rounded, ties to even, and must agree.
        """
        if not self.arb.is_finite():
            raise Undecided(f"{self} has no bounds, so it has no nearest float")
        low, high = (_rounded(end) for end in (self.arb.lower(), self.arb.upper()))
        if low != high:
            raise Undecided(
                f"{self} lies across the border between two floats: {_more_precision()}"
            )
        return high

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


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e**-x), written so that no exponential overflows."""
    if isinstance(x, int | float):
        small = math.exp(-abs(x))
        return (1 if x > 0 else small) / (1 + small)
    return _function("sigmoid", x)


def power(x: Any, exponent: Any) -> Any:
    """Return x**exponent in the kind of number that they are.

    Whole exponents are exact for a `Fraction`; any other exponent needs `x` >= 0,
    since a root of a negative number is not real.
    """
    if _is_whole(exponent):
        return _power(x, int(exponent) if isinstance(x, Fraction) else exponent)
    if x < 0:
        raise ValueError(
            f"{x} ** {exponent} is not a real number: a negative base takes whole "
            f"exponents only"
        )
    if isinstance(x, Fraction):
        raise _no_exact_value(f"** {exponent}")
    return _power(x, exponent)


def number(x: Any) -> Any:
    """Return `x` as a number that a `Value` can hold: NumPy's and JAX's as Python's.

    A bare `flint.arb` passes too: less than half the cost of a `Ball`, for code that
    decides comparisons itself, since arb counts an undecided one as false.
    """
    if hasattr(x, "item"):
        x = x.item()
    if not isinstance(x, int | float | Fraction | Ball) and not _is_arb(x):
        raise TypeError(
            f"a Value holds one real number: an int, a float, a Fraction or a Ball, "
            f"got {type(x).__name__} {x!r}"
        )
    return x


def same_kind(a: Any, b: Any) -> tuple[Any, Any]:
    """Return `a` and `b` as the more exact of their two kinds of number.

    >>> same_kind(Fraction(1, 3), 0.5)
    (Fraction(1, 3), Fraction(1, 2))
    """
    if isinstance(a, Ball) or isinstance(b, Ball):
        return Ball(a), Ball(b)
    if isinstance(a, Fraction) or isinstance(b, Fraction):
        return Fraction(a), Fraction(b)
    return a, b


def _function(name: str, x: Any) -> Any:
    if isinstance(x, Fraction):
        raise _no_exact_value(name)
    if isinstance(x, Ball) or _is_arb(x):
        return getattr(x, name)()
    try:
        return getattr(math, name)(x)
    except OverflowError as error:
        raise _too_large(f"{name}({x})") from error


def _power(x: Any, exponent: Any) -> Any:
    try:
        return x**exponent
    except OverflowError as error:
        raise _too_large(f"{x} ** {exponent}") from error


def _too_large(what: str) -> OverflowError:
    return OverflowError(
        f"{what} is above the largest float: scale the numbers down, or use "
        f"reference.numbers.Ball"
    )


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
    """Return the float nearest to mantissa * 2**exponent (int / int rounds so)."""
    mantissa, exponent = (int(part) for part in exact_arb.man_exp())
    size = mantissa.bit_length() + exponent
    if size > 1024:
        raise _too_large(repr(_ball(exact_arb)))
    if size < -1100:  # far below half the smallest float, 2**-1075
        return math.copysign(0.0, mantissa)
    return mantissa * 2 ** max(exponent, 0) / 2 ** max(-exponent, 0)


def _more_precision() -> str:
    return f"raise the precision, for example flint.ctx.prec = {2 * flint().ctx.prec}"


def _ball(arb: Any) -> Ball:
    ball = Ball.__new__(Ball)
    ball.arb = arb
    return ball


def _arb(x: Any) -> Any:
    if isinstance(x, Ball):
        return x.arb
    if isinstance(x, Fraction):
        return flint().arb(flint().fmpq(x.numerator, x.denominator))
    if x is None:  # which flint takes for 0
        raise TypeError("a Ball holds a number, got None")
    return flint().arb(x.item() if hasattr(x, "item") else x)


def _is_arb(x: Any) -> bool:
    module = sys.modules.get("flint")
    return module is not None and isinstance(x, module.arb)


@cache
def flint() -> ModuleType:
    """Return python-flint at 128 bits or more, or say which extra installs it."""
    try:
        import flint as module
    except ImportError as error:
        raise ImportError(
            "balls and the gradient proof need python-flint, which is not installed: "
            'pip install "funcgrad[testing]"'
        ) from error
    module.ctx.prec = max(module.ctx.prec, 128)
    return module
