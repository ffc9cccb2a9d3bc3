"""The multi-layer perceptron: a neuron, a layer of them, layers in a row."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from funcgrad.fast.product import product
from funcgrad.model import Model

Activation = Callable[[jax.Array], jax.Array]
Initializer = Callable[..., jax.Array]


class Layer(NamedTuple):
    """Weights `w` of shape (in, out) and biases `b` of shape (out,)."""

    w: jax.Array
    b: jax.Array


def linear(x: jax.Array) -> jax.Array:
    """Return x: the activation that does nothing, for logits and for regression."""
    return x


def neuron(
    w: ArrayLike, b: ArrayLike, x: ArrayLike, activation: Activation = jnp.tanh
) -> jax.Array:
    """Return activation(w1 x1 + ... + wn xn + b) for `w` and `x` of shape (n,).

    >>> float(neuron([2.0, -1.0], 0.5, [1.0, 3.0], linear))
    -0.5
    """
    return activation(jnp.dot(jnp.asarray(x), jnp.asarray(w)) + b)


def layer(params: Layer, x: jax.Array, activation: Activation = jnp.tanh) -> jax.Array:
    """Return activation(x @ w + b): `out` neurons on the same `in` inputs.

    `x` has shape (..., in), the result (..., out).
    """
    return activation(product(x, params.w) + params.b)


def mlp(
    sizes: Sequence[int],
    *,
    activation: Activation = jnp.tanh,
    final_activation: Activation | None = None,
    initializer: Initializer | None = None,
) -> Model:
    """Return the MLP with `sizes` = (inputs, hidden, ..., outputs) neurons a layer.

    `final_activation=None` makes the last layer like the others; `linear` is for logits
    and regression. `initializer(key, shape, dtype)` draws each `w`, as those in
    `jax.nn.initializers` do; without it relu gets He's normal scaling (variance
    2 / in) and any other activation Glorot's uniform one (variance 2 / (in + out)).
    `uniform` is micrograd's. Biases start at 0.

    `init(key, dtype=jnp.float32)` returns one `Layer` for each pair of neighbouring
    sizes. `apply(params, x)` takes `x` of shape (..., inputs), computes in the dtype of
    the parameters, and returns (..., outputs). Sources: Glorot and Bengio 2010, He et
    al. 2015.

    >>> model = mlp([3, 4, 4, 1])
    >>> params = model.init(jax.random.key(0))
    >>> [layer.w.shape for layer in params]
    [(3, 4), (4, 4), (4, 1)]
    >>> model.apply(params, jnp.ones((10, 3))).shape
    (10, 1)
    """
    sizes = tuple(sizes)
    if len(sizes) < 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(
            f"mlp needs at least two sizes, inputs and outputs, each a whole number "
            f"above 0, got {sizes}: for example mlp([2, 16, 1])"
        )
    final = activation if final_activation is None else final_activation
    draw = _default_initializer(activation) if initializer is None else initializer

    def init(key: jax.Array, dtype: DTypeLike = jnp.float32) -> tuple[Layer, ...]:
        keys = jax.random.split(key, len(sizes) - 1)
        shapes = list(pairwise(sizes))
        return tuple(
            Layer(w=draw(k, shape, dtype), b=jnp.zeros(shape[1], dtype))
            for k, shape in zip(keys, shapes, strict=True)
        )

    def apply(params: Sequence[Layer], x: ArrayLike) -> jax.Array:
        x = _inputs(x, params[0].w)
        *hidden, last = params
        for p in hidden:
            x = layer(p, x, activation)
        return layer(last, x, final)

    return Model(init, apply)


def uniform(
    key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """Draw from the uniform distribution on [-1, 1), as micrograd's neurons do."""
    return jax.random.uniform(key, shape, dtype, minval=-1.0, maxval=1.0)


def _default_initializer(activation: Activation) -> Initializer:
    if activation is jax.nn.relu:
        return jax.nn.initializers.he_normal()
    return jax.nn.initializers.glorot_uniform()


def _inputs(x: ArrayLike, w: jax.Array) -> jax.Array:
    """Return `x` in the dtype of `w`, checked to have as many columns as `w` rows."""
    x = jnp.asarray(x, w.dtype)
    if x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"the model takes {w.shape[0]} inputs along the last axis, got x of shape "
            f"{x.shape}: reshape or select columns so that it ends in {w.shape[0]}"
        )
    return x
