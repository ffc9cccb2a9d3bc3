"""Rounding is judged in deep nets too, where balls are infinite or say nothing."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.testing import adjoint_bound, identity, rounding, verdict
from funcgrad.testing.control import Uncovered
from funcgrad.testing.program import trace

ROWS = np.array([[1, 4, 0, 2], [3, 3, 2, -1]])


@cache
def traced(dtype="bfloat16", activation=jax.nn.gelu):
    """Return a GPT of two blocks, its weights drawn from N(0, 1)."""
    model = fg.gpt(5, context=3, width=4, heads=2, layers=2, activation=activation)
    leaves, tree = jax.tree.flatten(model.init(jax.random.key(0)))
    draw = np.random.RandomState(0)
    params = [jnp.asarray(draw.standard_normal(x.shape), dtype) for x in leaves]
    return trace(fg.next_token(model), (jax.tree.unflatten(tree, params), ROWS))


def judged(program):
    return verdict.judge(program, given=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_bound_is_finite_and_says_something(dtype):
    report = judged(traced(dtype))
    assert report.ok, str(report)
    assert report.method == "exact"
    assert report.notes == ()
    for leaf in report.leaves:
        assert leaf.ulps <= leaf.bound < 1e5 * leaf.ulps, str(report)


def no_rule(program):
    raise Uncovered


def test_balls_alone_say_nothing_there(monkeypatch):
    """Without bounds by derivatives, as of a primitive without a rule for arrays."""
    monkeypatch.setattr(identity, "decide", no_rule)
    report = judged(traced())
    assert not all(np.isfinite(leaf.bound) for leaf in report.leaves)
    assert "rounding has no bound" in report.notes[0]


def broken(program, factor):
    """Return a program with an element that is off by so many of its bounds, and it."""
    leaf = judged(program).leaves[3]
    ulp = np.spacing(np.float32(abs(float(leaf.truth))))
    ulp *= 2.0**16 if leaf.dtype == "bfloat16" else 1
    values = [v.copy() for v in program.values]
    values[3][leaf.worst] = float(leaf.truth) + factor * leaf.bound * ulp
    return program._replace(values=values), leaf.worst


def test_what_is_outside_the_bound_is_the_compilers_fault():
    program, worst = broken(traced(), 2.0)
    report = judged(program)
    assert report.verdict == "compiler", str(report)
    assert report.leaves[3].verdict == "compiler"
    assert {leaf.verdict for leaf in report.leaves} == {"compiler", "ok"}
    assert report.leaves[3].worst == worst
    assert "largest part of the bound" in report.culprit


def test_what_is_unusual_is_noted():
    program = traced("float32")
    decided = identity.decide(program)
    k = int(np.argmax(np.abs(decided.values[3])))
    recorded = adjoint_bound.record(program, decided)
    values = [v.copy() for v in program.values]
    values[3].flat[k] += rounding.of_element(recorded, 3, k).worst / 2
    report = judged(program._replace(values=values))
    assert report.ok, str(report)
    assert any("times what is usual" in note for note in report.notes)


def test_open_decisions_blame_no_compiler():
    """A kink of relu may have been passed on the way, of which derivatives say nothing.

    Balls do not say where, so that this is noted and no more.
    """
    program = traced("bfloat16", jax.nn.relu)
    report = judged(broken(program, 2.0)[0])
    assert report.ok, str(report)
    assert any("rounding may turn the comparison" in note for note in report.notes)
    assert any("times what is usual" in note for note in report.notes)
