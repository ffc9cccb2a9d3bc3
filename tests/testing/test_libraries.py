"""No false alarm on other people's losses, layers and networks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from funcgrad.testing import check_gradients

TYPES = pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.exhaustive)]
)


def draw(*shape, dtype, seed=0):
    # By NumPy: JAX would compile a program for each shape and type.
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), dtype)


def check(f, *args, argnums=0):
    report = check_gradients(f, *args, argnums=argnums)
    assert report.ok, str(report)


def losses(dtype):
    """Return every differentiable loss of optax as (function, arguments)."""
    logits, other = draw(3, 4, dtype=dtype), draw(3, 4, dtype=dtype, seed=1)
    labels = jnp.array([0, 3, 1])
    soft = jax.nn.softmax(other)
    signs = jnp.where(other > 0, 1, -1).astype(dtype)
    binary = (other > 0).astype(dtype)
    spread = jax.nn.log_softmax(other)
    return {
        "squared_error": (logits, other),
        "l2_loss": (logits, other),
        "huber_loss": (logits, other),
        "log_cosh": (logits, other),
        "cosine_similarity": (logits, other),
        "cosine_distance": (logits, other),
        "hinge_loss": (logits, signs),
        "perceptron_loss": (logits, signs),
        "multiclass_hinge_loss": (logits, labels),
        "multiclass_perceptron_loss": (logits, labels),
        "sigmoid_binary_cross_entropy": (logits, binary),
        "sigmoid_focal_loss": (logits, binary),
        "softmax_cross_entropy": (logits, soft),
        "softmax_cross_entropy_with_integer_labels": (logits, labels),
        "safe_softmax_cross_entropy": (logits, soft),
        "poly_loss_cross_entropy": (logits, soft),
        "kl_divergence": (spread, soft),
        "kl_divergence_with_log_targets": (spread, spread[::-1]),
        "generalized_kl_divergence": (spread, soft),
        "multiclass_sparsemax_loss": (logits, labels),
        "sparsemax_loss": (logits, binary),
        "squared_error_of_sums": (logits, other),
        "ranking_softmax_loss": (logits, soft),
        "make_fenchel_young_loss": (logits, soft),
        "ntxent": (logits, jnp.array([0, 0, 1])),
        "triplet_margin_loss": (logits, other),
        "ctc_loss": (logits, labels),
    }


@TYPES
@pytest.mark.parametrize("name", losses("float32"))
def test_optax_loss(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        args = losses(dtype)[name]
        if name == "make_fenchel_young_loss":
            check(optax.losses.make_fenchel_young_loss(jax.nn.logsumexp), *args)
        elif name == "squared_error_of_sums":
            check(lambda a, b: optax.squared_error(a.sum(), b.sum()), *args)
        elif name == "triplet_margin_loss":
            x, y = args
            check(lambda a: optax.losses.triplet_margin_loss(a, y, y[::-1]), x)
        elif name == "ctc_loss":
            logits = draw(1, 4, 3, dtype=dtype)
            labels, pad = jnp.array([[1, 2]]), jnp.zeros((1, 4)).astype(dtype)
            check(lambda a: optax.ctc_loss(a, pad, labels, pad[:, :2]), logits)
        elif name == "ranking_softmax_loss":
            check(optax.losses.ranking_softmax_loss, *args)
        else:
            check(getattr(optax.losses, name), *args)


@TYPES
def test_equinox_mlp(dtype):
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    with jax.enable_x64(dtype == "float64"):
        net = eqx.nn.MLP(3, 2, 5, 2, key=jax.random.key(0), dtype=jnp.dtype(dtype))
        params, rest = eqx.partition(net, eqx.is_inexact_array)
        x = draw(4, 3, dtype=dtype)
        check(lambda p: jax.vmap(eqx.combine(p, rest))(x), params)


@pytest.mark.exhaustive
@TYPES
def test_flax_mlp(dtype):
    nn = pytest.importorskip("flax.linen", reason="Flax is not installed")

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(5, param_dtype=dtype)(x))
            return nn.Dense(2, param_dtype=dtype)(nn.LayerNorm(param_dtype=dtype)(x))

    with jax.enable_x64(dtype == "float64"):
        x = draw(4, 3, dtype=dtype)
        params = MLP().init(jax.random.key(0), x)
        check(lambda p: MLP().apply(p, x), params)


@TYPES
def test_lstm_cell(dtype):
    def lstm(params, xs):
        def cell(state, x):
            h, c = state
            gates = x @ params["x"] + h @ params["h"] + params["b"]
            i, f, g, o = jnp.split(gates, 4)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros(3, xs.dtype)
        return jax.lax.scan(cell, (zero, zero), xs)[0][0]

    with jax.enable_x64(dtype == "float64"):
        params = {
            "x": draw(2, 12, dtype=dtype),
            "h": draw(3, 12, dtype=dtype, seed=1),
            "b": draw(12, dtype=dtype, seed=2),
        }
        check(lstm, params, draw(4, 2, dtype=dtype, seed=3))


def layer_norm(x, gain):
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def attention(p, x, heads=2):
    rows, width = x.shape
    q, k, v = jnp.split((x @ p["qkv"]).reshape(rows, heads, -1), 3, -1)
    scores = jnp.einsum("ihd,jhd->hij", q, k) / np.sqrt(width // heads)
    scores = jnp.where(jnp.tril(jnp.ones((rows, rows), bool)), scores, -jnp.inf)
    out = jnp.einsum("hij,jhd->ihd", jax.nn.softmax(scores), v)
    return out.reshape(rows, width) @ p["out"]


def block(p, x):
    x = x + attention(p, layer_norm(x, p["gain1"]))
    return x + jax.nn.gelu(layer_norm(x, p["gain2"]) @ p["up"]) @ p["down"]


def block_params(width, dtype):
    shapes = {
        "qkv": (width, 3 * width),
        "out": (width, width),
        "up": (width, 2 * width),
        "down": (2 * width, width),
        "gain1": (width,),
        "gain2": (width,),
    }
    return {
        name: draw(*shape, dtype=dtype, seed=i) / np.asarray(shape[0] ** 0.5, dtype)
        for i, (name, shape) in enumerate(shapes.items())
    }


@TYPES
def test_layer_norm_and_attention(dtype):
    with jax.enable_x64(dtype == "float64"):
        x, p = draw(3, 4, dtype=dtype), block_params(4, dtype)
        check(layer_norm, x, p["gain1"], argnums=(0, 1))
        check(attention, p, x, argnums=(0, 1))


@pytest.mark.exhaustive
@TYPES
def test_small_transformer(dtype):
    tokens = jnp.array([3, 1, 4, 1, 5])
    with jax.enable_x64(dtype == "float64"):
        params = {
            "embed": draw(6, 4, dtype=dtype),
            "blocks": [block_params(4, dtype), block_params(4, dtype)],
        }

        def loss(p):
            x = p["embed"][tokens[:-1]]
            for q in p["blocks"]:
                x = block(q, x)
            logits = x @ p["embed"].T
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, tokens[1:]
            ).mean()

        check(loss, params)
