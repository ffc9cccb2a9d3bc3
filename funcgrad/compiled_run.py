"""A run as it is compiled: so many steps a call.

`watching` calls it chunk by chunk, and looks in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

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
from funcgrad.data_checks import check_data
from funcgrad.devices import Placement, beside, mesh_of, pinned
from funcgrad.fast.options import compiler_options
from funcgrad.history import Progress
from funcgrad.model import Objective
from funcgrad.run_folder import RunFolder, open_run
from funcgrad.run_identity import identity
from funcgrad.training import State, make_step

if TYPE_CHECKING:
    from funcgrad.shared_folder import SharedFolder

# Losses kept on the device between two looks: so many that a look is next to nothing
# beside the steps of the smallest net.
LONGEST_CHUNK = 262_144


class Run:
    """A compiled run: run(state, n <= LONGEST_CHUNK) -> (state, losses).

    What its methods besides do, a run that several processes share does otherwise:
    `shared_run`.
    """

    is_shared = False

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
        mesh = mesh_of(state)
        self.key = beside(mesh, key)
        batch = batch_shapes(self.data, batch_size, key)
        check_data(self.objective, state.params, self.data, batch)
        self.work = work_of_a_step(state.params, batch)
        device = next(iter(jax.tree.leaves(state)[0].devices()))
        self.chunk = self.compiled(device.platform, pinned(mesh, state))
        # Reused, as making one takes as long as 5,000 steps of the smallest net; in the
        # widest float that is on, which holds those of any narrower one exactly.
        losses = jnp.zeros(LONGEST_CHUNK, jnp.result_type(float))
        self.losses = beside(mesh, losses)

    def __call__(self, state: State, n: int) -> tuple[State, np.ndarray]:
        state, self.losses = self.chunk(state, self.losses, self.data, self.key, n)
        return state, np.asarray(self.losses)[:n].copy()

    def compiled(self, platform: str, placement: Placement) -> jax.stages.Wrapped:
        """Return `run_chunk` as it is compiled for this platform."""
        return compiled_chunk(
            self.objective, self.optimizer, self.batch_size, platform, placement
        )

    def identity(self, state: State) -> dict[str, str]:
        """Return what decides the numbers of the run from `state` on."""
        return identity(
            self.objective, self.optimizer, state, self.data, self.batch_size, self.key
        )

    def agree_on_looks(
        self,
        steps: int,
        every: int | None,
        until: float | None,
        validation: Any,
        metrics: Iterable[str],
    ) -> None:
        """Raise unless all that share the run are to look at it alike."""

    def decided(self, *wishes: bool) -> Iterable[bool]:
        """Return what is to be done of what this process would do by its clock."""
        return wishes

    def heeding_signals(self, looks: Generator[Progress]) -> Generator[Progress]:
        """Return the looks, during which a signal may end the run."""
        return looks

    def has_ended_for_all(self) -> bool:
        """Return whether what was raised just now is raised wherever the run is."""
        return True

    def open_folder(
        self, folder: str | os.PathLike[str], what: Mapping[str, str], *, resume: bool
    ) -> AbstractContextManager[RunFolder | SharedFolder]:
        """Give the folder of its checkpoints, as `open_run` does."""
        return open_run(folder, what, resume=resume)


# Each kept for the next run alike, and its memory, a megabyte or two, for no more.
@lru_cache(maxsize=32)
def compiled_chunk(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    platform: str,
    placement: Placement,
    around: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> jax.stages.Wrapped:
    """Return `run_chunk` compiled; `around` changes it, and where its results lie."""
    chunk: Any = partial(run_chunk, objective, optimizer, batch_size)
    # A state that left a chunk placed otherwise would have the next one compiled anew.
    out: Any = None if placement is None else jax.tree.unflatten(*placement)
    if around is not None:
        chunk, out = around(chunk, out)
    return jax.jit(
        chunk,
        donate_argnums=1,
        compiler_options=compiler_options(platform, is_group=False),
        out_shardings=out,
    )


def run_chunk(
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
