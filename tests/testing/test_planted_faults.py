"""Small faults in the proof itself, each of which some test here must notice.

The tests of this page were made by planting the fault that stands in their docstring.
"""

import inspect

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from funcgrad.testing import check_gradients, ties
from funcgrad.testing.compare import truth
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.numbers.balls import Rounded
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.objects import objects, unit
from funcgrad.testing.program import trace
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.size import work_in
from funcgrad.testing.walk import Walk

X = np.array([0.5, -1.25, 2.0], np.float32)


def custom(f, slope):
    """Return f with a slope of one's own."""

    @jax.custom_jvp
    def made(x):
        return f(x)

    made.defjvp(lambda p, t: (f(*p), slope(*p) * t[0]))
    return made


# Is it zero? --------------------------------------------------------------------------


def test_a_ball_too_wide_to_tell_is_not_taken_for_zero():
    """Planted: a ball that holds 0 is zero, whatever its radius.

    e^500 has 217 digits before the point, so that 256 bits leave none of its sine.
    """
    with jax.enable_x64(True):
        x = jnp.array([500.0])

        def slope(x):
            return jnp.cos(jnp.exp(x)) * jnp.exp(x)

        def sine(x):
            return jnp.sin(jnp.exp(x))

        wrong = check_gradients(custom(sine, lambda x: 2 * slope(x)), x)
        assert wrong.verdict == "rule"
        assert "custom_jvp `made`" in wrong.culprit
        assert check_gradients(custom(sine, slope), x).ok


# The bound ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", ["add", "mul", "tanh", "exp", "log1p"])
def test_the_bound_of_a_function_is_what_its_table_says(name, dtype):
    """Planted: the bound of an elementary function, a thousand times too wide."""
    rule = ELEMENTWISE[name]
    ulps = rule.ulps if isinstance(rule.ulps, (int, float)) else rule.ulps[dtype]
    with precision(256):
        operands = [objects((1,), [flint().arb(0.75)])] * (
            2 if name in ("add", "mul") else 1
        )
        made = Rounded([]).elementwise(rule, operands, jnp.dtype(dtype))[0]
        exact = Exact().elementwise(rule, operands, jnp.dtype(dtype))[0]
        radius = float((made - exact).abs_upper())
        # An ulp is between u and 2 u of the number, and the smallest normal is nothing.
        size = float(abs(exact).mid()) * 2 * ulps * unit(dtype)
        assert size <= radius <= 1.01 * size + 2 * float(jnp.finfo(dtype).tiny)


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_the_bound_of_a_sum_is_gamma(n):
    """Planted: the bound of a sum or of a product of matrices, as much too wide."""
    dtype = jnp.dtype("float32")
    with precision(128):
        row = objects((1, n), [flint().arb((-1) ** i * 0.75) for i in range(n)])
        ones = objects((1, n, 1), [flint().arb(1)] * n)
        total = Rounded([]).add_up(row, dtype)[0]
        product = Rounded([]).contract(row[None], ones, dtype)[0, 0, 0]
        for ball, terms in ((total, n - 1), (product, n)):
            gamma = np.expm1(terms * unit(dtype)) * 0.75 * n
            # flint keeps 30 bits of a radius.
            assert gamma * 0.999 <= float(ball.rad()) <= gamma * 1.001


def test_the_bound_of_a_conversion_is_one_rounding():
    """Planted: the bound of a conversion to a narrower type, as much too wide."""
    with precision(128):
        info, one = ml_dtypes.finfo(jnp.bfloat16), objects((), [flint().arb(1)])
        ball = Rounded([]).rounded_to(one, info)
        assert (
            unit(jnp.bfloat16) <= float(ball.item().rad()) < 1.01 * unit(jnp.bfloat16)
        )


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    "f",
    [lambda x: (x * x).sum(), lambda x: jnp.tanh(x).sum(), lambda x: x @ x, jnp.prod],
    ids=["squares", "tanh", "dot", "prod"],
)
def test_compiled_numbers_a_hundred_ulps_off_are_the_compilers(f, dtype):
    """Planted: any bound on the way to the verdict, a thousand times too wide."""

    def off(x):
        right = jax.grad(f)(x)
        return right if isinstance(x, jax.core.Tracer) else right * (1 + 50 * eps)

    with jax.enable_x64(dtype == "float64"):
        eps = float(jnp.finfo(dtype).eps)
        report = check_gradients(f, jnp.asarray(X, dtype), grad=off)
    assert report.verdict == "compiler", str(report)


# Decisions ----------------------------------------------------------------------------


def test_clamp_has_both_bounds():
    """Planted: clamp without its lower bound, or without its upper."""
    x = jnp.array([-2.0, 0.25, 3.0])
    with precision(128):
        program = jax.make_jaxpr(lambda x: lax.clamp(-0.5, x, 1.0))(x)
        (made,) = Walk(Exact()).run(program, [Exact().lift(np.asarray(x))])
        assert [float(v) for v in made] == [-0.5, 0.25, 1.0]
    assert check_gradients(lambda x: lax.clamp(-0.5, x, 1.0) ** 2, x).ok
    low, high = jnp.full(3, -0.5), jnp.full(3, 1.0)
    report = check_gradients(
        lambda low, x, high: lax.clamp(low, x, high) ** 2,
        low, x, high, argnums=(0, 1, 2),
    )  # fmt: skip
    assert report.ok, str(report)


def unsure(x):
    """Ask of each number what no rounding bound can decide; the answer is True."""
    return jnp.sin(x) ** 2 + jnp.cos(x) ** 2 > 1 - 2.0**-30


def unsure_at(i, x):
    """Return the same for number i alone; the others are surely True."""
    return jnp.sin(x) ** 2 + jnp.cos(x) ** 2 + (jnp.arange(3) != i) > 1 - 2.0**-30


