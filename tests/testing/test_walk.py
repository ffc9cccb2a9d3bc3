"""The walk knows where it is, tells its hook, and says where something was met."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from funcgrad.testing import culprit
from funcgrad.testing.control import Uncovered
from funcgrad.testing.flint import precision
from funcgrad.testing.numbers.balls import Rounded
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.native import Native
from funcgrad.testing.numbers.objects import Event
from funcgrad.testing.walk import Walk

X = np.array([0.5, -1.25, 2.0], np.float32)


def run(walk, f, *args):
    with precision(256):
        program = jax.make_jaxpr(f)(*args)
        return walk.run(program, [walk.numbers.lift(x) for x in args])


def names(places):
    """Return (primitive, its callers' primitives) of each place."""
    return [
        (p.eqn.primitive.name, [c.primitive.name for c in p.callers]) for p in places
    ]


def seen(f, *args, numbers=None, **options):
    """Return the names of what a hook is told of, in order."""
    told = []
    walk = Walk(numbers or Exact(), hook=lambda p, i, o: told.append(p), **options)
    run(walk, f, *args)
    return names(told)


@jax.custom_jvp
def cube(x):
    return x * x * x


cube.defjvp(lambda p, t: (cube(*p), 3 * p[0] ** 2 * t[0]))


@jax.custom_vjp
def twice(x):
    return jnp.sin(x + x)


twice.defvjp(lambda x: (twice(x), x), lambda x, g: (2 * jnp.cos(2 * x) * g,))


# The hook -----------------------------------------------------------------------------


def test_the_hook_is_told_of_equations_and_of_their_callers():
    inner = jax.jit(lambda x: jnp.sin(x))
    assert seen(lambda x: jax.jit(lambda x: inner(x) * x)(x) + x, X) == [
        ("sin", ["jit", "jit"]),
        ("mul", ["jit"]),
        ("add", []),
    ]


def test_loops_and_branches_are_callers():
    def f(x):
        carry, _ = lax.scan(lambda c, t: (jnp.exp(c), None), x, None, length=2)
        return lax.cond(x[0] > 0, jnp.sin, jnp.cos, carry)

    told = seen(f, X)
    assert told[:2] == [("exp", ["scan"])] * 2
    assert told[-1] == ("sin", ["cond"])

    def until(x):
        return lax.while_loop(lambda x: x[0] < 9, lambda x: x * x + 1, x)

    told = seen(until, X)
    assert ("mul", ["while"]) in told
    assert ("lt", ["while"]) in told
    assert {callers[0] for _, callers in told} == {"while"}


def test_a_custom_rule_is_looked_into_or_is_one_equation():
    for f, name, inside in (
        (cube, "custom_jvp_call", ["mul", "mul"]),
        (twice, "custom_vjp_call", ["add", "sin"]),
    ):
        assert seen(lambda x: -f(x), X) == [  # noqa: B023
            *((primitive, [name]) for primitive in inside),
            ("neg", []),
        ]
        told = seen(lambda x: -f(x), X, inside_custom_rules=False)  # noqa: B023
        assert told == [(name, []), ("neg", [])]


def test_what_nothing_needs_is_left_out():
    def f(x):
        pair = jax.jit(lambda x: (jnp.sin(x), jnp.cos(x)))(x)
        return pair[1]

    assert seen(f, X) == [("cos", ["jit"])]


def test_the_hook_gets_inputs_and_outputs():
    told = []
    walk = Walk(Exact(), hook=lambda place, i, o: told.append((i, o)))
    run(walk, lambda x: -x, X)
    [([given], [made])] = told
    assert [float(x) for x in given] == X.tolist()
    assert [float(x) for x in made] == (-X).tolist()


# What is met on the way ---------------------------------------------------------------


def test_a_tie_is_met_where_it_is():
    walk = Walk(Exact())
    run(walk, lambda x: jnp.maximum(jnp.sin(x), 0.0) + jnp.maximum(x, 1.0), 0 * X)
    (place,) = walk.where("tie")
    assert place.eqn.primitive.name == "max"
    assert place.eqn.invars[0].aval.shape == X.shape
    assert "jnp.maximum(jnp.sin(x), 0.0)" in culprit.describe(place)
    [met] = walk.met
    assert [event.kind for event in met.events] == ["tie"] * 3
    assert walk.numbers.events == []


@pytest.mark.parametrize(
    ("f", "callers"),
    [
        (lambda x: lax.scan(lambda c, t: (c * t, jnp.abs(t)), x[0], x)[1], ["scan"]),
        (lambda x: lax.cond(x.sum() > -1, jnp.abs, jnp.sin, x), ["cond"]),
        (lambda x: lax.fori_loop(0, 2, lambda i, c: jnp.abs(c), x), ["scan"]),
        (
            lambda x: lax.while_loop(lambda c: c[0] < 0.5, lambda c: abs(c) + 1, x),
            ["while"],
        ),
        (lambda x: lax.cond(True, lambda: jax.jit(jnp.abs)(x), lambda: x), ["jit"]),
    ],
    ids=["scan", "cond", "fori_loop", "while", "nested"],
)
def test_a_tie_inside_is_stamped_with_its_equation_once(f, callers):
    walk = Walk(Exact())
    run(walk, f, 0 * X)
    (place,) = walk.where("tie")
    assert place.eqn.primitive.name == "abs"
    assert [c.primitive.name for c in place.callers][-1:] == callers


def rounded(f, *args):
    """Return a walk in the numbers of floats, after the exact one."""
    first = Exact()
    run(Walk(first), f, *args)
    walk = Walk(Rounded(first.path))
    with precision(64):
        walk.run(jax.make_jaxpr(f)(*args), [walk.numbers.lift(x) for x in args])
    return walk


def is_one(x):
    """Ask what no rounding bound can decide."""
    return jnp.sin(x) ** 2 + jnp.cos(x) ** 2 > 1


def test_a_flip_is_met_at_the_comparison():
    walk = rounded(lambda x: jnp.where(is_one(x), x, 2 * x), X)
    assert names(walk.where("flip")) == [("gt", [])]
    assert walk.where("lost") == []


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x: lax.cond(is_one(x), jnp.exp, jnp.exp, x), "cond"),
        (lambda x: lax.while_loop(is_one, jnp.exp, x), "while"),
    ],
)
def test_a_path_is_lost_at_the_branch_and_not_inside(f, name):
    walk = rounded(f, X[0])
    assert names(walk.where("lost")) == [(name, [])]


