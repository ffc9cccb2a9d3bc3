"""python-flint, imported when first needed, and its working precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType


@cache
def flint() -> ModuleType:
    """Return the module `flint`, or say which extra installs it."""
    try:
        import flint as module
    except ImportError as error:
        raise ImportError(
            "the gradient proof needs python-flint for its exact numbers, and it is "
            'not installed: pip install "funcgrad[testing]"'
        ) from error
    return module


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
