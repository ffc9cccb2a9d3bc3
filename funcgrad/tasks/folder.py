"""The folder of a run: model, history and pictures, all of one run or none."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad import plots
from funcgrad.errors import InputError
from funcgrad.files import writable
from funcgrad.tasks.sweeping import Swept
from funcgrad.tasks.text import TrainedText
from funcgrad.tasks.training import CHECKPOINTS, Trained

# Every file that a run may write, so that a new run leaves none of an old one's.
FILES = (
    "model.safetensors",
    "history.csv",
    "loss.png",
    "boundary.png",
    "confusion.png",
    "predicted.png",
    "sample.txt",
)
SWEEP_FILES = ("sweep.csv", "sweep.png")

# Of the temporary folder in which they are made.
_PREFIX = ".funcgrad-"


def new_folder(folder: str | os.PathLike[str]) -> Path:
    """Return `folder`, `folder`-2, `folder`-3 and so on: the first that is not there.

    >>> print(new_folder("runs/never"))
    runs/never
    """
    return next(path for path in _numbered(folder) if not os.path.lexists(path))


def last_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the last that is there of `folder`, `folder`-2, `folder`-3 and so on."""
    found = list(takewhile(os.path.lexists, _numbered(folder)))
    if not found:
        raise InputError(
            f"needs a run that was begun, got none in {folder}: leave it out to begin "
            f"one, or name its folder with --out",
            "resume",
        )
    return found[-1]


def _numbered(folder: str | os.PathLike[str]) -> Iterator[Path]:
    return map(Path, chain([folder], (f"{folder}-{number}" for number in count(2))))


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Raise before any work is done if the folder of a run could not be written.

    Without `overwrite` it must not hold another run, not even a file of one.
    """
    folder = Path(folder)
    with writable(folder):
        existing = _existing(folder)
        if existing == folder.absolute() and not folder.is_dir():
            raise InputError(f"{folder} is a file: choose another folder")
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=existing):
            pass
        for name in (*FILES, *SWEEP_FILES):
            path = folder / name
            if path.exists() and not path.is_file():
                raise InputError(
                    f"{path} is no file that a run could replace: move it away, or "
                    f"choose another folder"
                )
            if path.exists() and not overwrite:
                raise _held(folder, name)
        if (folder / CHECKPOINTS).exists() and not overwrite:
            raise _held(folder, CHECKPOINTS)


def _held(folder: Path, name: str) -> InputError:
    return InputError(
        f"{folder} holds another run, {name} for one: choose another folder, or add "
        f"--overwrite, in Python overwrite=True"
    )


def write(folder: str | os.PathLike[str], trained: Trained | TrainedText) -> list[str]:
    """Write model, history and pictures to `folder`; return the files' names.

    A net for text has its sample in place of pictures of points.

    All are made in a temporary folder first and then moved, so that no run is left
    half written; other files in `folder` stay.
    """
    with _staged(folder) as stage:
        _make(stage, trained)
        return _move(stage, Path(folder), FILES)


def write_sweep(folder: str | os.PathLike[str], swept: Swept) -> list[str]:
    """Write the best member as a run, a table of all members, and a picture of them."""
    with _staged(folder) as stage:
        _make(stage, swept.best)
        lines = [",".join(["member", "loss", *swept.hyper])]
        for member in swept.order.tolist():
            values = [swept.scores[member], *(v[member] for v in swept.hyper.values())]
            lines.append(",".join([str(member), *(repr(float(v)) for v in values)]))
        (stage / "sweep.csv").write_text("\n".join(lines) + "\n")
        figure = plots.score_against(swept.hyper, swept.scores, swept.best.task.name)
        (stage / "sweep.png").write_bytes(plots.png(figure))
        return _move(stage, Path(folder), (*FILES, *SWEEP_FILES))


@contextmanager
def _staged(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder on the disk of `folder`, if that can be written."""
    folder = Path(folder)
    check_folder(folder)
    with (
        writable(folder),
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_existing(folder)) as stage,
    ):
        yield Path(stage)


def _make(stage: Path, trained: Trained | TrainedText) -> None:
    (stage / "history.csv").write_text(trained.history.to_csv())
    if isinstance(trained, TrainedText):
        trained.writer.save(stage / "model.safetensors")
        (stage / "sample.txt").write_text(trained.sample, encoding="utf-8")
        pictures = {"loss.png": _text_curve(trained)}
    else:
        trained.predictor.save(stage / "model.safetensors")
        pictures = _pictures(trained)
    for name, figure in pictures.items():
        (stage / name).write_bytes(plots.png(figure))


def _text_curve(trained: TrainedText) -> Any:
    plan = trained.plan
    return plots.text_curve(
        trained.history.step,
        trained.history.loss,
        f"{plan.task.name}: loss of each {plan.task.token}",
        looks=trained.history.looks,
        baseline=plan.baseline,
        token=plan.task.token,
    )


def _move(stage: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Put what was made in place of the old run; if that fails, put the old one back.

    Returns which of `names` were made; those that were not leave the folder too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [name for name in names if (stage / name).exists()]
    old = stage / "old"
    old.mkdir()
    for name in names:
        if (folder / name).exists():
            shutil.copy2(folder / name, old / name)
    with _late_interrupt():
        try:
            for name in made:
                os.replace(stage / name, folder / name)
            for name in set(names) - set(made):
                (folder / name).unlink(missing_ok=True)
        except BaseException:
            for name in made:
                if not (stage / name).exists():  # it has been moved
                    (folder / name).unlink()
            for path in old.iterdir():
                os.replace(path, folder / path.name)
            raise
    return made


@contextmanager
def _late_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended, which takes a moment.

    Other threads than the main one are never interrupted, and cannot say so either.
    """
    usual = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if usual is None or not is_main:
        yield
        return
    came: list[Any] = []
    signal.signal(
        signal.SIGINT, lambda *signal_and_frame: came.append(signal_and_frame)
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came and callable(usual):
        usual(*came[0])


def _pictures(trained: Trained) -> dict[str, Any]:
    task, target, predictor = trained.task, trained.task.target, trained.predictor
    history = trained.history
    figures = {
        "loss.png": plots.loss_curve(
            history.step,
            history.loss,
            f"{task.name}: loss at each step",
            looks=history.looks,
        )
    }
    part = "held-out rows" if task.held_out.any() else "all points"
    title = f"{task.name}, {part}: {trained.score(task.scored)}"
    said = target.decode(trained.outputs)
    if not target.classes:
        true = target.decode(task.y[:, None])
        figures["predicted.png"] = plots.predicted_against_true(
            true[task.scored], said[task.scored], target.name, title
        )
        return figures
    classes = {value: place for place, value in enumerate(target.classes)}
    if len(task.inputs) == 2 and not any(column.classes for column in task.inputs):
        points = [c.decode(task.x[:, [i]]) for i, c in enumerate(task.inputs)]
        figures["boundary.png"] = plots.decision_boundary(
            lambda at: _places(classes, predictor.predict(at).values),
            np.stack(points, axis=1),
            task.y,
            names=[column.name for column in task.inputs],
            classes=target.classes,
            title=title,
            held_out=task.held_out,
        )
        return figures
    figures["confusion.png"] = plots.confusion_matrix(
        task.y[task.scored],
        _places(classes, said[task.scored]),
        target.classes,
        title,
    )
    return figures


def _places(classes: dict[str, int], values: np.ndarray) -> np.ndarray:
    return np.array([classes[value] for value in values])


def _existing(folder: Path) -> Path:
    """Return the nearest path on the way up that is there."""
    folder = folder.absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder
