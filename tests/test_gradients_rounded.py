"""Correctly rounded to float32: tanh nets with every loss, against rigorous intervals.

A float64 gradient is off by a few units in its last place, since tanh, exp and every
sum are rounded. Rounded to float32, whose last place is 2**29 times larger, it must be
the float32 nearest to the truth, which the scalar engine encloses in balls.
"""

from itertools import pairwise

import exact
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from reference import Ball

SHAPES = [([2, 3, 2], 4), ([3, 4, 4, 2], 5), ([1, 6, 3], 3)]
SEEDS = range(4)  # 5 losses * 3 shapes * 4 seeds = 60 nets
REAL_LOSSES = [loss for loss in exact.LOSSES if loss != "total"]


def problem(loss, sizes, rows, seed):
    rng = np.random.default_rng([seed, len(sizes), rows])
    params = [
        (rng.normal(size=(n_in, n_out)), rng.normal(size=n_out))
        for n_in, n_out in pairwise(sizes)
    ]
    x = rng.normal(size=(rows, sizes[0]))
    shape = (rows, sizes[-1])
    if loss == "hinge":
        target = rng.choice([-1.0, 1.0], shape)
    elif loss == "cross_entropy":
        target = rng.integers(sizes[-1], size=rows)
    elif loss == "binary_cross_entropy":
        target = rng.integers(2, size=shape).astype(float)
    else:
        target = rng.normal(size=shape)
    return params, x, target


@pytest.mark.parametrize("loss", REAL_LOSSES)
@pytest.mark.parametrize(("sizes", "rows"), SHAPES)
def test_float64_gradient_rounds_to_the_ball_gradient(
    loss, sizes, rows, record_property
):
    model = fg.mlp(sizes, final_activation=fg.linear)
    worst_ulps = 0.0
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(fg.objective(model, exact.LOSSES[loss][0])))
        for seed in SEEDS:
            nested, x, target = problem(loss, sizes, rows, seed)
            params = tuple(fg.Layer(jnp.array(w), jnp.array(b)) for w, b in nested)
            given = exact.flat(gradient(params, (x, target)))

            net = exact.reference_net(nested, "tanh", Ball)
            exact.reference_loss(net, loss, x, target, Ball).backward()
            truth = exact.flat(net.to_params("grad"))

            assert (
                np.float32(given).tolist()
                == np.float32([float(ball) for ball in truth]).tolist()
            )
            worst_ulps = max(worst_ulps, *map(exact.ulps, given, truth))
    record_property(f"worst float64 gradient of {loss}, in ulp", worst_ulps)


def test_the_comparison_can_fail():
    """A wrong factor of 1 + 2**-22, which no loose tolerance sees, changes float32."""
    nested, x, target = problem("squared_error", [2, 3, 1], 4, 0)
    model = fg.mlp([2, 3, 1], final_activation=fg.linear)
    with jax.enable_x64(True):
        params = tuple(fg.Layer(jnp.array(w), jnp.array(b)) for w, b in nested)
        f = fg.objective(model, fg.squared_error)
        given = np.array(exact.flat(jax.grad(f)(params, (x, target))))
    assert (np.float32(given) != np.float32(given * (1 + 2.0**-22))).all()
