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


@pytest.mark.parametrize(
    "dtype",
    [
        "bfloat16",
        *(
            pytest.param(other, marks=pytest.mark.exhaustive)
            for other in ("float16", "float32", "float64")
        ),
    ],
)
def test_computes_in_the_dtype_of_the_params(dtype):
    with jax.enable_x64(True):
        model = fg.mlp([3, 4, 2])
        params = model.init(jax.random.key(0), dtype)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
        for x in (np.ones(3), np.ones(3, np.float32), np.ones(3, int)):
            assert model.apply(params, x).dtype == dtype
        assert model.init(jax.random.key(0))[0].w.dtype == "float32"


def test_sizes_may_be_numpys():
    sizes = np.array([3, 4, 1])
    params = fg.mlp(sizes).init(jax.random.key(0))
    assert [p.w.shape for p in params] == [(3, 4), (4, 1)]


@pytest.mark.parametrize(
    "sizes", [[], [3], [3, 0], [3, -1, 2], [3, 2.5], 3, [True, True], "31"]
)
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


@pytest.mark.parametrize("name", ["activation", "final_activation", "initializer"])
def test_names_of_functions_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be a function, .* got 'relu'"):
        fg.mlp([3, 1], **{name: "relu"})


def test_init_wants_a_key():
    with pytest.raises(ValueError, match=r"init needs one random key, got 0: pass jax"):
        fg.mlp([3, 1]).init(0)


def with_leaf(params, i, **leaf):
    return (*params[:i], params[i]._replace(**leaf), *params[i + 1 :])


PARAMS = fg.mlp([3, 4, 2]).init(jax.random.key(0))
BAD_PARAMS = {
    "has 2 layers, got parameters of 1": PARAMS[:1],
    "has 2 layers, got parameters of 3": (*PARAMS, PARAMS[1]),
    "needs the parameters first, .* got ndarray of shape": np.ones((5, 3), "f"),
    "needs the parameters first, .* got function": fg.mlp([3, 4, 2]).init,
    "needs the parameters first, .* got Layer": PARAMS[0],
    r"\[1\]\.w must be an array of shape \(4, 2\), got \(3, 2\)": with_leaf(
        PARAMS, 1, w=jnp.ones((3, 2))
    ),
    # These two were broadcast.
    r"\[0\]\.b must be an array of shape \(4,\), got \(1,\)": with_leaf(
        PARAMS, 0, b=jnp.ones(1)
    ),
    r"\[1\]\.b must be an array of shape \(2,\), got \(5, 2\)": with_leaf(
        PARAMS, 1, b=jnp.ones((5, 2))
    ),
    r"\[1\]\.b must be an array of shape \(2,\), got list": with_leaf(
        PARAMS, 1, b=[0.0, 0.0]
    ),
    r"\[0\]\.w must hold floats, got int32": with_leaf(
        PARAMS, 0, w=jnp.ones((3, 4), int)
    ),
}


@pytest.mark.parametrize("sentence", BAD_PARAMS)
def test_parameters_of_another_net_are_refused_at_trace_time(sentence):
    apply, x = fg.mlp([3, 4, 2]).apply, jnp.ones((5, 3))
    with pytest.raises(ValueError, match=sentence):
        apply(BAD_PARAMS[sentence], x)
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(lambda x: apply(BAD_PARAMS[sentence], x), x)


def test_swapped_arguments_are_refused():
    with pytest.raises(ValueError, match="needs the parameters first"):
        fg.mlp([3, 4, 2]).apply(jnp.ones((5, 3)), PARAMS)


def test_checks_add_nothing_to_what_is_compiled():
    """The program of the net is that of its layers in a row, line for line."""
    model, x = fg.mlp([3, 4, 2]), jnp.ones((5, 3))

    def plain(params, x):
        for p in params:
            x = fg.layer(p, x)
        return x

    given = str(jax.make_jaxpr(model.apply)(PARAMS, x))
    assert given == str(jax.make_jaxpr(plain)(PARAMS, x))
