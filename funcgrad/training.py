"""Training: one step, and a whole run as one pure function.

The heartbeat is micrograd's: forward, backward, update. There is no zeroing, because
`jax.grad` returns a gradient instead of adding to one. The same run with a person
beside it is `fitting.fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from funcgrad.arguments import at_least, check_function
from funcgrad.batches import (
    as_arrays,
    batch_shapes,
    shuffle,
    take,
    whole_batch,
    work_of_a_step,
)
from funcgrad.data_checks import check_weights
from funcgrad.fast import loop
from funcgrad.model import Objective, Params


class State(NamedTuple):
    """What training carries from one step to the next.

    params: the parameters.
    opt_state: the optimizer's own state for them.
    step: number of updates done, int32 of shape ().
    """

    params: Params
    opt_state: Any
    step: jax.Array


Step = Callable[[State, Any], tuple[State, jax.Array]]


def init_state(params: Params, optimizer: optax.GradientTransformation) -> State:
    """Return the state before the first update."""
    check_optimizer(optimizer)
    # An explicit dtype makes Python numbers strongly typed, as later steps return them.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), params)
    _check_floats(params)
    return State(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_step(objective: Objective, optimizer: optax.GradientTransformation) -> Step:
    """Return step(state, batch) -> (state, loss), one update of all parameters.

    `loss` is that of the parameters before the update. The step is pure, and has the
    signature that `jax.lax.scan` takes.

    The cheat sheet's worked example, w = 1 and (w * 2 - 6)^2 at rate 0.1:

    >>> import optax, funcgrad as fg
    >>> step = make_step(lambda w, x: (w * x - 6) ** 2, optax.sgd(0.1))
    >>> state, loss = step(init_state(1.0, optax.sgd(0.1)), 2.0)
    >>> print(f"{loss:.1f} {state.params:.1f}")
    16.0 2.6
    """
    check_objective(objective)
    check_optimizer(optimizer)

    def step(state: State, batch: Any) -> tuple[State, jax.Array]:
        loss, grads = jax.value_and_grad(objective)(state.params, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, opt_state, state.step + 1), loss

    return step


def train(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    *,
    steps: int,
    batch_size: int | None = None,
    key: jax.Array | None = None,
) -> tuple[State, jax.Array]:
    """Do `steps` updates; return the last state and the loss before each, (steps,).

    Pure: jit it, vmap it over keys, rates or parameters, differentiate through it.

    Without `batch_size` every step sees all rows. With it, each epoch puts the rows in
    an order of its own and cuts it into batches; rows that do not fill one sit that
    epoch out. The order depends on `key` and the epoch alone, and the epoch on
    `state.step`. Of `Drawn` data each step draws its own batch, by `key` and
    `state.step`. So a run cut in two and resumed with the same key is the same run.

    >>> import jax, optax, funcgrad as fg
    >>> model, optimizer = fg.mlp([1, 8, 1]), optax.adam(1e-2)
    >>> state = init_state(model.init(jax.random.key(0)), optimizer)
    >>> data = (jnp.ones((4, 1)), jnp.full((4, 1), 0.5))
    >>> objective = fg.objective(model, fg.squared_error)
    >>> state, losses = train(objective, optimizer, state, data, steps=100)
    >>> losses.shape, int(state.step)
    ((100,), 100)
    """
    if not isinstance(state, State):
        raise ValueError(
            f"train goes on from a State, got {type(state).__name__}: "
            f"init_state(params, optimizer) makes the first one"
        )
    check_objective(objective)
    steps = check_steps(steps, state.step)
    data = as_arrays("data", data)
    check_weights(objective, state.params, data, batch_shapes(data, batch_size, key))
    return run_steps(
        make_step(objective, optimizer), state, data, steps, batch_size, key
    )


def run_steps(
    step: Step,
    state: State,
    data: Any,
    steps: int,
    batch_size: int | None,
    key: jax.Array | None,
) -> tuple[State, jax.Array]:
    """Do what `train` does with this step."""
    work = work_of_a_step(state.params, batch_shapes(data, batch_size, key))
    if batch_size is None:
        batch_of = whole_batch(data, key)
        return loop.scan(
            lambda s, _: step(s, batch_of(s.step)), state, None, steps, work
        )

    shuffled = shuffle(data, batch_size, key)
    per_epoch = shuffled.per_epoch

    def block(
        carry: tuple[State, jax.Array], length: int
    ) -> tuple[tuple[State, jax.Array], jax.Array]:
        """Do `length` <= `per_epoch` steps, which may begin within an epoch."""
        state, order = carry
        next_order = shuffled.order(state.step // per_epoch + 1)
        both = jnp.concatenate([order, next_order])
        batches = lax.dynamic_slice_in_dim(both, state.step % per_epoch, length)
        # A gather for each step: putting all rows in order once an epoch is no faster,
        # and vmap would copy the data.
        state, losses = loop.scan(
            lambda s, b: step(s, take(data, b)), state, batches, length, work
        )
        return (state, next_order), losses

    carry = (state, shuffled.order(state.step // per_epoch))
    blocks, rest = divmod(steps, per_epoch)
    losses = []
    if blocks:
        carry, block_losses = lax.scan(
            lambda c, _: block(c, per_epoch), carry, length=blocks
        )
        losses.append(block_losses.reshape(-1))
    if rest or not blocks:
        carry, rest_losses = block(carry, rest)
        losses.append(rest_losses)
    return carry[0], jnp.concatenate(losses)


def check_steps(steps: int, done: Any = 0) -> int:
    """Return `steps` as an int, or say that it is no number of steps to do from here.

    `done` is the state's counter; where it is traced, how many fit is not known.
    """
    steps = at_least(0, "steps", steps)
    if not isinstance(done, jax.core.Tracer):
        most = int(jnp.iinfo(jnp.int32).max) - int(done)
        if steps > most:
            raise ValueError(
                f"steps must be at most {most:,} from step {int(done):,} on, as the "
                f"counter is an int32, got {steps:,}: begin a new count with "
                f"state._replace(step=jnp.zeros((), jnp.int32))"
            )
    return steps


def check_objective(objective: Any) -> None:
    """Raise unless `objective` can be called, as a model cannot."""
    check_function("objective", objective, "funcgrad.objective(model, loss)")


def check_optimizer(optimizer: Any) -> None:
    """Raise unless `optimizer` is a pair of functions, as optax makes them."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        name = getattr(optimizer, "__name__", repr(optimizer))
        raise ValueError(
            f"optimizer must be one of optax, such as optax.sgd(0.1), which has a rate "
            f"already, got {name}"
        )


def _check_floats(params: Params) -> None:
    """Raise unless there is a slope for every parameter."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"params must be floats to be trained, got {leaf.dtype} at params"
                f"{jax.tree_util.keystr(path)}: convert them, for example with "
                f".astype(jnp.float32)"
            )
