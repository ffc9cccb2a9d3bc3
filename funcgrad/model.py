"""A model is a pair of pure functions; an objective is what training lowers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any
"""Any pytree of arrays."""

Objective = Callable[[Params, Any], jax.Array]
"""f(params, batch) -> scalar."""


class Model(NamedTuple):
    """A pair of pure functions; what is learnt lives outside, in `params`.

    init: `init(key) -> params`.
    apply: `apply(params, x) -> y`, for any leading batch axes of `x`.
    """

    init: Callable[..., Params]
    apply: Callable[[Params, jax.Array], jax.Array]


def objective(model: Model, loss: Callable[..., jax.Array]) -> Objective:
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