def test_overflow_is_met_where_it_is():
    def f(x):
        return lax.scan(lambda c, t: (jnp.exp(c) + t, None), x[0], x)[0]

    walk = rounded(f, np.array([50.0, 1.0], np.float32))
    assert names(walk.where("overflow"))[0] == ("exp", ["scan"])


def test_places_of_one_function_called_twice_have_their_own_callers():
    """JAX keeps one program for both calls, so equations alone do not tell."""
    inner = jax.jit(jnp.abs)
    told = []
    walk = Walk(Exact(), hook=lambda place, i, o: told.append(place))
    run(walk, lambda x: inner(x) + inner(2 * x), X)
    first, second = (p for p in told if p.eqn.primitive.name == "abs")
    assert first.eqn is second.eqn
    assert first.callers != second.callers


# What has no rule ---------------------------------------------------------------------


def test_uncovered_carries_its_place():
    def f(x):
        return lax.scan(lambda c, t: (lax.cumlogsumexp(c), None), x, None, length=1)[0]

    walk = Walk(Exact())
    with pytest.raises(Uncovered) as caught:
        run(walk, f, X)
    assert names([caught.value.place]) == [("cumlogsumexp", ["scan"])]


def test_a_scan_that_cannot_be_read_is_uncovered(monkeypatch):
    import funcgrad.testing.control as module

    monkeypatch.setattr(module, "scan_counts", lambda params: None)
    with pytest.raises(Uncovered) as caught:
        run(Walk(Exact()), lambda x: lax.cumsum(x) + lax.map(jnp.sin, x), X)
    assert names([caught.value.place]) == [("scan", [])]
    assert "carries" in caught.value.why


# Floats -------------------------------------------------------------------------------


def test_floats_are_what_jax_computes_op_by_op():
    def f(x):
        y, z = lax.scan(lambda c, t: (jnp.tanh(c + t), c * t), x[0], x)
        return lax.cond(y > 0, jnp.sin, jnp.cos, z)

    [got] = run(Walk(Native()), f, X)
    with jax.disable_jit():
        assert np.array_equal(got, f(jnp.asarray(X)))


def test_floats_go_through_what_other_numbers_take_for_a_known_function():
    """JAX's derivative of erf has an e**-x**2 of its own since 0.12."""
    slope = jax.grad(lax.erf)
    exact, floats = [], []
    [right] = run(Walk(Exact(), hook=lambda p, i, o: exact.append(p)), slope, X[0])
    [got] = run(Walk(Native(), hook=lambda p, i, o: floats.append(p)), slope, X[0])
    assert names(exact) == names(floats)
    assert float(got) == pytest.approx(float(right.item()), rel=1e-6)


def test_an_event_names_no_equation():
    assert set(Event._fields) == {"kind", "a", "b"}
