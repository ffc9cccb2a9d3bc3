"""python-flint and its working precision, for the whole proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from funcgrad.testing.engine import flint

__all__ = ["flint", "precision"]


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Let flint work with `bits` bits inside the block."""
    context = flint().ctx
    before = context.prec
    context.prec = bits
    try:
        yield
    finally:
        context.prec = before
