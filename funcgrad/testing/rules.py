"""One table of exact rules: what each JAX primitive computes, and its slopes.

A rule is written once and serves three kinds of number: `flint.arb` (the exact value
of a program), `reference.Value` (its true derivative) and widened balls (the rounding
bound). Where `Value` has the operation itself, the rule names no slopes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from funcgrad.testing.flint import flint


class Rule(NamedTuple):
    """A function of scalars, with its partial derivatives and its float error.

    `value(*operands)` and `slopes(*operands, out)` work on `flint.arb`; `slopes`
    returns one partial derivative for each operand. `slopes=None` means that `value`
    uses operators of `reference.Value` alone, which know their own derivatives.
    `ulps` is the error of the float version in units in the last place of the result,
    either one number or one for each float type.
    """

    value: Callable[..., Any]
    slopes: Callable[..., tuple[Any, ...]] | None = None
    ulps: float | Mapping[str, float] = 0.5


def arb(x: Any, radius: float = 0) -> Any:
    return flint().arb(x, radius) if radius else flint().arb(x)


def divide(x: Any, y: Any) -> Any:
    """Return x / y as IEEE floats have it: a nonzero x over 0 is infinite."""
    if y == 0:
        if x > 0 or x < 0:
            return arb("inf") if x > 0 else arb("-inf")
        return arb("nan")
    if y == arb("inf") or y == arb("-inf"):
        return arb(0) if x.is_finite() else arb("nan")
    return x / y


def log(x: Any) -> Any:
    return arb("-inf") if x == 0 else x.log()


def rsqrt(x: Any) -> Any:
    return divide(arb(1), x.sqrt())


def logistic(x: Any) -> Any:
    return 1 / (1 + (-x).exp())


def power(x: Any, y: Any) -> Any:
    if x == 0:
        return arb(0) if y > 0 else arb(1) if y == 0 else arb("inf")
    if y.is_exact() and y.is_integer() and abs(y) < 2**20:
        return whole_power(x, int(y.unique_fmpz()))
    return x**y


def whole_power(x: Any, n: int) -> Any:
    """Return x**n; flint has no power of a ball whose middle is exactly 0."""
    if n < 0:
        return divide(arb(1), whole_power(x, -n))
    if n == 0 or x.mid() != 0 or x.is_exact():
        return x**n
    reach = x.abs_upper() ** n
    return arb(0).union(reach) if n % 2 == 0 else arb(0, 1) * reach


def square(x: Any) -> Any:
    return whole_power(x, 2)


def polygamma(m: Any, x: Any) -> Any:
    """Return the m-th derivative of digamma, by Hurwitz' zeta function."""
    sign = -1 if int(m.unique_fmpz()) % 2 == 0 else 1
    return sign * (m + 1).gamma() * (m + 1).zeta(x)


def _power_slopes(x: Any, y: Any, out: Any) -> tuple[Any, Any]:
    by_exponent = arb(0) if x == 0 and y > 0 else out * log(x)
    return (arb(0) if y == 0 else y * power(x, y - 1)), by_exponent


def _gaussian(x: Any) -> Any:
    """Return the derivative of erf, 2 / sqrt(pi) * e**-x**2."""
    return 2 / flint().arb.pi().sqrt() * (-(square(x))).exp()


def cbrt(x: Any) -> Any:
    return -((-x).root(3)) if x < 0 else x.root(3)


# The errors of elementary functions, in ulps. XLA's own tanh, log1p, erf and logistic
# are approximations; these figures are at least 1.5 times the worst seen on CPU over
# a dense sweep, and `tests/testing/test_rounding.py` holds XLA to them. A quotient may
# be computed as a product with the reciprocal, or by a GPU's 2-ulp division.
_LIKE_LOG1P = {"float32": 8, "float64": 260, "bfloat16": 8, "float16": 8}
# Computed as exp of a rounded multiple of x, so that the error grows with |x|.
_SCALED_ARGUMENT = {"float32": 40, "float64": 800, "bfloat16": 40, "float16": 40}

