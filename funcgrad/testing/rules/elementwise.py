"""One table of elementwise primitives: values, slopes and float errors.

A rule is written once and serves every kind of number: `flint.arb` scalars (the exact
value of a program, balls around it, the true derivative) and whole arrays (floats,
residues, tangents). `k` holds the functions of the numbers in use; their operators do
the rest. A slope is written in the form that needs the fewest identities: 1 - tanh^2 x
and no 1 / cosh^2 x, since in a finite field a function has those identities alone that
its model has.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Rule(NamedTuple):
    """A function of numbers, with its partial derivatives and its float error.

    `value(k, *operands)` is the function; `slopes(k, *operands, out)` its partial
    derivatives, one for each operand. `ulps` is the error of the float version in
    units in the last place of the result, either one number or one for each float
    type. `engine` is the operation of `reference.Value` that is this function: the
    true derivative is then the engine's own.
    """

    value: Callable[..., Any]
    slopes: Callable[..., tuple[Any, ...]]
    ulps: float | Mapping[str, float] = 0.5
    engine: Callable[..., Any] | None = None

    def error(self, dtype: Any) -> float:
        """Return the float version's error in ulps of a float type."""
        if isinstance(self.ulps, Mapping):
            return self.ulps.get(dtype.name, max(self.ulps.values()))
        return self.ulps


def _div_slopes(k: Any, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    inverse = k.divide(1, y)
    return inverse, -(z * inverse)


def _gaussian(k: Any, x: Any) -> Any:
    """Return the derivative of erf, 2 / sqrt(pi) e^(-x^2)."""
    return k.two_over_root_pi * k.exp(-(x * x))


def _atan2_slopes(k: Any, y: Any, x: Any, z: Any) -> tuple[Any, Any]:
    square = x * x + y * y
    return k.divide(x, square), -k.divide(y, square)


# The errors of elementary functions, in ulps. XLA's own tanh, log1p, erf and logistic
# are approximations; these figures are at least 1.5 times the worst seen on CPU over
# a dense sweep, and `tests/testing/test_rounding.py` holds XLA to them. A quotient may
# be computed as a product with the reciprocal, or by a GPU's 2-ulp division.
_LIKE_LOG1P = {"float32": 8, "float64": 260, "bfloat16": 8, "float16": 8}
# Computed as exp of a rounded multiple of x, so that the error grows with |x|.
_SCALED_ARGUMENT = {"float32": 40, "float64": 800, "bfloat16": 40, "float16": 40}
_EXP2 = {"float32": 100, "float64": 1100, "bfloat16": 100, "float16": 100}

_ADD = Rule(lambda k, x, y: x + y, lambda k, x, y, z: (1, 1), engine=operator.add)
_COPY = Rule(lambda k, x: x, lambda k, x, y: (1,), 0)

ELEMENTWISE: dict[str, Rule] = {
    "add": _ADD,
    "add_any": _ADD,
    "sub": Rule(lambda k, x, y: x - y, lambda k, x, y, z: (1, -1), engine=operator.sub),
    "mul": Rule(lambda k, x, y: x * y, lambda k, x, y, z: (y, x), engine=operator.mul),
    "neg": Rule(lambda k, x: -x, lambda k, x, y: (-1,), 0, operator.neg),
    "div": Rule(lambda k, x, y: k.divide(x, y), _div_slopes, 2),
    "square": Rule(lambda k, x: k.square(x), lambda k, x, y: (2 * x,), 1),
    "one_minus_square": Rule(
        lambda k, x: 1 - k.square(x), lambda k, x, y: (-2 * x,), 2
    ),
    "sqrt": Rule(lambda k, x: k.sqrt(x), lambda k, x, y: (k.divide(1, 2 * y),), 2),
    "rsqrt": Rule(lambda k, x: k.rsqrt(x), lambda k, x, y: (-k.divide(y, 2 * x),), 4),
    "cbrt": Rule(lambda k, x: k.cbrt(x), lambda k, x, y: (k.divide(1, 3 * y * y),), 8),
    "exp": Rule(
        lambda k, x: k.exp(x), lambda k, x, y: (y,), 4, operator.methodcaller("exp")
    ),
    "exp2": Rule(lambda k, x: k.exp2(x), lambda k, x, y: (y * k.log_2,), _EXP2),
    "expm1": Rule(lambda k, x: k.expm1(x), lambda k, x, y: (y + 1,), 8),
    "log": Rule(lambda k, x: k.log(x), lambda k, x, y: (k.divide(1, x),), 4),
    "log2": Rule(
        lambda k, x: k.log2(x), lambda k, x, y: (k.divide(k.one_over_log_2, x),), 8
    ),
    "log1p": Rule(
        lambda k, x: k.log1p(x), lambda k, x, y: (k.divide(1, 1 + x),), _LIKE_LOG1P
    ),
    "tanh": Rule(
        lambda k, x: k.tanh(x),
        lambda k, x, y: (1 - y * y,),
        8,
        operator.methodcaller("tanh"),
    ),
    "logistic": Rule(lambda k, x: k.logistic(x), lambda k, x, y: (y * (1 - y),), 8),
    "sin": Rule(lambda k, x: k.sin(x), lambda k, x, y: (k.cos(x),), 4),
    "cos": Rule(lambda k, x: k.cos(x), lambda k, x, y: (-k.sin(x),), 4),
    "tan": Rule(lambda k, x: k.tan(x), lambda k, x, y: (1 + y * y,), 8),
    "asin": Rule(lambda k, x: k.asin(x), lambda k, x, y: (k.rsqrt(1 - x * x),), 8),
    "acos": Rule(lambda k, x: k.acos(x), lambda k, x, y: (-k.rsqrt(1 - x * x),), 8),
    "atan": Rule(lambda k, x: k.atan(x), lambda k, x, y: (k.divide(1, 1 + x * x),), 8),
    "atan2": Rule(lambda k, y, x: k.atan2(y, x), _atan2_slopes, 8),
    "sinh": Rule(
        lambda k, x: k.sinh(x), lambda k, x, y: (k.cosh(x),), _SCALED_ARGUMENT
    ),
    "cosh": Rule(
        lambda k, x: k.cosh(x), lambda k, x, y: (k.sinh(x),), _SCALED_ARGUMENT
    ),
    "asinh": Rule(lambda k, x: k.asinh(x), lambda k, x, y: (k.rsqrt(1 + x * x),), 16),
    "acosh": Rule(
        lambda k, x: k.acosh(x),
        lambda k, x, y: (k.rsqrt(x - 1) * k.rsqrt(x + 1),),
        16,
    ),
    "atanh": Rule(
        lambda k, x: k.atanh(x), lambda k, x, y: (k.divide(1, 1 - x * x),), _LIKE_LOG1P
    ),
    "erf": Rule(lambda k, x: k.erf(x), lambda k, x, y: (_gaussian(k, x),), 8),
    "erfc": Rule(lambda k, x: k.erfc(x), lambda k, x, y: (-_gaussian(k, x),), 24),
    "erf_inv": Rule(
        lambda k, x: k.erf_inv(x),
        lambda k, x, y: (k.root_pi_over_two * k.exp(y * y),),
        64,
    ),
    "lgamma": Rule(lambda k, x: k.lgamma(x), lambda k, x, y: (k.digamma(x),), 96),
    "digamma": Rule(
        lambda k, x: k.digamma(x), lambda k, x, y: (k.polygamma(k.lift(1), x),), 64
    ),
    "polygamma": Rule(
        lambda k, m, x: k.polygamma(m, x),
        lambda k, m, x, y: (k.undefined, k.polygamma(m + 1, x)),
        256,
    ),
    "pow": Rule(
        lambda k, x, y: k.pow(x, y),
        lambda k, x, y, z: (k.pow_slope(x, y), k.xlogy(z, x)),
        16,
    ),
    "copy": _COPY,
    "copy_p": _COPY,
    "reshard": _COPY,
    "sharding_constraint": _COPY,
}


# Each is a decision: of two arrays of floats, or of the sign of a difference and 0.
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt_to": np.less,
    "le_to": np.less_equal,
}

