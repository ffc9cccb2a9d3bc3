"""Functions of `flint.arb`; beside infinities they are what IEEE floats have."""

from __future__ import annotations

from typing import Any

from funcgrad.testing.flint import flint


def arb(x: Any, radius: float = 0) -> Any:
    return flint().arb(x, radius) if radius else flint().arb(x)


class Real:
    """Elementary functions of exact numbers and of balls; the rules' `k`."""

    def lift(self, x: Any) -> Any:
        return arb(x)

    @property
    def undefined(self) -> Any:
        return arb("nan")

    @property
    def log_2(self) -> Any:
        return arb(2).log()

    @property
    def one_over_log_2(self) -> Any:
        return 1 / arb(2).log()

    @property
    def two_over_root_pi(self) -> Any:
        return 2 / flint().arb.pi().sqrt()

    @property
    def root_pi_over_two(self) -> Any:
        return flint().arb.pi().sqrt() / 2

    def divide(self, x: Any, y: Any) -> Any:
        """Return x / y as IEEE floats have it: a nonzero x over 0 is infinite."""
        if y == 0:
            if x > 0 or x < 0:
                return arb("inf") if x > 0 else arb("-inf")
            return arb("nan")
        if y == arb("inf") or y == arb("-inf"):
            return arb(0) if arb(x).is_finite() else arb("nan")
        return x / y

    def square(self, x: Any) -> Any:
        return self.whole_power(x, 2)

    def whole_power(self, x: Any, n: int) -> Any:
        """Return x**n; flint has no power of a ball whose middle is exactly 0."""
        if n < 0:
            return self.divide(arb(1), self.whole_power(x, -n))
        if n == 0 or x.mid() != 0 or x.is_exact():
            return x**n
        reach = x.abs_upper() ** n
        return arb(0).union(reach) if n % 2 == 0 else arb(0, 1) * reach

    def pow(self, x: Any, y: Any) -> Any:
        if x == 0:
            return arb(0) if y > 0 else arb(1) if y == 0 else arb("inf")
        if y.is_exact() and y.is_integer() and abs(y) < 2**20:
            return self.whole_power(x, int(y.unique_fmpz()))
        return x**y

    def pow_slope(self, x: Any, y: Any) -> Any:
        """Return y x^(y - 1), which is 0 where y is."""
        return arb(0) if y == 0 else y * self.pow(x, y - 1)

    def xlogy(self, x: Any, y: Any) -> Any:
        """Return x log(y), which is 0 where x is."""
        return arb(0) if x == 0 else x * self.log(y)

    def sqrt(self, x: Any) -> Any:
        return x.sqrt()

    def rsqrt(self, x: Any) -> Any:
        return self.divide(arb(1), x.sqrt())

    def cbrt(self, x: Any) -> Any:
        return -((-x).root(3)) if x < 0 else x.root(3)

    def exp(self, x: Any) -> Any:
        return x.exp()

    def exp2(self, x: Any) -> Any:
        return arb(2) ** x

    def expm1(self, x: Any) -> Any:
        return x.expm1()

    def log(self, x: Any) -> Any:
        return arb("-inf") if x == 0 else x.log()

    def log2(self, x: Any) -> Any:
        return self.log(x) / self.log_2

    def log1p(self, x: Any) -> Any:
        return arb("-inf") if x == -1 else x.log1p()

    def logistic(self, x: Any) -> Any:
        return 1 / (1 + (-x).exp())

    def tanh(self, x: Any) -> Any:
        return x.tanh()

    def sinh(self, x: Any) -> Any:
        return x.sinh()

    def cosh(self, x: Any) -> Any:
        return x.cosh()

    def asinh(self, x: Any) -> Any:
        return x.asinh()

    def acosh(self, x: Any) -> Any:
        return x.acosh()

    def atanh(self, x: Any) -> Any:
        return x.atanh()

    def sin(self, x: Any) -> Any:
        return x.sin()

    def cos(self, x: Any) -> Any:
        return x.cos()

    def tan(self, x: Any) -> Any:
        return x.tan()

    def asin(self, x: Any) -> Any:
        return x.asin()

    def acos(self, x: Any) -> Any:
        return x.acos()

    def atan(self, x: Any) -> Any:
        return x.atan()

    def atan2(self, y: Any, x: Any) -> Any:
        return flint().arb.atan2(y, x)

    def erf(self, x: Any) -> Any:
        return x.erf()

    def erfc(self, x: Any) -> Any:
        return x.erfc()

    def erf_inv(self, x: Any) -> Any:
        return x.erfinv()

    def lgamma(self, x: Any) -> Any:
        return x.lgamma()

    def digamma(self, x: Any) -> Any:
        return x.digamma()

    def polygamma(self, m: Any, x: Any) -> Any:
        """Return the m-th derivative of digamma, by Hurwitz' zeta function."""
        sign = -1 if int(m.unique_fmpz()) % 2 == 0 else 1
        return sign * (m + 1).gamma() * (m + 1).zeta(x)


REAL = Real()
