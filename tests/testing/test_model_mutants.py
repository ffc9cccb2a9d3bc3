"""Mutants of whole models: every one that is wrong is caught, by the identity.

The gradient of a model is judged with one equation changed. Whether that makes a
difference is told by JAX's own float64 gradient of the model, which differences
confirm. All of `EVERY` are 1,400 mutants; CI tries `TRIED` of each model.
"""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fused_rules import transformer
from large_programs import PROGRAMS, Draw
from model_mutants import MUTATIONS, evaluate, largest_difference, mutants

from funcgrad.testing import at_size
from funcgrad.testing.program import trace

# Of so many mutants of a model one is taken, and of these CI tries `TRIED`.
TRIED = 6
EVERY = {
    "mlp": 1, "adam_step": 2, "gpt": 11, "resnet": 17, "u_net": 7, "lstm": 11,
    "fused": 17,
}  # fmt: skip

# A gradient in float64 is right to 1e-15, and the smallest mutation is 2^-20; but its
# share of a leaf may be less.
SAME, WRONG = 1e-12, 1e-10


def program_of(name):
    f, args = {**PROGRAMS, "fused": transformer}[name]()
    program = trace(f, args)
    inputs = [jnp.asarray(x) for x in (*program.variables, *program.constants)]
    return program, inputs, f, args


def tried(name, program):
    # Drawn, for mutants lie in the order of the equations, which layers repeat: every
    # so many-th may be of one kind.
    return random.Random(0).sample(mutants(program.gradient)[:: EVERY[name]], TRIED)


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in EVERY if n != "mlp"),
    ],
)
def test_every_wrong_mutant_of_a_model_is_caught(name, record_property):
    with jax.enable_x64(True):
        program, inputs, f, args = program_of(name)
        right = jax.tree.leaves(jax.grad(f)(*args))
        found = {"same": 0, "wrong": 0}
        for mutant in tried(name, program):
            made = evaluate(program.gradient, inputs, mutant)
            off = largest_difference(right, made)
            assert off < SAME or off > WRONG, (mutant, off)

            def wrong(*inputs, mutant=mutant):
                return evaluate(program.gradient, list(inputs), mutant)

            changed = jax.make_jaxpr(wrong)(*inputs)
            report = at_size.judge(
                program._replace(
                    gradient=changed,
                    bound=changed,
                    values=[np.asarray(x) for x in made],
                ),
                given=True,
            )
            if off < SAME:
                assert report.verdict in ("ok", "uncovered"), (mutant, str(report))
            else:
                assert report.verdict in ("rule", "pole"), (mutant, str(report))
            found["same" if off < SAME else "wrong"] += 1
    assert found["wrong"] > 0
    record_property("mutants of one model caught", found["wrong"])


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in EVERY if n != "mlp"),
    ],
)
def test_the_gradient_that_tells_mutants_apart_agrees_with_differences(name):
    with jax.enable_x64(True):
        program, inputs, f, args = program_of(name)
        right = jax.tree.leaves(jax.grad(f)(*args))
        same = evaluate(program.gradient, inputs)
        assert largest_difference(right, same) < SAME
        leaves, tree = jax.tree.flatten(args[0])
        draw, step = Draw(), 1e-5
        line = [draw(*x.shape) for x in leaves]

        def moved(by):
            return tree.unflatten(
                [x + by * t for x, t in zip(leaves, line, strict=True)]
            )

        ends = jax.jit(f)(moved(step), *args[1:]), jax.jit(f)(moved(-step), *args[1:])
        slope = sum((g * t).sum() for g, t in zip(right, line, strict=True))
        # Central differences are off by a third derivative, here up to some 10^3,
        # times step^2 = 1e-10, and by 1e-16 / step for what cancels.
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5)


@pytest.mark.exhaustive
def test_every_mutation_fits_somewhere_and_1000_mutants_are_there():
    with jax.enable_x64(True):
        all_of_them = {}
        for name in EVERY:
            program, *_ = program_of(name)
            all_of_them[name] = mutants(program.gradient)[:: EVERY[name]]
    assert sum(map(len, all_of_them.values())) >= 1000
    kinds = {m.mutation for found in all_of_them.values() for m in found}
    assert kinds == set(MUTATIONS)


# Shares at a tie ----------------------------------------------------------------------


def sharing(share):
    """Return relu with this slope at 0."""

    @jax.custom_jvp
    def relu(x):
        return jnp.maximum(x, 0)

    @relu.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return relu(x), t * jnp.where(x == 0, share, jnp.where(x > 0, 1.0, 0.0))

    return relu


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, -0.25, 1.25, 2.0])
def test_a_share_at_a_tie_lies_between_the_sides(share):
    draw = Draw()
    params = [(draw(4, 6), jnp.zeros(6)), (draw(6, 2), draw(2))]
    x = jnp.concatenate([draw(3, 4), jnp.zeros((1, 4))])  # the last row is tied

    def f(params, x):
        (w1, b1), (w2, b2) = params
        h = sharing(share)(x @ w1 + b1)
        return (jnp.tanh(h @ w2 + b2) ** 2).sum()

    report = at_size.judge(trace(f, (params, x)), given=False)
    assert report.ok == (0 <= share <= 1), str(report)
