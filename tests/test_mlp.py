"""The network: shapes, initial parameters, dtypes, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg


def test_neuron_layer_and_mlp_are_the_same_thing_three_times():
    w = jnp.array([[1.0, -1.0], [2.0, 0.5], [0.0, 3.0]])
    b = jnp.array([0.5, -0.5])
    x = jnp.array([2.0, 4.0, -1.0])
    # Products of small dyadic numbers: every sum before the tanh is exact.
    neurons = [fg.neuron(w[:, j], b[j], x) for j in range(2)]
    assert fg.layer(fg.Layer(w, b), x, fg.linear).tolist() == [10.5, -3.5]
    assert fg.layer(fg.Layer(w, b), x).tolist() == [float(n) for n in neurons]
    model = fg.mlp([3, 2])
    assert model.apply((fg.Layer(w, b),), x).tolist() == [float(n) for n in neurons]


@pytest.mark.parametrize("lead", [(), (5,), (2, 5), (0,)])
def test_any_leading_axes(lead):
    model = fg.mlp([3, 4, 2])
    params = model.init(jax.random.key(0))
    assert model.apply(params, jnp.ones((*lead, 3))).shape == (*lead, 2)


def test_the_last_layer_is_like_the_others_unless_told():
    params = (fg.Layer(jnp.array([[-1.0]]), jnp.array([0.0])),)
    assert fg.mlp([1, 1], activation=jax.nn.relu).apply(params, jnp.ones(1)) == 0
    last = fg.mlp([1, 1], activation=jax.nn.relu, final_activation=fg.linear)
    assert last.apply(params, jnp.ones(1)) == -1


def test_initial_parameters():
    """The variances of 40,000 draws are within five standard deviations of theirs.

    The sample variance of n draws with variance v and kurtosis k spreads by
    v sqrt((k - 1) / n): k is 9/5 for a uniform distribution; He's normal is cut off at
    two standard deviations, where k is below 3.
    """

    def variance_is(model, v, k):
        (layer,) = model.init(jax.random.key(0))
        assert not layer.b.any()
        given = np.var(np.asarray(layer.w, np.float64))
        return abs(given - v) < 5 * v * ((k - 1) / layer.w.size) ** 0.5

    sizes = [100, 400]
    assert variance_is(fg.mlp(sizes), 2 / 500, 9 / 5)
    assert variance_is(fg.mlp(sizes, activation=jax.nn.relu), 2 / 100, 3)
    assert variance_is(fg.mlp(sizes, initializer=fg.uniform), 1 / 3, 9 / 5)
    assert not variance_is(fg.mlp(sizes), 1 / 400, 9 / 5)
    (layer,) = fg.mlp(sizes, initializer=fg.uniform).init(jax.random.key(0))
    assert -1 <= layer.w.min() < -0.99 and 0.99 < layer.w.max() < 1


def test_layers_are_drawn_apart_and_repeat_by_key():
    model = fg.mlp([2, 2, 2])
    first, second = model.init(jax.random.key(0))
    again, _ = model.init(jax.random.key(0))
    other, _ = model.init(jax.random.key(1))
    assert (first.w == again.w).all()
    assert (first.w != second.w).all() and (first.w != other.w).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_computes_in_the_dtype_of_the_params(dtype):
    with jax.enable_x64(True):
        model = fg.mlp([3, 4, 2])
        params = model.init(jax.random.key(0), dtype)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
        for x in (np.ones(3), np.ones(3, np.float32), np.ones(3, int)):
            assert model.apply(params, x).dtype == dtype
        assert model.init(jax.random.key(0))[0].w.dtype == "float32"


@pytest.mark.parametrize("sizes", [[], [3], [3, 0], [3, -1, 2], [3, 2.5]])
def test_sizes_that_are_refused(sizes):
    with pytest.raises(ValueError, match="at least two sizes"):
        fg.mlp(sizes)


@pytest.mark.parametrize("shape", [(), (2,), (3, 2)])
def test_inputs_of_the_wrong_width_are_refused(shape):
    model = fg.mlp([3, 4])
    with pytest.raises(
        ValueError, match="takes 3 inputs along the last axis, got x of"
    ):
        model.apply(model.init(jax.random.key(0)), jnp.ones(shape))
