"""Check a gradient without a tolerance: rules exactly, rounding within a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funcgrad.arguments import check_function
from funcgrad.errors import InputError
from funcgrad.jaxprs import has_while
from funcgrad.testing import culprit, verdict
from funcgrad.testing.budget import Spent, within
from funcgrad.testing.control import Uncovered
from funcgrad.testing.flint import flint
from funcgrad.testing.program import Program, trace
from funcgrad.testing.report import GradientReport


def check_gradients(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    grad: Callable[..., Any] | None = None,
    cotangents: Any = None,
    seconds: float = 300.0,
) -> GradientReport:
    """Return whether jax.grad(f), as compiled here, is the derivative of f at `args`.

    Every float leaf of the arguments in `argnums` is differentiated; all else goes into
    f as it is, as in `jax.grad(f)(*args)`. Where f is no scalar function, its outputs
    are weighted with `cotangents`, by default small integers that are not uniform.
    `grad` is judged instead of `jax.grad(f)`: it takes `args` and returns what
    `jax.grad(f, argnums)` would; for functions that are no scalars, a vector-Jacobian
    product with the cotangents.

    No argument is a tolerance: the verdict is one of ok, rule, compiler, kink, pole and
    uncovered (see `GradientReport`). Where exact numbers would take longer than
    `seconds` or 2 GB, rules are tested in random finite fields, and `method` says so.
    ValueError is raised for an f that decides in Python by the differentiated values,
    which is no single program; before it starts, for a check that would take too long
    even so, with an estimate; and for one that has spent its seconds, as a `while` loop
    may. These are counted, not timed: they are the same everywhere, and rough.
    """
    flint()
    check_function("f", f, "lambda x: jnp.sum(x**2)")
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        raise InputError(f"must be a number above 0, got {seconds!r}", "seconds")
    program = trace(f, args, argnums, grad, cotangents, seconds)
    return judged(
        program, given=grad is not None, exactly=program.is_small, seconds=seconds
    )


def judged(
    program: Program, *, given: bool, exactly: bool, seconds: float = 300.0
) -> GradientReport:
    """Return the report on a traced program, by exact numbers or in finite fields."""
    share = 1.0
    try:
        if exactly:
            # How often a `while` loop turns is seen as it does: half of the seconds
            # are kept for fields, which larger arrays in it may be small enough for.
            share = 0.5 if any(map(has_while, (program.primal, program.bound))) else 1.0
            try:
                with within(seconds, share):
                    return verdict.judge(program, given=given)
            except Spent:
                if share == 1:
                    raise
        # SciPy takes longer to import than small programs to prove.
        from funcgrad.testing import at_size

        with within(seconds, share):
            return at_size.judge(program, given=given)
    except Uncovered as missing:
        return culprit.uncovered(missing, program)


def assert_gradients(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    grad: Callable[..., Any] | None = None,
    cotangents: Any = None,
    seconds: float = 300.0,
) -> None:
    """Raise AssertionError with the report unless `check_gradients` says ok."""
    __tracebackhide__ = True
    report = check_gradients(
        f, *args, argnums=argnums, grad=grad, cotangents=cotangents, seconds=seconds
    )
    if not report.ok:
        raise AssertionError(f"\n{report}")
