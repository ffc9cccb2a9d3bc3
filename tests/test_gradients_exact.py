"""Bit for bit on integers: where nothing can be rounded, gradients are equal with ==.

Small integers and sums, products and relu of them are held exactly by floats, in any
order of summation and with or without fused multiply-adds. So the jitted gradient must
equal the scalar engine's gradient in fractions, on any device.
"""

from fractions import Fraction
from functools import partial
from itertools import pairwise
from operator import itemgetter

import exact
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import funcgrad as fg

NETS_A_DRAW = 24  # of one shape, so that they share what is compiled
DRAWS = 5  # for each of 3 dtypes: 3 * 5 * 24 = 360 nets a run


@st.composite
def problems(draw, dtype):
    """Draw `NETS_A_DRAW` nets of one shape, with data, that stay exact in `dtype`."""
    widest, deepest = (2, 2) if dtype == "bfloat16" else (4, 3)
    sizes = draw(st.lists(st.integers(1, widest), min_size=2, max_size=deepest + 1))
    activation = draw(st.sampled_from(["relu", "linear"]))
    loss = draw(st.sampled_from(["total", "squared_error", "hinge"]))
    # The hinge divides by the number of scores: powers of two divide exactly.
    if loss == "hinge":
        sizes[-1] = draw(st.sampled_from([1, 2]))
    rows = draw(st.sampled_from([1, 2] if dtype == "bfloat16" else [1, 2, 4]))

    def integers(*shape):
        return draw(
            hnp.arrays(np.int64, (NETS_A_DRAW, *shape), elements=st.integers(-3, 3))
        )

    params = [
        (integers(n_in, n_out), integers(n_out)) for n_in, n_out in pairwise(sizes)
    ]
    x, target = integers(rows, sizes[0]), integers(rows, sizes[-1])
    if loss == "hinge":
        target = np.where(target > 0, 1, -1)
    for largest in (3, 2, 1):
        nets = [
            ([(np.clip(w[i], -largest, largest), b[i]) for w, b in params], x[i])
            for i in range(NETS_A_DRAW)
        ]
        needed = [
            exact.bits_needed(net, loss, xi, ti)
            for (net, xi), ti in zip(nets, target, strict=True)
        ]
        if max(needed) <= exact.SIGNIFICAND[dtype]:
            params = [(np.clip(w, -largest, largest), b) for w, b in params]
            return sizes, activation, loss, params, x, target
    assume(False)


def objective_of(sizes, activation, loss):
    model = fg.mlp(
        sizes, activation=exact.ACTIVATIONS[activation], final_activation=fg.linear
    )
    return fg.objective(model, exact.LOSSES[loss][0])


def as_params(nested, dtype):
    return tuple(
        fg.Layer(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in nested
    )


def fraction_gradient(params, activation, loss, x, target):
    net = exact.reference_net(params, activation, Fraction)
    exact.reference_loss(net, loss, x, target, Fraction).backward()
    return exact.flat(net.to_params("grad"))


@pytest.mark.parametrize(
    "draws", [DRAWS, pytest.param(4 * DRAWS, marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("dtype", exact.SIGNIFICAND)
def test_jitted_gradient_equals_the_fraction_gradient(dtype, draws):
    nets = 0

    @settings(max_examples=draws, deadline=None, derandomize=True, database=None)
    @given(problems(dtype))
    def check(problem):
        nonlocal nets
        sizes, activation, loss, nested, x, target = problem
        gradient = jax.grad(objective_of(sizes, activation, loss))
        params = as_params(nested, dtype)
        batches = (jnp.asarray(x, dtype), jnp.asarray(target, dtype))

        def one_by_one(params, batches):
            return jax.lax.scan(
                lambda _, net: (None, gradient(*net)), None, (params, batches)
            )[1]

        batched = jax.jit(jax.vmap(gradient))(params, batches)
        scanned = jax.jit(one_by_one)(params, batches)
        jitted = jax.jit(gradient)
        for i in range(NETS_A_DRAW):
            net, batch, of_vmap, of_scan = (
                jax.tree.map(itemgetter(i), tree)
                for tree in (params, batches, batched, scanned)
            )
            truth = fraction_gradient(
                [(w[i], b[i]) for w, b in nested], activation, loss, x[i], target[i]
            )
            assert exact.flat(jitted(net, batch)) == truth
            assert exact.flat(of_vmap) == truth
            assert exact.flat(of_scan) == truth
            nets += 1

    with jax.enable_x64(dtype == "float64"):
        check()
    assert nets >= 100


def test_the_guard_fails_where_floats_are_no_longer_integers():
    """2**24 + 1 is no float32: the guard says so, and the gradients do differ."""
    nested = [(np.array([[4097]]), np.array([0])), (np.array([[4095]]), np.array([3]))]
    x, target = np.array([[1]]), np.array([[0]])
    needed = exact.bits_needed(nested, "squared_error", x, target)
    assert exact.SIGNIFICAND["float32"] < needed <= exact.SIGNIFICAND["float64"]

    truth = fraction_gradient(nested, "relu", "squared_error", x, target)
    gradient = jax.jit(jax.grad(objective_of([1, 1, 1], "relu", "squared_error")))
    in_float32 = gradient(as_params(nested, "float32"), (x, target))
    assert exact.flat(in_float32) != truth
    with jax.enable_x64(True):
        in_float64 = gradient(as_params(nested, "float64"), (x, target))
        assert exact.flat(in_float64) == truth


def test_the_guard_fails_where_something_is_divided_by_three():
    nested = [(np.array([[1, 1, 1]]), np.array([0, 0, 0]))]
    x, signs = np.array([[0]]), np.array([[1, 1, 1]])
    assert exact.bits_needed(nested, "hinge", x, signs) > max(
        exact.SIGNIFICAND.values()
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrong", ["relu'(0) = 1/2", "one row short", "doubled"])
def test_the_comparison_can_fail(wrong):
    nested = [
        (np.array([[1, -1]]), np.array([0, 1])),
        (np.array([[2], [3]]), np.array([1])),
    ]
    x, target = np.array([[0], [1], [2]]), np.array([[1], [2], [3]])
    half_slope = partial(jnp.maximum, 0)
    model = fg.mlp(
        [1, 2, 1],
        activation=half_slope if wrong.startswith("relu") else jax.nn.relu,
        final_activation=fg.linear,
    )
    gradient = jax.grad(fg.objective(model, fg.squared_error))
    rows = slice(1, None) if wrong == "one row short" else slice(None)
    given_gradient = gradient(as_params(nested, "float32"), (x[rows], target[rows]))
    if wrong == "doubled":
        given_gradient = jax.tree.map(lambda g: 2 * g, given_gradient)
    truth = fraction_gradient(nested, "relu", "squared_error", x, target)
    assert exact.flat(given_gradient) != truth
