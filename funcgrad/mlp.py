"""The multi-layer perceptron: a neuron, a layer of them, layers in a row."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from funcgrad.arguments import (
    Array,
    check_function,
    check_key,
    check_parameter,
    whole_number,
)
from funcgrad.fast.kept import kept
from funcgrad.fast.product import product
from funcgrad.model import Model

Activation = Callable[[jax.Array], jax.Array]
Initializer = Callable[..., jax.Array]


class Layer(NamedTuple):
    """Weights `w` of shape (in, out) and biases `b` of shape (out,)."""

    w: Array
    b: Array


def linear(x: jax.Array) -> jax.Array:
    """Return x: the activation that does nothing, for logits and for regression."""
    return x


def neuron(
    w: ArrayLike | Sequence[float],
    b: ArrayLike,
    x: ArrayLike | Sequence[float],
    activation: Activation = jnp.tanh,
) -> jax.Array:
    """Return activation(w1 x1 + ... + wn xn + b) for `w` and `x` of shape (n,).

    >>> float(neuron([2.0, -1.0], 0.5, [1.0, 3.0], linear))
    -0.5
    """
    return activation(jnp.dot(jnp.asarray(x), jnp.asarray(w)) + b)


def layer(params: Layer, x: ArrayLike, activation: Activation = jnp.tanh) -> jax.Array:
    """Return activation(x @ w + b): `out` neurons on the same `in` inputs.

    `x` has shape (..., in), the result (..., out).
    """
    return activation(kept(product(jnp.asarray(x), params.w) + params.b))


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
    shapes = _shapes(sizes)
    _check_functions(activation, final_activation, initializer)
    final = activation if final_activation is None else final_activation
    draw = _default_initializer(activation) if initializer is None else initializer

    def init(key: jax.Array, dtype: DTypeLike = jnp.float32) -> tuple[Layer, ...]:
        check_key("init", key)
        keys = jax.random.split(key, len(shapes))
        return tuple(
            Layer(w=draw(k, shape, dtype), b=jnp.zeros(shape[1], dtype))
            for k, shape in zip(keys, shapes, strict=True)
        )

    def apply(params: Sequence[Layer], x: ArrayLike) -> jax.Array:
        x = _inputs(shapes, params, x)
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


def _shapes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the shape of each layer's `w`, or say what is wrong with the sizes."""
    numbers = [whole_number(n) for n in sizes] if hasattr(sizes, "__iter__") else []
    whole = [n for n in numbers if n is not None and n > 0]
    if len(whole) < 2 or len(whole) != len(numbers):
        raise ValueError(
            f"mlp needs at least two sizes, inputs and outputs, each a whole number "
            f"above 0, got {sizes}: for example mlp([2, 16, 1])"
        )
    return list(pairwise(whole))


def _check_functions(
    activation: Activation, final: Activation | None, initializer: Initializer | None
) -> None:
    check_function("activation", activation, "jax.nn.relu")
    if final is not None:
        check_function("final_activation", final, "funcgrad.linear")
    if initializer is not None:
        check_function("initializer", initializer, "jax.nn.initializers.he_normal()")


def _inputs(
    shapes: Sequence[tuple[int, int]], params: Sequence[Layer], x: ArrayLike
) -> jax.Array:
    """Return `x` in the dtype of the parameters, or say which of the two is wrong."""
    _check_params(shapes, params)
    inputs, _ = shapes[0]
    x = jnp.asarray(x, params[0].w.dtype)
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise ValueError(
            f"the model takes {inputs} inputs along the last axis, got x of shape "
            f"{x.shape}: reshape or select columns so that it ends in {inputs}"
        )
    return x


def _check_params(shapes: Sequence[tuple[int, int]], params: Any) -> None:
    """Raise unless `params` are the parameters of the net with weights of `shapes`."""
    is_row = isinstance(params, (tuple, list))
    if not is_row or not all(hasattr(p, "w") and hasattr(p, "b") for p in params):
        given = getattr(params, "shape", None)
        raise ValueError(
            f"apply(params, x) needs the parameters first, a tuple of Layer(w, b), got "
            f"{type(params).__name__}{'' if given is None else f' of shape {given}'}: "
            f"model.init(key) makes them"
        )
    if len(params) != len(shapes):
        raise ValueError(
            f"the model has {len(shapes)} layers, got parameters of {len(params)}: "
            f"pass those that its own init made"
        )
    for i, (p, (n_in, n_out)) in enumerate(zip(params, shapes, strict=True)):
        check_parameter(f"[{i}].w", p.w, (n_in, n_out), jnp.inexact)
        check_parameter(f"[{i}].b", p.b, (n_out,), jnp.inexact)
