"""A model is a pair of pure functions; an objective is what training lowers."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from funcgrad.arguments import check_function

Params = Any
"""Any pytree of arrays."""

Objective = Callable[[Params, Any], jax.Array]
"""f(params, batch) -> scalar."""


class Model(NamedTuple):
    """A pair of pure functions; what is learnt lives outside, in `params`.

    init: `init(key) -> params`.
    apply: `apply(params, x) -> y`, for any leading batch axes of `x`. What `x` may be
        is the function's own to say; `mlp`'s takes arrays of JAX and of NumPy.
    """

    init: Callable[..., Params]
    apply: Callable[[Params, Any], jax.Array]


class AnyModel(Protocol):
    """Whatever has the two functions of a `Model`, such as a `Gpt` with more."""

    @property
    def init(self) -> Callable[..., Params]:
        """`init(key) -> params`."""

    @property
    def apply(self) -> Callable[[Params, Any], jax.Array]:
        """`apply(params, x) -> y`."""


def objective(model: AnyModel, loss: Callable[..., jax.Array]) -> Objective:
    """Return f(params, (x, target)) = loss(model.apply(params, x), target).

    With weights, f(params, (x, target, weights)) is the loss with them as its third
    argument. `f` is what `jax.grad`, `make_step`, `train` and `fit` take. Write your
    own function of (params, batch) where a loss needs more, such as a penalty on the
    parameters:

    >>> import jax, funcgrad as fg
    >>> model = fg.mlp([2, 16, 1])
    >>> data_loss = fg.objective(model, fg.squared_error)
    >>> def penalised(params, batch):
    ...     return data_loss(params, batch) + 1e-4 * fg.l2(params)
    """
    check_function("the model's apply", getattr(model, "apply", model), "those of mlp")
    check_function("loss", loss, "funcgrad.squared_error")

    def f(params: Params, batch: Any) -> jax.Array:
        is_row = isinstance(batch, (tuple, list))
        if not is_row or len(batch) not in (2, 3):
            raise ValueError(
                f"objective(model, loss) needs a batch (x, target) or (x, target, "
                f"weights), got {type(batch).__name__}"
                f"{f' of {len(batch)}' if is_row else ''}: for any other batch write a "
                f"function of (params, batch)"
            )
        x, target, *weights = batch
        return loss(model.apply(params, x), target, *weights)

    return f


def cast(model: AnyModel, dtype: DTypeLike) -> Model:
    """Return the model that computes in `dtype`, with parameters as they were.

    `apply(params, x)` casts floats of the parameters and of `x` to `dtype`, and what it
    returns back to the dtype of the parameters: losses are taken in float32, gradients
    arrive in float32, and float32 is what the optimizer adds them to. bfloat16 reaches
    as far as float32, so that no loss needs to be scaled. Source: Micikevicius et al.
    2018, mixed precision training.

    >>> import jax.numpy as jnp, funcgrad as fg
    >>> model = cast(fg.mlp([2, 16, 1]), jnp.bfloat16)
    >>> params = model.init(jax.random.key(0))
    >>> params[0].w.dtype, model.apply(params, jnp.ones((4, 2))).dtype
    (dtype('float32'), dtype('float32'))
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"cast needs a float type to compute in, got {dtype}: for example "
            f"jnp.bfloat16"
        )

    def apply(params: Params, x: Any) -> Any:
        kept = jnp.result_type(float, *filter(_is_float, jax.tree.leaves(params)))
        y = model.apply(_floats_as(dtype, params), _floats_as(dtype, x))
        return _floats_as(kept, y)

    return Model(model.init, apply)


def _floats_as(dtype: DTypeLike, tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype) if _is_float(leaf) else leaf, tree
    )


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
