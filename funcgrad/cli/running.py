"""What `funcgrad train` does alike, whatever a net learns from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from funcgrad import hosts, tasks
from funcgrad.cli.options import folder_of
from funcgrad.cli.proof import Proof
from funcgrad.cli.terminal import complain
from funcgrad.cli.worker import note
from funcgrad.errors import InputError
from funcgrad.tasks import Trained, TrainedText

Ended = TypeVar("Ended", Trained, TrainedText)


def join_hosts(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    cluster: bool,
    heartbeat: int,
) -> bool:
    """Join a run on several hosts if the options ask for it; return whether they do."""
    named = (coordinator, processes, process)
    is_named = any(option is not None for option in named)
    if cluster and is_named:
        raise InputError(
            "asks the cluster who is process 0, of how many: leave out --coordinator, "
            "--processes and --process, or --cluster",
            "cluster",
        )
    if cluster or is_named:
        hosts.join(*named, heartbeat=heartbeat)
    return cluster or is_named


def folder_for(
    name: str, out: Path | None, *, overwrite: bool, resume: bool, keeps: bool
) -> Path:
    """Return the folder to write, which a run can take; `keeps` is with checkpoints.

    On several hosts it is the one that process 0 finds on its disk.
    """
    found = hosts.first_does(
        "the folder of the run",
        lambda: str(_folder_for(name, out, overwrite, resume, keeps)),
    )
    folder = Path(hosts.from_first((found or "").encode()).decode())
    note("checkpoints", (folder / tasks.CHECKPOINTS).absolute())
    return folder


def _folder_for(
    name: str, out: Path | None, overwrite: bool, resume: bool, keeps: bool
) -> Path:
    if resume and out is None:
        out = tasks.last_folder(Path("runs", name))
    folder = folder_of(name, out)
    tasks.check_folder(folder, overwrite=overwrite or resume)
    if keeps and overwrite and not resume:
        shutil.rmtree(folder / tasks.CHECKPOINTS, ignore_errors=True)
    return folder


def tell_proof(proof: Proof, tell: Callable[..., None], *, quiet: bool) -> None:
    """Say what the proof has found, with --quiet only that it was not ok."""
    tell(*proof.text.splitlines())
    if quiet and proof.verdict not in ("ok", None):
        first, *_ = proof.text.splitlines()
        complain(f"{first}: leave out --quiet to see the report")


def to_its_end(train: Callable[[], Ended]) -> tuple[Ended, bool]:
    """Return what was trained, as far as it came, and whether Ctrl-C has ended it."""
    try:
        return train(), False
    except InputError as error:
        if error.argument != "folder":
            raise
        raise InputError(error.sentence, "out") from error
    except KeyboardInterrupt as stop:
        if not hasattr(stop, "trained"):
            raise
        return stop.trained, True


def tell_end(
    trained: Trained | TrainedText,
    steps: int,
    tell: Callable[..., None],
    *,
    stopped: bool,
) -> None:
    """Say where a run of so many steps has ended, if that was before its last one."""
    if stopped:
        complain(f"stopped by Ctrl-C after {trained.steps:,} of {steps:,} steps")
    elif trained.best_step is not None:
        tell(f"best at step {trained.best_step:,}, of {trained.steps:,} that were done")
