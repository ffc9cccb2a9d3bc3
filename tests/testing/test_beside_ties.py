"""Ties at size: many at once, in one reduction and in several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hand_rules import with_rule
from jax import lax

from funcgrad.testing import at_size, verdict
from funcgrad.testing.program import trace

ONES = np.ones(9, np.float32)
ROWS = np.float32([[1, 1, 1, 0], [2, 2, 2, 2], [3, 0, 3, 3]])
WEIGHTS = np.float32([1, 2, -3])  # that add up to 0


def by_both(f, *args, **options):
    program = trace(f, args, **options)
    return [method.judge(program, given=False) for method in (verdict, at_size)]


@jax.custom_jvp
def greedy(x):
    return x.max(-1)


greedy.defjvp(
    lambda p, t: (greedy(*p), (t[0] * (p[0] == greedy(*p)[..., None])).sum(-1))
)


def falling(x):
    return x @ jnp.arange(x.size, dtype=x.dtype)[::-1]


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x.max(), ONES),
        (lambda x: x.min() - x.max(), ONES),
        (lambda x: (x.max(1) * WEIGHTS).sum() + x.min(), ROWS),
        (lambda x: falling(jnp.sort(x)), ONES),
        (lambda x: falling(lax.top_k(x, 3)[0]), ONES),
        (lambda x: falling(lax.cummax(x)), ONES),
        (
            lambda x: falling(
                lax.reduce_window(x, -jnp.inf, lax.max, (3,), (1,), "SAME")
            ),
            ONES,
        ),
    ],
    ids=["max", "min and max", "rows", "sort", "top_k", "cummax", "windows"],
)
def test_many_at_once_are_between(f, x):
    for report in by_both(f, x):
        assert report.ok, str(report)
        assert any("exactly tied" in note for note in report.notes)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (greedy, ONES),
        (lambda x: (greedy(x) * WEIGHTS).sum(), ROWS),
        (lambda x: jnp.where(x == 0, x, 2 * x).sum() + x.max(), ONES * 0),
        (lambda x: (jax.nn.relu(x) - jax.nn.relu(-x)).sum() + x.max(), ONES * 0),
    ],
    ids=["all of it", "rows that cancel", "where", "relu"],
)
def test_a_wrong_share_among_many_is_a_kink(f, x):
    assert [report.verdict for report in by_both(f, x)] == ["kink"] * 2


def test_an_infinite_gradient_on_one_side_is_never_ok():
    def f(x):
        return lax.cond(x.sum() > 0, jnp.sqrt, jnp.cos, x)

    exact, identity = by_both(f, np.zeros(3, np.float32))
    assert exact.verdict == "kink"
    assert identity.verdict == "uncovered"


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_a_wrong_rule_that_is_multiplied_by_0_is_one_at_size(x):
    """Exact numbers judge the gradient at a point, fields the rules along a path."""
    wrong = with_rule(jnp.sin, lambda args, g: (2 * g * jnp.cos(args[0]),))
    exact, identity = by_both(lambda x: wrong(x) ** 2, np.full(3, x, np.float32))
    assert exact.verdict == ("rule" if x else "ok")
    assert identity.verdict == "rule"
    assert "custom_vjp `by_hand`" in identity.culprit
    told = [n for n in identity.notes if "gradient is right at these arguments" in n]
    assert bool(told) == (not x)


def test_what_a_tie_leaves_open_is_not_called_right():
    """A rule that is neither wrong nor proven is named where no other is to blame."""

    @jax.custom_jvp
    def wrong(x):
        return jax.nn.relu(x)

    wrong.defjvp(lambda p, t: (wrong(*p), 3 * t[0] * (p[0] >= 0)))
    x = np.float32([0, 1])
    exact, identity = by_both(lambda x: wrong(x) @ x, x)
    assert "neither wrong nor proven by itself" in exact.culprit, str(exact)
    assert "custom_jvp `wrong`" in exact.culprit
    assert "each has the right derivative" not in str(exact) + str(identity)
