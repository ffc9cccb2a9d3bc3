"""What follows from operators and a few functions, for numbers without infinities."""

from __future__ import annotations

import math
from typing import Any


class Functions:
    """The part of the rules' `k` that whole arrays of any kind have in common."""

    undefined: float = 0.0

    def constant(self, x: Any, dtype: Any) -> Any:
        raise NotImplementedError

    @property
    def log_2(self) -> Any:
        return self.constant(math.log(2), "float64")

    @property
    def one_over_log_2(self) -> Any:
        return self.constant(1 / math.log(2), "float64")

    @property
    def two_over_root_pi(self) -> Any:
        return self.constant(2 / math.sqrt(math.pi), "float64")

    @property
    def root_pi_over_two(self) -> Any:
        return self.constant(math.sqrt(math.pi) / 2, "float64")

    def divide(self, x: Any, y: Any) -> Any:
        return x / y

    def square(self, x: Any) -> Any:
        return x * x

    def whole_power(self, x: Any, n: int) -> Any:
        return x**n

    def pow_slope(self, x: Any, y: Any) -> Any:
        return y * self.pow(x, y - 1)  # type: ignore[attr-defined]

    def xlogy(self, x: Any, y: Any) -> Any:
        return x * self.log(y)  # type: ignore[attr-defined]
