"""A run as it is compiled: so many steps a call, for this process or for several.

`watching` calls it chunk by chunk, and looks in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from funcgrad.arguments import has_hash, hashable
from funcgrad.batches import (
    as_arrays,
    batch_shapes,
    shuffle,
    take,
    whole_batch,
    work_of_a_step,
)
from funcgrad.checkpoint import checksum, named_tensors
from funcgrad.data_checks import check_data
from funcgrad.devices import beside, pinned
from funcgrad.fast.options import compiler_options
from funcgrad.hosts import Span, agree, lost_in_words, span_of, together
from funcgrad.model import Objective
from funcgrad.run_identity import identity
from funcgrad.training import State, make_step

# Losses kept on the device between two looks: so many that a look is next to nothing
# beside the steps of the smallest net.
LONGEST_CHUNK = 262_144


class Run:
    """A compiled run: run(state, n <= LONGEST_CHUNK) -> (state, losses).

    span: the processes that share it; None where this one has it alone. Those do as
        many steps as process 0 asks for.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        state: State,
        data: Any,
        batch_size: int | None,
        key: jax.Array | None,
    ):
        self.objective, self.optimizer = hashable(objective), _hashable(optimizer)
        self.data, self.batch_size = as_arrays("data", data), batch_size
        self.span = span_of((state, self.data))
        self.key = beside(state, key)
        batch = batch_shapes(self.data, batch_size, key)
        with nullcontext() if self.span is None else together():
            check_data(self.objective, state.params, self.data, batch)
        self.work = work_of_a_step(state.params, batch)
        device = next(iter(jax.tree.leaves(state)[0].devices()))
        self.chunk = _compiled(
            self.objective, self.optimizer, batch_size, device.platform,
            pinned(state), self.span is not None,
        )  # fmt: skip
        # Reused, as making one takes as long as 5,000 steps of the smallest net; in the
        # widest float that is on, which holds those of any narrower one exactly.
        losses = jnp.zeros(LONGEST_CHUNK, jnp.result_type(float))
        self.losses = beside(state, losses)
        if self.span is not None:
            self._agree(self.span, state)

    def __call__(self, state: State, n: int) -> tuple[State, np.ndarray]:
        if self.span is not None:
            with lost_in_words():
                wishes = self.span.wishes(n)
                (state, self.losses), told = self.chunk(
                    state, self.losses, self.data, self.key, wishes
                )
                n = self.span.heed(np.asarray(told))
                return state, np.asarray(self.losses)[:n].copy()
        state, self.losses = self.chunk(state, self.losses, self.data, self.key, n)
        return state, np.asarray(self.losses)[:n].copy()

    def _agree(self, span: Span, state: State) -> None:
        """Raise on all processes unless they are to do the same run."""
        leaves = jax.tree.leaves(self.data)
        numbers = [device.id for device in span.mesh.devices.flat]
        agree(
            {
                "data": ", ".join(f"{leaf.dtype}{leaf.shape}" for leaf in leaves),
                "mesh": f"{dict(span.mesh.shape)} of devices {numbers}",
            }
        )
        begins = named_tensors(jax.tree.map(_own_part, state))
        agree(
            identity(
                self.objective, self.optimizer, state, self.data, self.batch_size,
                self.key,
            )
            | {"initial state": checksum(begins.items())}
        )  # fmt: skip
        # What that leaves out, such as where the state lies. It is compiled next, and
        # lowered once for both.
        lowered = self.chunk.lower(
            state, self.losses, self.data, self.key, span.wishes(0)
        )
        agree({"lowered step": lowered.as_text()})

    def decided(self, *wishes: bool) -> Iterable[bool]:
        """Return what is to be done of what this process would do by its clock.

        Where several share the run it is what process 0 would.
        """
        return wishes if self.span is None else self.span.decided(wishes)


def _own_part(leaf: jax.Array) -> jax.Array | int:
    """Return a leaf that is the same on all processes; of others there is none."""
    return leaf if leaf.is_fully_replicated else 0


# Each kept for the next run alike, and its memory, a megabyte or two, for no more.
@lru_cache(maxsize=32)
def _compiled(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    platform: str,
    placement: tuple[Any, tuple[Any, ...]] | None,
    is_shared: bool,
) -> Callable[..., Any]:
    """Return `_run_chunk` of these as it is compiled for this platform."""
    chunk = partial(_run_chunk, objective, optimizer, batch_size)
    # A state that left a chunk placed otherwise would have the next one compiled anew.
    out: Any = None if placement is None else jax.tree.unflatten(*placement)
    if is_shared:  # what was wished for lies as the losses do
        out = (out, out[1])
    return jax.jit(
        partial(_run_wished_chunk, chunk) if is_shared else chunk,
        donate_argnums=1,
        compiler_options=compiler_options(platform, is_group=False),
        out_shardings=out,
    )


def _run_wished_chunk(
    chunk: Callable[..., Any],
    state: State,
    losses: jax.Array,
    data: Any,
    key: jax.Array | None,
    wishes: jax.Array,
) -> tuple[tuple[State, jax.Array], jax.Array]:
    """Do the chunk that all processes wish for, as `Span` says, and return it."""
    told = wishes.max(axis=0)
    n = jnp.where(told[1] > 0, 0, told[0])
    return chunk(state, losses, data, key, n), told


def _run_chunk(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    state: State,
    losses: jax.Array,
    data: Any,
    key: jax.Array | None,
    n: jax.Array,
) -> tuple[State, jax.Array]:
    """Do `n` steps, whose losses fill the first `n` entries of `losses`.

    `n` is traced, so that one executable serves all, and a step has the same bits
    wherever a run is cut.
    """
    step = make_step(objective, optimizer)
    first, end = state.step, state.step + n

    def steps_until(
        last: jax.Array,
        carry: tuple[State, jax.Array],
        batch_of: Callable[[jax.Array], Any],
    ) -> tuple[State, jax.Array]:
        def one(
            i: jax.Array, carry: tuple[State, jax.Array]
        ) -> tuple[State, jax.Array]:
            state, losses = carry
            state, loss = step(state, batch_of(i))
            return state, losses.at[i - first].set(loss.astype(losses.dtype))

        return lax.fori_loop(carry[0].step, last, one, carry)

    if batch_size is None:
        return steps_until(end, (state, losses), whole_batch(data, key))

    shuffled = shuffle(data, batch_size, key)
    per_epoch = shuffled.per_epoch

    def epoch(carry: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        this_epoch = carry[0].step // per_epoch
        order = shuffled.order(this_epoch)
        # Counted from the epoch's first step, since the next one's may be no int32.
        begin = this_epoch * per_epoch
        last = begin + jnp.minimum(end - begin, per_epoch)
        return steps_until(last, carry, lambda i: take(data, order[i - begin]))

    return lax.while_loop(lambda carry: carry[0].step < end, epoch, (state, losses))


def _hashable(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Return the optimizer, wrapped as `hashable` does where it has no hash."""
    if has_hash(optimizer):
        return optimizer
    return optax.GradientTransformation(
        partial(optimizer.init), partial(optimizer.update)
    )
