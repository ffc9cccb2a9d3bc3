"""Float64 arrays, of which JAX would keep 32 bits: values, and decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from funcgrad.testing.constants import Reading
from funcgrad.testing.numbers.functions import Functions
from funcgrad.testing.numbers.whole import Arrays, Back, Whole
from funcgrad.testing.rules.elementwise import Rule


class Floats(Whole, Functions):
    """Float64 arrays; their functions are NumPy's and SciPy's."""

    type = np.ndarray

    def __init__(self, reading: Reading | None = None):
        self._reading = reading

    def lift(self, native: Any) -> np.ndarray:
        return np.asarray(native).astype(np.float64)

    def constant(self, native: Any, dtype: Any) -> np.ndarray:
        """Return a constant of the program; it may be read as a number near it."""
        if self._reading is None or np.ndim(native):
            return self.lift(native)
        native = np.asarray(native, dtype)
        return np.asarray(float(self._reading.read(native, closed_over=False)))

    def elementwise(self, rule: Rule, arrays: list[np.ndarray]) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(rule.value(self, *arrays))

    def slopes(self, rule: Rule, arrays: list[Any], out: Any) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            return rule.slopes(self, *arrays, out)

    def moved(
        self, function: Arrays, arrays: list[Any], back: Back | None = None
    ) -> list[np.ndarray]:
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
        with np.errstate(all="ignore"):
            return np.asarray(function(x))

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
