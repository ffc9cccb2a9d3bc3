"""A product in its fast form is the product, and its gradients are too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.fast.product import product


def integers(seed, shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


# Around every edge between the forms: 4,096 multiply-adds, 1,024 weights.
SHAPES = [
    ((4, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 5, 3), (3, 4)),
    ((0, 3), (3, 4)),
    ((15, 16), (16, 16)),
    ((16, 16), (16, 16)),
    ((1, 32), (32, 32)),
    ((1, 33), (33, 32)),
]


@pytest.mark.parametrize(("x_shape", "w_shape"), SHAPES)
def test_product_is_the_matrix_product_and_so_are_its_gradients(x_shape, w_shape):
    x, w = integers(0, x_shape), integers(1, w_shape)
    g = integers(2, (*x_shape[:-1], w_shape[1]))
    y, backward = jax.vjp(jax.jit(product), x, w)
    dx, dw = backward(g)
    assert np.array_equal(y, x @ w)
    assert np.array_equal(dx, g @ w.T)
    flat = x.reshape(-1, x_shape[-1]), g.reshape(-1, w_shape[1])
    assert np.array_equal(dw, flat[0].T @ flat[1])


@pytest.mark.parametrize(
    ("platform", "is_dot"), [("cpu", False), ("cuda", True), ("tpu", True)]
)
def test_a_small_product_is_a_dot_except_on_a_cpu(platform, is_dot):
    """Forward and backward, in the program lowered for one platform."""
    for f in (product, jax.grad(lambda *a: product(*a).sum())):
        lowered = jax.jit(f).trace(jnp.ones((4, 3)), jnp.ones((3, 4)))
        text = lowered.lower(lowering_platforms=(platform,)).as_text()
        assert ("dot_general" in text) == is_dot


@pytest.mark.parametrize(
    ("rows", "n_in", "n_out", "dtype"),
    [
        (16, 16, 16, jnp.float32),  # 4,096 multiply-adds
        (1, 64, 64, jnp.float32),  # few rows on many weights
        (4, 3, 4, jnp.bfloat16),  # products rounded before the sum would lose bits
    ],
)
def test_other_products_are_dots_everywhere(rows, n_in, n_out, dtype):
    shapes = jnp.ones((rows, n_in), dtype), jnp.ones((n_in, n_out), dtype)
    text = jax.jit(product).lower(*shapes).as_text()
    assert "dot_general" in text