LOGIC = {
    "and": lambda x: unsure(x) & (x > -9),
    "or": lambda x: unsure(x) | (x > 9),
    "xor": lambda x: unsure(x) ^ (x > 9),
    "not": lambda x: ~unsure(x),
    "and of two": lambda x: unsure(x) & unsure(2 * x),
    "and of three, each in doubt elsewhere": lambda x: (
        unsure_at(0, x) & unsure_at(1, x) & unsure_at(2, x)
    ),
    "reversed": lambda x: unsure(x)[::-1],
    "as integers": lambda x: unsure(x).astype(int) > 0,
    "all": lambda x: jnp.broadcast_to(jnp.all(unsure(x)), x.shape),
    "any": lambda x: jnp.broadcast_to(jnp.any(unsure(x)), x.shape),
}


@pytest.mark.parametrize("name", LOGIC)
def test_doubt_goes_through_logic(name):
    """Planted: doubt is lost in `and`, `or` and the like; the ball has one outcome."""

    def f(x):
        return jnp.where(LOGIC[name](x), x, 2 * x)

    program, first = jax.make_jaxpr(f)(X), Exact()
    with precision(128):
        Walk(first).run(program, [first.lift(X)])
        numbers = Rounded(first.path)
        (balls,) = Walk(numbers).run(program, [numbers.lift(X)])
        for ball, x in zip(balls, X.tolist(), strict=True):
            assert ball.contains(x) and ball.contains(2 * x)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(-3.5, -4), (-2.5, -2), (-1.5, -2), (-0.5, 0), (0.5, 0), (1.5, 2), (2.5, 2),
     (-2.75, -3), (-2.25, -2), (2.75, 3), (-0.25, 0)],
)  # fmt: skip
def test_round_takes_halves_to_even_on_both_sides_of_0(value, rounded):
    """Seen: `round` of -2.5 was -3 to the walk, and JAX's right -2 the compiler's."""
    assert float(jnp.round(value)) == rounded
    report = check_gradients(lambda x: (x * jnp.round(x)).sum(), jnp.array([value]))
    assert report.ok, str(report)
    assert float(report.leaves[0].value) == rounded
    away = lax.RoundingMethod.AWAY_FROM_ZERO
    assert check_gradients(lambda x: x * lax.round(x, away), jnp.array([value])).ok


# Ties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [-0.25, 0.0, 0.5, 1.0, 1.25])
def test_the_slope_at_a_tie_has_an_end_above_and_one_below(slope):
    """Planted: a tie is held against one end of the interval alone."""
    made = custom(jax.nn.relu, lambda x: jnp.where(x == 0, slope, (x > 0) * 1.0))
    report = check_gradients(made, jnp.array([0.0, 1.0]))
    assert report.verdict == ("ok" if 0 <= slope <= 1 else "kink"), str(report)


@pytest.mark.parametrize("best", [jnp.max, jnp.min])
@pytest.mark.parametrize("winner", [0, 11, 30, 46])
def test_a_tie_of_many_is_judged_from_the_left_and_from_the_right(best, winner):
    """Planted: one step to the right and none to the left, or the other way round.

    Of 47 equal numbers each may be the largest, but few are at a random neighbour.
    """

    @jax.custom_jvp
    def made(x):
        return best(x)

    made.defjvp(lambda p, t: (best(*p), t[0][winner]))
    report = check_gradients(made, jnp.ones(47))
    assert report.ok, str(report)


def test_random_neighbours_come_in_pairs():
    """Planted: random neighbours on one side only."""
    program = trace(lambda x: jax.nn.relu(x).sum(), (jnp.zeros(3),))
    moves = []

    def shifted(shift):
        moves.append(shift[0])
        return truth(program, shift=shift).values

    with precision(256):
        right = truth(program)
        ties.judge(
            right.variables, program.variables, right.met, right.values, shifted,
            cheap=True,
        )  # fmt: skip
    assert len(moves) == 16
    for there, back in zip(moves[::2], moves[1::2], strict=True):
        assert all(a == -b and a != 0 for a, b in zip(there, back, strict=True))


# What is told -------------------------------------------------------------------------


def test_the_culprit_has_its_own_line():
    """Planted: a culprit one line off, or at the line that calls the innermost."""
    wrong = custom(jnp.sin, jnp.sin)
    lines, start = inspect.getsourcelines(test_the_culprit_has_its_own_line)

    def inner(y):
        return wrong(y) * y  # the one to blame

    def f(x):
        z = inner(x * x)
        return z * x

    at = start + next(i for i, line in enumerate(lines) if "wrong(y) * y" in line)
    report = check_gradients(f, X)
    assert report.verdict == "rule"
    where, text = report.culprit.splitlines()
    assert where == f"custom_jvp `made` at {__file__}:{at}"
    assert text.strip() == "return wrong(y) * y  # the one to blame"


def test_a_loop_counts_as_often_as_it_turns():
    """Planted: the estimate of a scan ignores its length."""

    def f(length):
        def turns(x):
            def turn(c, _):
                return jnp.tanh(c @ jnp.ones((3, 3))), None

            return lax.scan(turn, x, None, length=length)[0]

        return work_in(jax.make_jaxpr(turns)(X))[:2]

    (scalars, terms), (once, terms_once) = f(100), f(1)
    held = scalars - 100 * (scalars - once) / 99  # what is made outside of the loop
    assert (scalars - held, terms) == (100 * (once - held), 100 * terms_once)
    assert once - held >= 6 and terms_once == 9

    def long(x):
        return lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=10**5)[0]

    with pytest.raises(ValueError, match="would take about"):
        check_gradients(long, X, seconds=1)
