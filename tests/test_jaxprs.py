"""What is read from a program of JAX is the same under every version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from funcgrad.fast.product import product
from funcgrad.jaxprs import (
    count,
    dot_dimensions,
    inner_programs,
    is_literal,
    opened,
    scan_counts,
)


def equation(f, *args, name):
    program = jax.make_jaxpr(f)(*args)
    return next(e for e in program.jaxpr.eqns if e.primitive.name == name)


def scanned(n_constants, n_carried):
    """Return a scan that closes over and carries as many numbers as it is told."""

    def f(constants, carry, rows):
        def body(carry, row):
            return [c + row + sum(constants) for c in carry], row

        return lax.scan(body, carry, rows)

    numbers = [jnp.float32(1.0)] * n_constants, [jnp.float32(2.0)] * n_carried
    return equation(f, *numbers, jnp.ones(4), name="scan")


def test_a_scatter_makes_the_array_that_it_changes():
    """What it holds adds two numbers; a loop's body counts at each of its turns."""
    rows = np.arange(100) % 7
    program = jax.make_jaxpr(lambda x: jnp.zeros(5000).at[rows].add(x))(jnp.ones(100))
    assert count(program)[0] >= 5000
    looped = jax.make_jaxpr(lambda x: lax.fori_loop(0, 9, lambda i, x: lax.sin(x), x))
    assert 900 <= count(looped(jnp.ones(100)))[0] < 1000


@pytest.mark.parametrize("carried", [1, 3])
@pytest.mark.parametrize("constants", [0, 2])
def test_a_scans_operands_are_counted(constants, carried):
    assert scan_counts(scanned(constants, carried).params) == (constants, carried)


def test_a_version_that_says_it_otherwise_gets_none():
    known = {"num_consts", "num_carry", "ft_in"}
    params = {k: v for k, v in scanned(2, 1).params.items() if k not in known}
    assert scan_counts(params) is None


def test_a_program_is_opened_whether_closed_or_not():
    constant = jnp.arange(3.0)
    closed = jax.make_jaxpr(lambda x: x + constant)(constant)
    jaxpr, constants = opened(closed)
    assert jaxpr is closed.jaxpr
    assert [c.tolist() for c in constants] == [c.tolist() for c in closed.consts]
    assert opened(jaxpr)[0] is jaxpr


def test_a_literal_is_told_from_a_variable():
    eqn = equation(lambda x: x + 2.0, jnp.float32(1.0), name="add")
    assert [is_literal(atom) for atom in eqn.invars] == [False, True]


def test_inner_programs_are_found_alone_and_in_lists():
    x = jnp.ones(3)
    loop = equation(
        lambda x: lax.while_loop(lambda x: x[0] < 9, jnp.exp, x), x, name="while"
    )
    assert len(inner_programs(loop)) == 2
    choice = equation(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), x, name="cond")
    names = [opened(p)[0].eqns[0].primitive.name for p in inner_programs(choice)]
    assert names == ["cos", "sin"]
    assert inner_programs(equation(jnp.sin, x, name="sin")) == []


def test_a_product_is_a_dot_of_two_matrices():
    # Smaller ones are sums that JAX derives by itself, before 0.11.
    x, w = jnp.ones((64, 32)), jnp.ones((32, 32))
    ours = equation(product, x, w, name="product")
    dot = equation(jnp.matmul, x, w, name="dot_general")
    assert dot_dimensions(ours) == dot_dimensions(dot) == (((1,), (0,)), ((), ()))
    pairs = jnp.stack([x, x]), jnp.stack([w, w])
    batched = equation(jnp.matmul, *pairs, name="dot_general")
    assert dot_dimensions(batched) == (((2,), (1,)), ((0,), (0,)))
