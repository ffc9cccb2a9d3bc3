"""Primitives on whole arrays, whatever numbers are in them, in one table by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.testing.rules.whole.conversions import CONVERSIONS
from funcgrad.testing.rules.whole.decisions import DECISIONS
from funcgrad.testing.rules.whole.movement import MOVEMENT
from funcgrad.testing.rules.whole.scatters import SCATTERS
from funcgrad.testing.rules.whole.sums import SUMS

PRIMITIVES: dict[str, Callable[..., Any]] = {
    **MOVEMENT,
    **SUMS,
    **SCATTERS,
    **DECISIONS,
    **CONVERSIONS,
}
