"""Floats as JAX computes them, one equation at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from funcgrad.testing.numbers.objects import Event


class Native:
    """Floats as they are: nothing is lifted, so that JAX runs every equation itself."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def lift(self, native: Any) -> Any:
        return np.asarray(native)

    def constant(self, native: Any, dtype: Any, *, closed_over: bool) -> Any:
        return np.asarray(native, dtype)

    def settled(self, x: Any) -> Any:
        return x
