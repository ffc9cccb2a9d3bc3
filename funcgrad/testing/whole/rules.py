"""Elementwise primitives on whole arrays: their values, and their slopes.

`k` holds the functions of the numbers in use, whose operators do the rest. A slope is
written in the form that needs the fewest identities: 1 - tanh^2 x and no 1 / cosh^2 x,
since in a finite field a function has those identities alone that its model has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """value(k, *operands), and slopes(k, *operands, out): one for each operand."""

    value: Callable[..., Any]
    slopes: Callable[..., tuple[Any, ...]]


def _number(k: Any, x: float) -> Any:
    return k.constant(x, "float64")


def _gaussian(k: Any, x: Any) -> Any:
    return _number(k, 2 / math.sqrt(math.pi)) * k.exp(-(x * x))


def _div_slopes(k: Any, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    inverse = 1 / y
    return inverse, -(z * inverse)


RULES: dict[str, Rule] = {
    "add": Rule(lambda k, x, y: x + y, lambda k, x, y, z: (1, 1)),
    "add_any": Rule(lambda k, x, y: x + y, lambda k, x, y, z: (1, 1)),
    "sub": Rule(lambda k, x, y: x - y, lambda k, x, y, z: (1, -1)),
    "mul": Rule(lambda k, x, y: x * y, lambda k, x, y, z: (y, x)),
    "neg": Rule(lambda k, x: -x, lambda k, x, y: (-1,)),
    "div": Rule(lambda k, x, y: x / y, _div_slopes),
    "square": Rule(lambda k, x: x * x, lambda k, x, y: (2 * x,)),
    "one_minus_square": Rule(lambda k, x: 1 - x * x, lambda k, x, y: (-2 * x,)),
    "sqrt": Rule(lambda k, x: k.sqrt(x), lambda k, x, y: (1 / (2 * y),)),
    "rsqrt": Rule(lambda k, x: k.rsqrt(x), lambda k, x, y: (-y / (2 * x),)),
    "cbrt": Rule(lambda k, x: k.cbrt(x), lambda k, x, y: (1 / (3 * y * y),)),
    "exp": Rule(lambda k, x: k.exp(x), lambda k, x, y: (y,)),
    "exp2": Rule(
        lambda k, x: k.exp2(x), lambda k, x, y: (y * _number(k, math.log(2)),)
    ),
    "expm1": Rule(lambda k, x: k.expm1(x), lambda k, x, y: (y + 1,)),
    "log": Rule(lambda k, x: k.log(x), lambda k, x, y: (1 / x,)),
    "log2": Rule(
        lambda k, x: k.log2(x), lambda k, x, y: (_number(k, 1 / math.log(2)) / x,)
    ),
    "log1p": Rule(lambda k, x: k.log1p(x), lambda k, x, y: (1 / (1 + x),)),
    "tanh": Rule(lambda k, x: k.tanh(x), lambda k, x, y: (1 - y * y,)),
    "logistic": Rule(lambda k, x: k.logistic(x), lambda k, x, y: (y * (1 - y),)),
    "sin": Rule(lambda k, x: k.sin(x), lambda k, x, y: (k.cos(x),)),
    "cos": Rule(lambda k, x: k.cos(x), lambda k, x, y: (-k.sin(x),)),
    "tan": Rule(lambda k, x: k.tan(x), lambda k, x, y: (1 + y * y,)),
    "asin": Rule(lambda k, x: k.asin(x), lambda k, x, y: (k.rsqrt(1 - x * x),)),
    "acos": Rule(lambda k, x: k.acos(x), lambda k, x, y: (-k.rsqrt(1 - x * x),)),
    "atan": Rule(lambda k, x: k.atan(x), lambda k, x, y: (1 / (1 + x * x),)),
    "atan2": Rule(
        lambda k, y, x: k.atan2(y, x),
        lambda k, y, x, z: (x / (x * x + y * y), -y / (x * x + y * y)),
    ),
    "sinh": Rule(lambda k, x: k.sinh(x), lambda k, x, y: (k.cosh(x),)),
    "cosh": Rule(lambda k, x: k.cosh(x), lambda k, x, y: (k.sinh(x),)),
    "asinh": Rule(lambda k, x: k.asinh(x), lambda k, x, y: (k.rsqrt(x * x + 1),)),
    "acosh": Rule(
        lambda k, x: k.acosh(x), lambda k, x, y: (k.rsqrt(x - 1) * k.rsqrt(x + 1),)
    ),
    "atanh": Rule(lambda k, x: k.atanh(x), lambda k, x, y: (1 / (1 - x * x),)),
    "erf": Rule(lambda k, x: k.erf(x), lambda k, x, y: (_gaussian(k, x),)),
    "erfc": Rule(lambda k, x: k.erfc(x), lambda k, x, y: (-_gaussian(k, x),)),
    "erf_inv": Rule(
        lambda k, x: k.erf_inv(x),
        lambda k, x, y: (_number(k, math.sqrt(math.pi) / 2) * k.exp(y * y),),
    ),
    "lgamma": Rule(lambda k, x: k.lgamma(x), lambda k, x, y: (k.digamma(x),)),
    "digamma": Rule(
        lambda k, x: k.digamma(x), lambda k, x, y: (k.polygamma(k.lift(1), x),)
    ),
    "polygamma": Rule(
        lambda k, m, x: k.polygamma(m, x),
        lambda k, m, x, y: (0, k.polygamma(m + 1, x)),
    ),
    "pow": Rule(
        lambda k, x, y: k.pow(x, y),
        lambda k, x, y, z: (y * k.pow(x, y - 1), z * k.log(x)),
    ),
    "copy": Rule(lambda k, x: x, lambda k, x, y: (1,)),
    "copy_p": Rule(lambda k, x: x, lambda k, x, y: (1,)),
}

# Functions inside JAX that have a rule of their own and are one known function.
KNOWN: dict[str, Rule] = {
    "exp_neg_sq": Rule(lambda k, x: k.exp(-(x * x)), lambda k, x, y: (-2 * x * y,)),
    "logaddexp": Rule(
        lambda k, x, y: k.logaddexp(x, y),
        lambda k, x, y, z: (k.exp(x - z), k.exp(y - z)),
    ),
}


def whole_power(n: int) -> Rule:
    return Rule(lambda k, x: x**n, lambda k, x, y: (n * x ** (n - 1) if n else 0,))
