"""Objectives, and models that compute in another float type."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg


def test_an_objective_hands_the_loss_predictions_first_and_targets_second():
    model = fg.Model(lambda key: 1.0, lambda params, x: params * x)
    f = fg.objective(model, lambda y, target: y - 2 * target)
    assert f(3.0, (2.0, 5.0)) == 3 * 2 - 2 * 5
    assert jax.grad(f)(3.0, (2.0, 5.0)) == 2


def test_a_third_leaf_of_a_batch_is_the_weights():
    model = fg.Model(lambda key: 1.0, lambda params, x: params * x)
    f = fg.objective(model, lambda y, target, weights: weights * (y - target))
    assert f(3.0, (2.0, 5.0, 7.0)) == 7 * (3 * 2 - 5)


@pytest.mark.parametrize(
    ("batch", "given"),
    [
        ((1.0,), "tuple of 1"),
        ([1.0] * 4, "list of 4"),
        ({"x": 1.0, "y": 2.0}, "dict"),
        (np.ones((2, 3)), "ndarray"),
    ],
)
def test_other_batches_are_refused(batch, given):
    f = fg.objective(fg.mlp([1, 1]), fg.squared_error)
    with pytest.raises(ValueError, match=f"weights\\), got {given}: for any other"):
        f((), batch)


NET = fg.mlp([2, 3, 1], activation=jax.nn.relu, final_activation=fg.linear)
LOW = fg.cast(NET, jnp.bfloat16)
WHOLE = (
    fg.Layer(jnp.array([[1.0, -2, 3], [2, 1, -1]]), jnp.array([0.0, 1, -2])),
    fg.Layer(jnp.array([[2.0], [-3], [1]]), jnp.array([4.0])),
)
X, TARGET = jnp.array([[1.0, 2], [-3, 1], [2, 0], [0, -1]]), jnp.ones((4, 1))


def test_a_net_in_bfloat16_is_the_same_on_small_integers():
    """Up to 256 a bfloat16 holds them all."""
    assert jnp.array_equal(LOW.apply(WHOLE, X), NET.apply(WHOLE, X))
    low, full = (
        jax.jit(jax.grad(fg.objective(model, fg.squared_error)))(WHOLE, (X, TARGET))
        for model in (LOW, NET)
    )
    for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(full), strict=True):
        assert a.dtype == "float32" and jnp.array_equal(a, b)


def test_it_computes_in_bfloat16():
    assert LOW.apply(WHOLE, X + 1 / 1024)[0, 0] == NET.apply(WHOLE, X)[0, 0]
    program = str(jax.make_jaxpr(LOW.apply)(WHOLE, X))
    assert "bf16[4,3]" in program and "f32[4,3]" not in program
    assert "f32[4,3]" in str(jax.make_jaxpr(NET.apply)(WHOLE, X))


def test_parameters_of_a_net_in_bfloat16_are_trained_in_float32():
    """A step that a bfloat16 parameter of 1 would not even notice."""
    fit = fg.fit(
        fg.objective(LOW, fg.mean_squared_error), optax.sgd(2.0**-12), WHOLE,
        (X, TARGET), steps=3, progress=None,
    )  # fmt: skip
    assert {leaf.dtype.name for leaf in jax.tree.leaves(fit.state)} == {
        "float32",
        "int32",
    }
    b = fit.state.params[-1].b
    assert b != 4 and b.astype(jnp.bfloat16) == 4
    assert LOW.init(jax.random.key(0))[0].w.dtype == "float32"


def test_floats_alone_are_cast_in_any_tree():
    seen = {}

    def apply(params, x):
        seen.update(x, table=params["table"])
        return {"y": x["share"] * params["w"], "tokens": x["tokens"]}

    model = fg.cast(fg.Model(None, apply), jnp.float16)
    params = {"w": jnp.ones(2), "table": jnp.arange(3)}
    keys = jax.random.split(jax.random.key(0), 2)
    y = model.apply(
        params, {"share": np.ones(2), "tokens": jnp.arange(2), "keys": keys}
    )
    assert seen["share"].dtype == "float16"
    assert seen["tokens"].dtype == seen["table"].dtype == y["tokens"].dtype == "int32"
    assert seen["keys"] is keys
    assert y["y"].dtype == "float32"


def test_what_comes_out_has_the_dtype_of_the_parameters():
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype("float64"), WHOLE)
        assert LOW.apply(wide, X).dtype == "float64"
    without = fg.cast(fg.Model(None, lambda params, x: x), jnp.bfloat16)
    assert without.apply((), X).dtype == "float32"


def test_only_a_float_type_can_be_computed_in():
    with pytest.raises(ValueError, match="needs a float type to compute in, got int8"):
        fg.cast(NET, "int8")


@pytest.mark.parametrize(
    ("model", "loss", "sentence"),
    [
        (fg.mlp([2, 1]), "mse", "loss must be a function, such as funcgrad.squ"),
        (jnp.ones(3), fg.hinge, "the model's apply must be a function"),
    ],
)
def test_an_objective_is_made_of_functions(model, loss, sentence):
    with pytest.raises(ValueError, match=sentence):
        fg.objective(model, loss)
