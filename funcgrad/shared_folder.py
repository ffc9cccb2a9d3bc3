"""The folder of a run that several processes share: process 0 alone touches the disk.

What it reads goes to all, so that they need no disk in common, and a checkpoint is
whole, whatever devices its arrays lie on: any number of processes can go on from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad import checkpoint
from funcgrad.hosts import first_does, from_first, gathered
from funcgrad.run_folder import RunFolder, open_run

Found = tuple[Any, dict[str, np.ndarray]]

_HISTORY = "history."


class SharedFolder(NamedTuple):
    """Do what a `RunFolder` does, each of which all processes must ask for.

    path: the folder, on the disk of process 0.
    own: the folder where this is process 0; None elsewhere.
    """

    path: Path
    own: RunFolder | None

    def write(
        self, step: int, state: Any, history: Mapping[str, Any], is_best: bool = False
    ) -> None:
        """Write a checkpoint of the gathered state; return when it is on the disk."""
        state = gathered(state)
        first_does(
            f"the checkpoint after step {step}",
            lambda: self._mine.write(step, state, history, is_best),
        )

    def latest(self, like: Any) -> Found | None:
        """Return (state, history) of the newest checkpoint, placed as `like` is."""
        return self._read(lambda shapes: self._mine.latest(shapes), like)

    def best(self, like: Any) -> Found | None:
        """Return (state, history) of the best checkpoint, placed as `like` is."""
        return self._read(lambda shapes: self._mine.best(shapes), like)

    @property
    def _mine(self) -> RunFolder:
        assert self.own is not None, "process 0 alone has the folder"
        return self.own

    def _read(self, read: Callable[[Any], Found | None], like: Any) -> Found | None:
        shapes = jax.eval_shape(lambda t: t, like)
        found = first_does("a checkpoint that is read", lambda: read(shapes))
        content = b""
        if found is not None:
            state, history = found
            content = checkpoint.content_of(
                checkpoint.named_tensors({"history": history, "state": state})
            )
        content = from_first(content)
        if not content:
            return None
        tensors = checkpoint.tensors_of(content, self.path)
        names = [name for name in tensors if name.startswith(_HISTORY)]
        history = {name.removeprefix(_HISTORY): tensors.pop(name) for name in names}
        state = checkpoint.restored(self.path, tensors, {"state": like})["state"]
        return state, history


@contextmanager
def open_shared(
    folder: str | os.PathLike[str], identity: Mapping[str, str], *, resume: bool
) -> Iterator[SharedFolder]:
    """Do what `open_run` does on process 0, and say on all what it says."""
    with ExitStack() as held:
        own = first_does(
            "the folder of the run",
            lambda: held.enter_context(open_run(folder, identity, resume=resume)),
        )
        yield SharedFolder(Path(folder), own)
