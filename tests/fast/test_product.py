"""A product in its fast form is the product, and so are its derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.fast.product import product


def integers(seed, shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


# Around every edge between the forms: 1,025, 4,096 and 65,536 multiply-adds, 32
# neurons, 3 and 64 rows, 16 columns; terms that fill the turns of a loop or do not.
SHAPES = [
    ((4, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 5, 3), (3, 4)),
    ((0, 3), (3, 4)),
    ((16, 8), (8, 8)),
    ((17, 8), (8, 8)),
    ((100, 2), (2, 16)),
    ((2, 50, 16), (16, 16)),
    ((100, 16), (16, 1)),
    ((13, 27), (27, 31)),
    ((3, 32), (32, 32)),
    ((4, 32), (32, 32)),
    ((64, 32), (32, 32)),
    ((1, 33), (33, 32)),
    ((16, 33), (33, 64)),
    ((65, 33), (33, 32)),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("x_shape", "w_shape"), SHAPES)
def test_product_is_the_matrix_product_and_so_are_its_gradients(x_shape, w_shape):
    x, w = integers(0, x_shape), integers(1, w_shape)
    g = integers(2, (*x_shape[:-1], w_shape[1]))
    y, backward = jax.vjp(jax.jit(product), x, w)
    dx, dw = jax.jit(backward)(g)
    assert np.array_equal(y, x @ w)
    assert np.array_equal(dx, g @ w.T)
    flat = x.reshape(-1, x_shape[-1]), g.reshape(-1, w_shape[1])
    assert np.array_equal(dw, flat[0].T @ flat[1])


# Of each form: a sum, loops with and without a rest, a dot that reads along, a dot.
FORMS = [
    ((4, 3), (3, 4)),
    ((20, 17), (17, 9)),
    ((40, 40), (40, 8)),
    ((100, 40), (40, 3)),
]


def squared(f, x, w):
    """Return a number with derivatives of two orders, whole where x and w are."""
    return (f(x, w) ** 2).sum()


def matmul(x, w):
    return x @ w


@pytest.mark.exhaustive
@pytest.mark.parametrize(("x_shape", "w_shape"), FORMS)
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x, w: jax.jvp(f, (x, w), (x[::-1], w[::-1])),
        lambda f, x, w: jax.jvp(jax.grad(partial(squared, f), 1), (x, w), (x, w)),
        lambda f, x, w: jax.vmap(f)(jnp.stack([x, 2 * x]), jnp.stack([w, w[::-1]])),
        lambda f, x, w: jax.vmap(f, (0, None))(jnp.stack([x, 2 * x]), w),
        lambda f, x, w: jax.vmap(f, (None, -1))(x, jnp.stack([w, w[::-1]], -1)),
        lambda f, x, w: jax.grad(jax.checkpoint(partial(squared, f)))(x, w),
        lambda f, x, w: jax.vmap(jax.grad(partial(squared, f), 1), (0, None))(x, w),
    ],
    ids=["jvp", "hessian", "vmap", "vmap-x", "vmap-w", "remat", "grads-by-row"],
)
@pytest.mark.parametrize("how", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_transformed_it_is_what_the_transformed_matmul_is(
    x_shape, w_shape, transform, how
):
    x, w = jnp.asarray(integers(0, x_shape)), jnp.asarray(integers(1, w_shape))
    got = how(partial(transform, product))(x, w)
    wanted = how(partial(transform, matmul))(x, w)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert np.array_equal(a, b)
        assert np.abs(b).max() > 0


HAS_LOOPS = jax.__version_info__ >= (0, 11)  # before, they are slower than dots


def lowered(f, x_shape, w_shape, platform, dtype=jnp.float32):
    shapes = jax.ShapeDtypeStruct(x_shape, dtype), jax.ShapeDtypeStruct(w_shape, dtype)
    return jax.jit(f).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()


def gradient(x, w):
    return jax.grad(partial(squared, product), (0, 1))(x, w)


@pytest.mark.parametrize(("x_shape", "w_shape"), [((4, 3), (3, 4)), ((99, 9), (9, 9))])
@pytest.mark.parametrize(
    ("platform", "is_dot"), [("cpu", False), ("cuda", True), ("tpu", True)]
)
def test_a_small_product_is_a_dot_except_on_a_cpu(x_shape, w_shape, platform, is_dot):
    """Forward and backward, in the program lowered for one platform."""
    in_loops = platform == "cpu" and x_shape[0] == 99 and HAS_LOOPS
    is_dot = is_dot or (x_shape[0] == 99 and not HAS_LOOPS)
    for f in (product, gradient):
        text = lowered(f, x_shape, w_shape, platform)
        assert ("dot_general" in text) == is_dot
        assert ("while" in text) == in_loops


@pytest.mark.parametrize(
    ("rows", "n_in", "n_out", "dtype"),
    [
        (64, 32, 32, jnp.float32),  # 65,536 multiply-adds
        (64, 33, 64, jnp.float32),  # more than 32 neurons
        (4, 3, 4, jnp.bfloat16),  # products rounded before the sum would lose bits
    ],
)
def test_other_products_are_dots_everywhere(rows, n_in, n_out, dtype):
    assert "dot_general" in lowered(product, (rows, n_in), (n_in, n_out), "cpu", dtype)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_a_middling_dot_reads_an_array_of_its_own_on_a_cpu(platform):
    text = lowered(gradient, (32, 64), (64, 64), platform)
    assert ("optimization_barrier" in text) == (platform == "cpu")


def test_over_a_mesh_it_is_a_dot_that_the_compiler_can_cut():
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        assert "dot_general" in lowered(product, (4, 3), (3, 4), "cpu")


def test_mixed_dtypes_are_promoted_as_by_a_matmul():
    x, w = jnp.ones((4, 3), jnp.float32), jnp.ones((3, 4), jnp.bfloat16)
    assert product(x, w).dtype == (x @ w).dtype