# Functions with a rule of their own inside JAX that compute a known function by tricks
# with bits, by name: JAX's derivative of erf uses its own e**-x**2 since 0.12.
APPROXIMATED: dict[str, Rule] = {
    "exp_neg_sq": Rule(
        lambda k, x: k.exp(-k.square(x)), lambda k, x, y: (-2 * x * y,), 4
    ),
}

# Whole arrays know this one too: its own steps hold a maximum, which may tie.
KNOWN_WHOLE: dict[str, Rule] = {
    **APPROXIMATED,
    "logaddexp": Rule(
        lambda k, x, y: k.logaddexp(x, y),
        lambda k, x, y, z: (k.exp(x - z), k.exp(y - z)),
        16,
    ),
}


def integer_power(n: int) -> Rule:
    return Rule(
        lambda k, x: k.whole_power(x, n),
        lambda k, x, y: (n * k.whole_power(x, n - 1) if n else 0,),
        abs(n) + 2,
    )


def add_rule(
    primitive: str,
    value: Callable[..., Any],
    slopes: Callable[..., tuple[Any, ...]],
    *,
    ulps: float = 4,
) -> None:
    """Teach the proof an elementwise primitive of your own.

    `value(k, *operands)` and `slopes(k, *operands, out)` compute with whatever numbers
    the proof uses, by operators and by the functions in `k`: `k.exp`, `k.log`,
    `k.sqrt`, `k.tanh`, ... `slopes` returns one partial derivative for each operand.
    `ulps` says how far the float version may be off, in units in the last place.

    >>> add_rule("my_square", lambda k, x: x * x, lambda k, x, y: (2 * x,))
    """
    ELEMENTWISE[primitive] = Rule(value, slopes, ulps)
