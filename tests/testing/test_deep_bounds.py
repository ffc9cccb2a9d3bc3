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


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.exhaustive)]
)
def test_every_bound_is_finite_and_says_something(dtype):
    report = judged(traced(dtype))
    assert report.ok, str(report)
    assert report.method == "exact"
    assert report.notes == ()
    for leaf in report.leaves:
        assert leaf.ulps <= leaf.bound < 1e5 * leaf.ulps, str(report)


def no_rule(program):
    raise Uncovered


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_what_is_outside_the_bound_is_the_compilers_fault():
    program, worst = broken(traced(), 2.0)
    report = judged(program)
    assert report.verdict == "compiler", str(report)
    assert report.leaves[3].verdict == "compiler"
    assert {leaf.verdict for leaf in report.leaves} == {"compiler", "ok"}
    assert report.leaves[3].worst == worst
    assert "largest part of the bound" in report.culprit


@pytest.mark.exhaustive
def test_what_is_unusual_is_noted():
    """Nearly the worst case, where that is farthest from what is typical."""
    program = traced("float32")
    decided = identity.decide(program)
    recorded = adjoint_bound.record(program, decided)
    bounds = []
    for i, g in enumerate(decided.values):
        k = int(np.argmax(np.abs(g)))
        bounds.append((rounding.of_element(recorded, i, k), i, k))
    bound, i, k = max(bounds, key=lambda b: b[0].worst / b[0].typical)
    assert 0.9 * bound.worst > 15 * bound.typical  # else there is nothing unusual
    values = [v.copy() for v in program.values]
    values[i].flat[k] += 0.9 * bound.worst
    report = judged(program._replace(values=values))
    assert report.ok, str(report)
    assert any("times what is usual" in note for note in report.notes)


def test_a_wrong_number_within_a_wide_ball_is_no_excuse():
    """Balls triple at each step of 2 y - y, which floats do without any error.

    After 7 steps they are 850 times as wide as this error: of the errors alone one
    would not say that balls are too wide, and the error would pass.
    """

    def f(x):
        y = x
        for _ in range(7):
            y = 2 * y - y
        return (y**2).sum()

    program = trace(f, (np.array([0.3, 1.7], np.float32),))
    assert judged(program).ok
    report = judged(program._replace(values=[program.values[0] * np.float32(1.001)]))
    assert report.verdict == "compiler", str(report)


@pytest.mark.exhaustive
def test_open_decisions_blame_no_compiler():
    """A kink of relu may have been passed on the way, of which derivatives say nothing.

    Balls do not say where, so that this is noted and no more.
    """
    program = traced("bfloat16", jax.nn.relu)
    report = judged(broken(program, 2.0)[0])
    assert report.ok, str(report)
    assert any("rounding may turn the comparison" in note for note in report.notes)
    assert any("times what is usual" in note for note in report.notes)
