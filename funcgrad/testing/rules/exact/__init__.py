"""Primitives on arrays of exact numbers, scalar by scalar, in one table by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.testing.rules.exact.conversions import CONVERSIONS
from funcgrad.testing.rules.exact.decisions import DECISIONS
from funcgrad.testing.rules.exact.movement import move
from funcgrad.testing.rules.exact.scatters import SCATTERS
from funcgrad.testing.rules.exact.sums import SUMS
from funcgrad.testing.rules.movement import MOVES

PRIMITIVES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(MOVES, move),
    **SUMS,
    **SCATTERS,
    **DECISIONS,
    **CONVERSIONS,
}
