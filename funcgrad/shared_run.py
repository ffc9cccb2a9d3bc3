"""A compiled run that several processes share: all do as many steps of the same one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcgrad.checkpoint import checksum, named_tensors
from funcgrad.compiled_run import Run, compiled_chunk
from funcgrad.devices import Placement, in_words
from funcgrad.history import Progress
from funcgrad.hosts import agree, lost_in_words, span_of, together
from funcgrad.model import Objective
from funcgrad.run_identity import numbers_digest, structure_of
from funcgrad.shared_folder import SharedFolder, open_shared
from funcgrad.training import State


class SharedRun(Run):
    """A run of which each process holds some rows, or some of the state.

    All do as many steps as process 0 asks for.
    """

    is_shared = True

    def __init__(
        self,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        state: State,
        data: Any,
        batch_size: int | None,
        key: jax.Array | None,
    ):
        self.span = span_of((state, data))
        with together():
            super().__init__(objective, optimizer, state, data, batch_size, key)
        self._agree(state)

    def __call__(self, state: State, n: int) -> tuple[State, np.ndarray]:
        with lost_in_words():
            wishes = self.span.wishes(n)
            (state, self.losses), told = self.chunk(
                state, self.losses, self.data, self.key, wishes
            )
            n = self.span.heed(np.asarray(told))
            return state, np.asarray(self.losses)[:n].copy()

    def compiled(self, platform: str, placement: Placement) -> jax.stages.Wrapped:
        """Return the chunk that all wish for, as it is compiled for this platform."""
        return compiled_chunk(
            self.objective, self.optimizer, self.batch_size, platform, placement,
            _as_all_wish,
        )  # fmt: skip

    def agree_on_looks(
        self,
        steps: int,
        every: int | None,
        until: float | None,
        validation: Any,
        metrics: Iterable[str],
    ) -> None:
        """Raise on all processes unless they are to look at the run alike."""
        agree(
            {
                "steps": str(steps),
                "every": str(every),
                "until": str(until),
                "metrics": ", ".join(metrics),
                "validation": structure_of(validation),
            }
        )
        agree({"validation": numbers_digest(validation)})

    def decided(self, *wishes: bool) -> Iterable[bool]:
        """Return what process 0 would do by its clock."""
        return self.span.decided(wishes)

    def heeding_signals(self, looks: Generator[Progress]) -> Generator[Progress]:
        """Return the looks; a signal to one process ends the run on all of them."""
        return self.span.heeding_signals(looks)

    def has_ended_for_all(self) -> bool:
        """Return whether all know that it has, and not this process alone."""
        return self.span.has_ended

    def open_folder(
        self, folder: str | os.PathLike[str], what: Mapping[str, str], *, resume: bool
    ) -> AbstractContextManager[SharedFolder]:
        """Give the folder, which process 0 alone touches."""
        return open_shared(folder, what, resume=resume)

    def _agree(self, state: State) -> None:
        """Raise on all processes unless they are to do the same run."""
        leaves = jax.tree.leaves(self.data)
        agree(
            {
                "data": ", ".join(f"{leaf.dtype}{leaf.shape}" for leaf in leaves),
                "mesh": in_words(self.span.mesh),
            }
        )
        begins = named_tensors(jax.tree.map(_own_part, state))
        agree(self.identity(state) | {"initial state": checksum(begins.items())})
        # What these leave out, such as where the state lies. It is compiled next, from
        # what was lowered here.
        lowered = self.chunk.lower(
            state, self.losses, self.data, self.key, self.span.wishes(0)
        )
        agree({"lowered step": lowered.as_text()})


def _own_part(leaf: jax.Array) -> jax.Array | int:
    """Return a leaf that is the same on all processes; of others there is none."""
    return leaf if leaf.is_fully_replicated else 0


def _as_all_wish(chunk: Any, out: Any) -> tuple[Any, Any]:
    """Return the chunk that all wish for; what was wished for lies as losses do."""
    assert out is not None, "several processes share a mesh"
    return partial(_run_wished_chunk, chunk), (out, out[1])


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
