"""Whole gradients with one equation wrong: every mutation at every place it fits.

A gradient is walked equation by equation, and a mutant is that walk with the result of
one equation changed. Walked with numbers, it gives the mutant's gradient by JAX's own
arithmetic; walked by a tracer, it is the mutant's program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from funcgrad.jaxprs import is_float, opened, scan_counts
from funcgrad.testing.control import called

CALLS = (
    "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
    "jit", "pjit", "remat", "remat2",
)  # fmt: skip


class Mutant(NamedTuple):
    """An equation, by its place in each program that calls the next, and what to do."""

    at: tuple[int, ...]
    mutation: str


class Step(NamedTuple):
    """An equation with its numbers; `before` are variables with what they hold."""

    eqn: Any
    inputs: list[Any]
    out: Any
    before: list[tuple[Any, Any]]

    def again(self, *inputs):
        params = self.eqn.primitive.get_bind_params(self.eqn.params)
        out = self.eqn.primitive.bind(*inputs, **params)
        return out[0] if self.eqn.primitive.multiple_results else out


# Mutations: each returns a wrong result, or None where it does not fit ----------------


def _is(step, *names):
    return step.eqn.primitive.name in names


def _without_first(x, axis):
    """Return x with 0 for all that is first along an axis."""
    return jnp.where(lax.broadcasted_iota(int, x.shape, axis) == 0, 0, x)


def dropped_term(step):
    if _is(step, "add", "add_any", "sub"):
        return step.inputs[0] if step.inputs[0].shape == step.out.shape else None
    if _is(step, "reduce_sum") and step.eqn.params["axes"]:
        return step.again(_without_first(step.inputs[0], step.eqn.params["axes"][0]))
    if _is(step, "dot_general"):
        ((axis, *_), _), _ = step.eqn.params["dimension_numbers"]
        return step.again(_without_first(step.inputs[0], axis), step.inputs[1])
    return None


def swapped(step):
    if _is(step, "sub", "div", "dot_general", "pow"):
        a, b = step.inputs
        alike = a.shape == b.shape and a.dtype == b.dtype
        return step.again(b, a) if alike else None
    if _is(step, "select_n") and len(step.inputs) == 3:
        return step.again(step.inputs[0], step.inputs[2], step.inputs[1])
    return None


def transposed(step):
    y = step.out
    square = y.ndim > 1 and y.shape[-1] == y.shape[-2] > 1
    return y.mT if square else None


def missing_sum(step):
    if not _is(step, "reduce_sum") or 0 in step.inputs[0].shape:
        return None
    out = step.inputs[0]
    for axis in sorted(step.eqn.params["axes"], reverse=True):
        out = lax.index_in_dim(out, 0, axis, keepdims=False)
    return out


def off_by_one(step):
    y = step.out
    return jnp.roll(y, 1, -1) if y.ndim and y.shape[-1] > 1 else None


def stale(step):
    """Give the equation an older array of the same shape for one of its operands."""
    for i, x in enumerate(step.inputs):
        if not _is_array(x) or not x.ndim:
            continue
        for v, old in reversed(step.before):
            if old.shape == x.shape and not any(v is own for own in step.eqn.invars):
                return step.again(*step.inputs[:i], old, *step.inputs[i + 1 :])
    return None


def dropped_batch_axis(step):
    y = step.out
    fits = y.ndim > 1 and y.shape[0] > 1
    return jnp.broadcast_to(y[:1], y.shape) if fits else None


MUTATIONS: dict[str, Callable[[Step], Any]] = {
    "sign": lambda step: -step.out,
    "factor 2": lambda step: 2 * step.out,
    "factor 1 + 2^-20": lambda step: (1 + 2.0**-20) * step.out,
    "dropped term": dropped_term,
    "swapped operands": swapped,
    "transposed": transposed,
    "missing broadcast sum": missing_sum,
    "off by one index": off_by_one,
    "stale primal": stale,
    "dropped batch axis": dropped_batch_axis,
}


def _is_array(x):
    return hasattr(x, "shape") and jnp.issubdtype(x.dtype, jnp.floating)


# The walk -----------------------------------------------------------------------------


def evaluate(
    program: Any,
    inputs: list[Any],
    mutant: Mutant | None = None,
    visit: Callable[[tuple[int, ...], Step], None] | None = None,
    above: tuple[int, ...] = (),
) -> list[Any]:
    """Run a program with one equation changed; `visit` is told of each that can be."""
    jaxpr, consts = opened(program)
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, inputs, strict=True))
    before = [(v, x) for v, x in env.items() if _is_array(x)]
    for i, eqn in enumerate(jaxpr.eqns):
        values = [x.val if isinstance(x, core.Literal) else env[x] for x in eqn.invars]
        here = (*above, i)
        if eqn.primitive.name in CALLS:
            out = evaluate(called(eqn), values, mutant, visit, here)
        elif eqn.primitive.name == "scan":
            out = _scan(eqn, values, mutant, visit, here)
        else:
            params = eqn.primitive.get_bind_params(eqn.params)
            out = eqn.primitive.bind(*values, **params)
            out = list(out) if eqn.primitive.multiple_results else [out]
            if len(out) == 1 and is_float(eqn.outvars[0].aval):
                values = [jnp.asarray(x) for x in values]
                step = Step(eqn, values, out[0], before)
                if visit is not None:
                    visit(here, step)
                if mutant is not None and mutant.at == here:
                    out = [MUTATIONS[mutant.mutation](step)]
        made = list(zip(eqn.outvars, out, strict=True))
        before += [(v, x) for v, x in made if _is_array(x)]
        env.update(made)
    return [x.val if isinstance(x, core.Literal) else env[x] for x in jaxpr.outvars]


def _scan(eqn, values, mutant, visit, here):
    counts = scan_counts(eqn.params)
    assert counts is not None
    n, m = counts[0], counts[0] + counts[1]

    def body(carry, row):
        inputs = [*values[:n], *carry, *row]
        out = evaluate(eqn.params["jaxpr"], inputs, mutant, visit, here)
        return out[: counts[1]], out[counts[1] :]

    carry, rows = lax.scan(
        body, values[n:m], values[m:],
        length=eqn.params["length"], reverse=eqn.params["reverse"],
    )  # fmt: skip
    return [*carry, *rows]


def mutants(program: Any) -> list[Mutant]:
    """Return every mutant of a program, those of one equation side by side."""
    found: dict[Mutant, None] = {}  # a loop's body may be traced more than once

    def visit(at, step):
        for name, mutate in MUTATIONS.items():
            wrong = mutate(step)
            if wrong is not None and wrong.shape == step.out.shape:
                found[Mutant(at, name)] = None

    def run(*inputs):
        return evaluate(program, list(inputs), visit=visit)

    jax.make_jaxpr(run)(*(v.aval for v in opened(program)[0].invars))
    return list(found)


def largest_difference(right: list[Any], made: list[Any]) -> float:
    """Return the largest difference of a leaf, as a share of its largest element.

    NaN and infinity are as different as can be.
    """
    most = 0.0
    for a, b in zip(right, made, strict=True):
        size = float(jnp.abs(a).max())
        off = float(jnp.abs(a - b).max())
        most = max(most, off / size if size else (math.inf if off else 0.0))
        if not math.isfinite(off):
            return math.inf
    return most
