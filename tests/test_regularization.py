"""Which parameters decay, and entries that are dropped: exact where rates are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg

KEY = jax.random.key(0)
X = jnp.arange(1.0, 1001.0).reshape(10, 100)


def test_matrices_decay_and_biases_do_not():
    params = {
        "table": np.ones((3, 2)),
        "heads": jnp.ones((2, 2, 2)),
        "gain": jnp.ones(3),
        "layer": fg.Layer(jnp.ones((2, 3)), jnp.ones(3)),
        "scale": 1.0,
    }
    assert fg.decay_mask(params) == {
        "table": True,
        "heads": True,
        "gain": False,
        "layer": fg.Layer(True, False),
        "scale": False,
    }


def test_optax_takes_the_mask():
    params = jax.tree.map(lambda leaf: leaf + 1, fg.mlp([2, 3, 1]).init(KEY))
    optimizer = optax.adamw(0.5, weight_decay=0.5, mask=fg.decay_mask)
    slopes = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(slopes, optimizer.init(params), params)
    for layer, update in zip(params, updates, strict=True):
        assert jnp.array_equal(update.w, -0.25 * layer.w)
        assert not update.b.any()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_a_rate_of_0_drops_nothing(dtype, wrap):
    x = jnp.concatenate([X, -X, 0 * X, 0.1 * X]).astype(dtype)
    out = wrap(fg.dropout)(KEY, x, 0.0)
    assert out.dtype == dtype and np.array_equal(out, x)
    assert np.array_equal(fg.dropout(KEY, x, 0), x)


def test_an_entry_is_dropped_or_scaled():
    out = fg.dropout(KEY, X, 0.75)
    kept = out != 0
    assert jnp.array_equal(out, jnp.where(kept, 4 * X, 0))
    # 250 kept on average; 5 standard deviations are 68, passed once in 1.7 million.
    assert abs(kept.sum() - 250) < 68
    slope = jax.grad(lambda x: fg.dropout(KEY, x, 0.75).sum())(X)
    assert jnp.array_equal(slope, 4.0 * kept)
    assert jnp.array_equal(jax.jit(fg.dropout)(KEY, X, 0.75), out)
    assert not jnp.array_equal(fg.dropout(jax.random.key(1), X, 0.75), out)


def test_a_narrow_float_is_dropped_as_seldom_as_asked():
    """0.001 from 1 is no bfloat16; 100 of 100,000 on average, 50 are 5 deviations."""
    out = fg.dropout(KEY, jnp.ones(100_000, jnp.bfloat16), 0.001)
    assert abs((out == 0).sum() - 100) < 50


def test_keys_and_rates_can_be_mapped():
    keys, rates = jax.random.split(KEY, 2), jnp.array([0.0, 0.5])
    out = jax.vmap(lambda key, rate: fg.dropout(key, X, rate))(keys, rates)
    assert jnp.array_equal(out[0], X)
    assert jnp.array_equal(out[1], fg.dropout(keys[1], X, 0.5))


@pytest.mark.parametrize("rate", [1, 1.5, -0.5, float("nan")])
def test_rates_that_are_refused(rate):
    with pytest.raises(ValueError, match=f"a rate from 0 to below 1, got {rate}: it"):
        fg.dropout(KEY, X, rate)


def test_other_bad_input():
    with pytest.raises(ValueError, match="dropout needs one random key, got 0"):
        fg.dropout(0, X, 0.5)
    with pytest.raises(ValueError, match="dropout needs floats, got int32"):
        fg.dropout(KEY, jnp.arange(3), 0.5)
