"""A run that several processes watch: all do as many steps, and end together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from funcgrad.errors import InputError
from funcgrad.hosts.agreement import is_first
from funcgrad.hosts.ending import RESUME, lost_in_words

Item = TypeVar("Item")


class Preempted(SystemExit):
    """Raised on all processes of a run after one of them was sent SIGTERM.

    It ends a program with the exit code 75. `.fit` has what was reached, which is in
    the run's folder too, if it has one.
    """

    def __init__(self) -> None:
        super().__init__(RESUME)


@dataclass
class Span:
    """The processes that a run lies on, and what this one has been asked.

    A chunk of steps carries what each process wishes, int32 of (devices, 2): the steps
    to do, which process 0 alone knows, and the number of a signal that has come. All
    get the maximum back, and a signal makes it a chunk of no steps.

    has_ended: whether all know that the run is over.
    """

    mesh: Mesh
    signal: int = 0
    has_ended: bool = False

    def wishes(self, n: int) -> jax.Array:
        """Return those of all processes, as an array that lies on all."""
        return _over_devices(self.mesh, [n if is_first() else 0, self.signal])

    def heed(self, told: np.ndarray) -> int:
        """Return how many steps were done; raise on all where one has got a signal."""
        steps, came = map(int, told)
        if came:
            self.has_ended = True
            raise KeyboardInterrupt if came == signal.SIGINT else Preempted
        return steps

    def decided(self, wishes: Iterable[bool]) -> list[bool]:
        """Return those of process 0, on all."""
        mine = [is_first() and wish for wish in wishes]
        with lost_in_words():
            told = np.asarray(_maximum(self.mesh)(_over_devices(self.mesh, mine)))
        return [bool(wish) for wish in told]

    def heeding_signals(self, looks: Generator[Item]) -> Generator[Item]:
        """Yield the looks, and meanwhile let SIGTERM and Ctrl-C be wishes."""

        def note(number: int, frame: Any) -> None:
            if self.signal:  # once more, as the others do not come
                raise KeyboardInterrupt
            self.signal = number

        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, note)
        try:
            yield from looks
        finally:
            looks.close()
            for number, usual in before.items():
                signal.signal(number, usual)


def span_of(tree: Any) -> Span:
    """Return the span of arrays of which some lie on several processes."""
    far = [
        leaf.sharding
        for leaf in jax.tree.leaves(tree)
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    ]
    mesh = getattr(far[0], "mesh", None)
    if isinstance(mesh, Mesh):
        return Span(mesh)
    raise InputError(
        f"arrays on several processes must lie on a mesh, got {type(far[0]).__name__}: "
        f"place them by a NamedSharding"
    )


def _over_devices(mesh: Mesh, values: list[Any]) -> jax.Array:
    """Return int32 of (devices, values): those of each process on its own devices."""
    local = np.tile(np.array(values, np.int32), (mesh.local_mesh.size, 1))
    spec = PartitionSpec(mesh.axis_names)
    return jax.make_array_from_process_local_data(
        NamedSharding(mesh, spec), local, (mesh.size, len(values))
    )


@lru_cache(maxsize=8)
def _maximum(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(
        lambda wishes: wishes.max(axis=0),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
