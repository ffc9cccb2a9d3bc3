"""A run's folder: checkpoints that are whole or not there, of one run at a time.

    step-000000123.safetensors    the last three, named after the updates done
    best.safetensors              the one that was called the best, if any was
    .lock                         held by the run that writes here

Each holds the leaves of a state, such as `state.params.0.w`, arrays by name, such as
`history.loss`, and in its metadata what the run is, with checksums of all. Nothing here
knows how training works.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad import checkpoint
from funcgrad.errors import InputError
from funcgrad.files import remove_temporaries, sync_folder, writable

# One to go on from, and two should the newest be damaged.
KEPT = 3

_STEP = re.compile(r"step-(\d{9,})\.safetensors")
_BEST, _LOCK = "best.safetensors", ".lock"

# In the metadata: a JSON object, and the SHA-256 of its text.
_HEADER, _CHECKSUM = "funcgrad.run", "sha256"
_FORMAT = 1

_HISTORY = "history."

# Characters of an item of an identity that a sentence shows.
_MOST_SHOWN = 100


class RunFolder(NamedTuple):
    """The folder of the run that is `identity`, as `open_run` gives it.

    path: the folder.
    identity: {item: text} of all that makes the run what it is.
    """

    path: Path
    identity: dict[str, str]

    def write(
        self,
        step: int,
        state: Any,
        history: Mapping[str, Any],
        is_best: bool = False,
    ) -> None:
        """Write a checkpoint after `step` updates; remove all but the last three.

        It is on the disk when this returns. If it cannot be written, a `ValueError`
        names the folder, and the checkpoints before it are as they were. `state` is a
        pytree of arrays, without random keys; `history` arrays by name. With `is_best`
        it also takes the place of the best one, which is never removed.
        """
        step = int(step)
        tensors = checkpoint.named_tensors({"history": dict(history), "state": state})
        header = json.dumps(
            {
                "format": _FORMAT,
                "step": step,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "identity": self.identity,
                "tensors": checkpoint.checksum(sorted(tensors.items())),
            }
        )
        metadata = {_HEADER: header, _CHECKSUM: _sha256(header)}
        # The best one first: a run that is killed in between comes here again.
        names = [_BEST] * is_best + [f"step-{step:09d}.safetensors"]
        with writable(self.path):
            for name in names:
                checkpoint.save(self.path / name, tensors, metadata)
            sync_folder(self.path)
            for path in _checkpoints(self.path)[:-KEPT]:
                path.unlink(missing_ok=True)

    def latest(self, like: Any) -> tuple[Any, dict[str, np.ndarray]] | None:
        """Return (state, history) of the newest checkpoint, None if there is none.

        `like` gives the state's structure, shapes and dtypes, as for `fg.load`, and a
        leaf that differs raises a `ValueError`. So does a file that is damaged or of
        another kind: it says to delete it, to go on from the one before.
        """
        found = _checkpoints(self.path)
        return _read(found[-1], like) if found else None

    def best(self, like: Any) -> tuple[Any, dict[str, np.ndarray]] | None:
        """Return (state, history) of the best checkpoint, None if there is none."""
        path = self.path / _BEST
        return _read(path, like) if path.is_file() else None


@contextmanager
def open_run(
    folder: str | os.PathLike[str], identity: Mapping[str, str], *, resume: bool
) -> Iterator[RunFolder]:
    """Make the folder if need be, and hold it for one run while the context lasts.

    A `ValueError` says why it cannot be: another run holds it, it cannot be written, it
    has checkpoints and `resume` is False, or they are of a run with another `identity`,
    whose first item that differs is named. With `resume` an empty folder is fine too.
    The system lets go of the folder of a process that is killed.
    """
    folder = Path(folder)
    with _held(folder):
        with writable(folder):
            found = _checkpoints(folder)
        if not found and (folder / _BEST).is_file():
            found = [folder / _BEST]
        if found and not resume:
            raise InputError(
                f"must hold no checkpoints where a run begins, got {folder} with "
                f"{found[-1].name}: pass resume=True to go on with that run, or choose "
                f"another folder",
                "folder",
            )
        if found:
            _check_same(found[-1], identity)
        with writable(folder):
            remove_temporaries(folder)
        yield RunFolder(folder, dict(identity))


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, the newest last."""
    found = []
    for path in folder.iterdir():
        match = _STEP.fullmatch(path.name)
        if match and path.is_file():
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder, and hold its lock until this ends, or the process in any way."""
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(lock, folder)
        yield
    finally:
        os.close(lock)


def _lock(file: int, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InputError(
            f"must be that of one run at a time, got {folder}, into which another one "
            f"is writing: wait until it ends, or choose another folder",
            "folder",
        ) from error
    except OSError as error:
        raise InputError(
            f"must be on a disk where files can be locked, got {folder} "
            f"({error.strerror}): choose another folder",
            "folder",
        ) from error


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what is wrong with a checkpoint into a sentence that says how to go on."""
    try:
        yield
    except (ValueError, RecursionError) as error:
        if path.name == _BEST:
            after = "go on without it"
        elif len(_checkpoints(path.parent)) > 1:
            after = "go on from the one before"
        else:
            after = "begin anew"
        raise InputError(
            f"{path} is no whole checkpoint of this run ({error}): delete it to {after}"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path} must be a checkpoint that can be read, got "
            f"{error.strerror or error}: ask for the right to read it, or delete it"
        ) from error


def _header(path: Path) -> dict[str, Any]:
    """Return what the metadata says, if it is what was written."""
    metadata = checkpoint.load_metadata(path)
    text = metadata.get(_HEADER)
    if text is None:
        raise ValueError("no run of funcgrad wrote it")
    if metadata.get(_CHECKSUM) != _sha256(text):
        raise ValueError("its header was changed")
    header = json.loads(text)
    if not isinstance(header, dict) or not isinstance(header.get("identity"), dict):
        raise ValueError("its header has another form")
    return header


def _read(path: Path, like: Any) -> tuple[Any, dict[str, np.ndarray]]:
    with _whole(path):
        header = _header(path)
        tensors = checkpoint.read_tensors(path)
        if checkpoint.checksum(sorted(tensors.items())) != header.get("tensors"):
            raise ValueError("its numbers were changed")
    names = sorted(name for name in tensors if name.startswith(_HISTORY))
    history = {name.removeprefix(_HISTORY): tensors.pop(name) for name in names}
    return checkpoint.restored(path, tensors, {"state": like})["state"], history


def _check_same(path: Path, identity: Mapping[str, str]) -> None:
    """Raise where the run in `path` differs, with the first item that does."""
    with _whole(path):
        header = _header(path)
    begun = {"format": str(header.get("format")), **header["identity"]}
    now = {"format": str(_FORMAT), **identity}
    for name in {**now, **begun}:
        if begun.get(name) != now.get(name):
            was, this = _where_they_part(str(begun.get(name)), str(now.get(name)))
            raise InputError(
                f"must be that of the same run to go on, got {path.parent}, whose "
                f"{name} is {was}, where this run's is {this}: go on with what it was "
                f"begun with, or choose another folder",
                "folder",
            )


def _where_they_part(a: str, b: str) -> list[str]:
    """Return both, the long ones cut to the part where they begin to differ."""
    if max(len(a), len(b)) <= _MOST_SHOWN:
        return [a, b]
    differ = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    begin = max(next(differ, min(len(a), len(b))) - _MOST_SHOWN // 2, 0)
    end = begin + _MOST_SHOWN
    return [
        f"{'...' * (begin > 0)}{text[begin:end]}{'...' * (end < len(text))}"
        for text in (a, b)
    ]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