ELEMENTWISE: dict[str, Rule] = {
    "add": Rule(operator.add),
    "add_any": Rule(operator.add),
    "sub": Rule(operator.sub),
    "mul": Rule(operator.mul),
    "neg": Rule(operator.neg, ulps=0),
    "div": Rule(divide, lambda x, y, q: (divide(arb(1), y), -divide(q, y)), 2),
    "square": Rule(lambda x: square(x), lambda x, y: (2 * x,), 1),
    "one_minus_square": Rule(lambda x: 1 - square(x), lambda x, y: (-2 * x,), 2),
    "sqrt": Rule(lambda x: x.sqrt(), lambda x, y: (divide(arb(1), 2 * y),), 2),
    "rsqrt": Rule(rsqrt, lambda x, y: (-divide(y, 2 * x),), 4),
    "cbrt": Rule(cbrt, lambda x, y: (divide(arb(1), 3 * square(y)),), 8),
    "exp": Rule(lambda x: x.exp(), None, 4),
    "exp2": Rule(
        lambda x: arb(2) ** x,
        lambda x, y: (y * arb(2).log(),),
        {"float32": 100, "float64": 1100, "bfloat16": 100, "float16": 100},
    ),
    "expm1": Rule(lambda x: x.expm1(), lambda x, y: (x.exp(),), 8),
    "log": Rule(log, lambda x, y: (divide(arb(1), x),), 4),
    "log2": Rule(
        lambda x: log(x) / arb(2).log(),
        lambda x, y: (divide(arb(1), x * arb(2).log()),),
        8,
    ),
    "log1p": Rule(
        lambda x: log(1 + x) if x == -1 else x.log1p(),
        lambda x, y: (divide(arb(1), 1 + x),),
        _LIKE_LOG1P,
    ),
    "tanh": Rule(lambda x: x.tanh(), None, 8),
    "logistic": Rule(logistic, lambda x, y: (logistic(-x) * y,), 8),
    "sin": Rule(lambda x: x.sin(), lambda x, y: (x.cos(),), 4),
    "cos": Rule(lambda x: x.cos(), lambda x, y: (-x.sin(),), 4),
    "tan": Rule(lambda x: x.tan(), lambda x, y: (1 + square(y),), 8),
    "asin": Rule(lambda x: x.asin(), lambda x, y: (rsqrt(1 - square(x)),), 8),
    "acos": Rule(lambda x: x.acos(), lambda x, y: (-rsqrt(1 - square(x)),), 8),
    "atan": Rule(lambda x: x.atan(), lambda x, y: (1 / (1 + square(x)),), 8),
    "atan2": Rule(
        lambda y, x: flint().arb.atan2(y, x),
        lambda y, x, a: (
            divide(x, square(x) + square(y)),
            -divide(y, square(x) + square(y)),
        ),
        8,
    ),
    "sinh": Rule(lambda x: x.sinh(), lambda x, y: (x.cosh(),), _SCALED_ARGUMENT),
    "cosh": Rule(lambda x: x.cosh(), lambda x, y: (x.sinh(),), _SCALED_ARGUMENT),
    "asinh": Rule(lambda x: x.asinh(), lambda x, y: (rsqrt(1 + square(x)),), 16),
    "acosh": Rule(lambda x: x.acosh(), lambda x, y: (rsqrt(square(x) - 1),), 16),
    "atanh": Rule(
        lambda x: x.atanh(), lambda x, y: (divide(arb(1), 1 - square(x)),), _LIKE_LOG1P
    ),
    "erf": Rule(lambda x: x.erf(), lambda x, y: (_gaussian(x),), 8),
    "erfc": Rule(lambda x: x.erfc(), lambda x, y: (-_gaussian(x),), 24),
    "erf_inv": Rule(
        lambda x: x.erfinv(), lambda x, y: (divide(arb(1), _gaussian(y)),), 64
    ),
    "lgamma": Rule(lambda x: x.lgamma(), lambda x, y: (x.digamma(),), 96),
    "digamma": Rule(lambda x: x.digamma(), lambda x, y: (polygamma(arb(1), x),), 64),
    "polygamma": Rule(
        polygamma, lambda m, x, y: (arb("nan"), polygamma(m + 1, x)), 256
    ),
    "pow": Rule(power, _power_slopes, 16),
    "copy": Rule(lambda x: x, lambda x, y: (1,), 0),
    "copy_p": Rule(lambda x: x, lambda x, y: (1,), 0),
    "reshard": Rule(lambda x: x, lambda x, y: (1,), 0),
    "sharding_constraint": Rule(lambda x: x, lambda x, y: (1,), 0),
}


# Functions with a custom_jvp inside JAX that compute a known function by tricks with
# bits, by name: JAX's derivative of erf uses its own e**-x**2 since 0.12.
APPROXIMATED: dict[str, Rule] = {
    "exp_neg_sq": Rule(lambda x: (-(square(x))).exp(), lambda x, y: (-2 * x * y,), 4),
}


def add_rule(
    primitive: str,
    value: Callable[..., Any],
    slopes: Callable[..., tuple[Any, ...]],
    *,
    ulps: float = 4,
) -> None:
    """Teach the proof an elementwise primitive of your own.

    `value(*operands)` and `slopes(*operands, out)` get and return `flint.arb` numbers;
    `slopes` returns one partial derivative for each operand. `ulps` says how far the
    float version may be off, in units in the last place.

    >>> add_rule("my_square", lambda x: x * x, lambda x, y: (2 * x,))
    """
    ELEMENTWISE[primitive] = Rule(value, slopes, ulps)
