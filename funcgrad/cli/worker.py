"""`funcgrad train` on several hosts: a child of the command does the work.

Where a process of the run is lost, JAX's C++ may end all others, and nothing in them
can keep it from that or say why. So the command waits beside the process that trains,
and turns its end into a sentence.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# The exit code of a run that another can go on from: sysexits' EX_TEMPFAIL.
RESUME = 75

# Where the child leaves its notes; it is set in the child alone.
NOTES = "FUNCGRAD_NOTES"

PROGRAM = (sys.executable, "-m", "funcgrad")

_OPTIONS = ("--coordinator", "--cluster")

# In what JAX's C++ prints where it ends a process because of another one.
_OF_ANOTHER = ("distributed service", "oordination service", "heartbeat", "Gloo")


def is_for_worker(arguments: Sequence[str]) -> bool:
    """Return whether a child is to run the command of these arguments."""
    asked = any(argument.partition("=")[0] in _OPTIONS for argument in arguments)
    return asked and NOTES not in os.environ


def run_worker(arguments: Sequence[str]) -> tuple[int, str | None]:
    """Run the command in a child; return its exit code, and what there is to say."""
    with tempfile.TemporaryDirectory(prefix="funcgrad-") as folder:
        notes = Path(folder)
        # Of a session of its own, so that Ctrl-C comes once, through this process.
        child = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            env=os.environ | {NOTES: folder},
            start_new_session=True,
        )
        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(
                number, lambda number, frame: child.send_signal(number)
            )
        try:
            with child:  # which ends it too, if this one is ended
                code = child.wait()
        finally:
            for number, usual in before.items():
                signal.signal(number, usual)
        if code >= 0 and code != RESUME:
            return code, None
        return RESUME, f"{_reason(notes, code)}: {how_to_go_on(notes)}"


def begin_work() -> None:
    """Do in the child what must be done before JAX is there."""
    notes = Path(os.environ[NOTES])
    # What C++ prints, of connections and of its end, is no output of the command.
    native = os.open(notes / "native", os.O_WRONLY | os.O_CREAT, 0o600)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            continue
        own = os.dup(number)
        kept = {"encoding": stream.encoding, "errors": stream.errors}
        setattr(sys, name, os.fdopen(own, "w", buffering=1, **kept))
        os.dup2(native, number)

    logger = logging.getLogger("funcgrad.hosts")
    logger.addHandler(_Noting(logging.CRITICAL))  # which end the process
    logger.propagate = False

    def wait() -> None:
        with suppress(OSError):
            os.read(0, 1)  # ends with the command, in whatever way
        os._exit(RESUME)

    threading.Thread(target=wait, daemon=True).start()


class _Noting(logging.Handler):
    """Leaves what is logged as the reason of the end."""

    def emit(self, record: logging.LogRecord) -> None:
        note("reason", record.getMessage())


def note(name: str, text: Any) -> None:
    """Leave a note for the command, where this is the child of one."""
    if NOTES in os.environ:
        Path(os.environ[NOTES], name).write_text(str(text))


def _read(notes: Path, name: str) -> str:
    with suppress(OSError):
        return (notes / name).read_text(errors="replace")
    return ""


def _reason(notes: Path, code: int) -> str:
    """Return why the child has ended."""
    if reason := _read(notes, "reason"):
        return reason
    if any(words in _read(notes, "native") for words in _OF_ANOTHER):
        return "another process of this run is gone, or does not answer"
    if code < 0:
        return f"the process that trains was ended by {signal.Signals(-code).name}"
    return "the run was ended"


def how_to_go_on(notes: Path) -> str:
    """Return what there is to go on from."""
    folder = _read(notes, "checkpoints")
    if not folder:
        return "no step was done, begin anew"
    # Of nine digits, or of more.
    found = sorted(
        Path(folder).glob("step-*.safetensors"), key=lambda p: (len(p.name), p.name)
    )
    if found:
        return f"go on with --resume from {found[-1]}"
    if Path(folder).is_dir():
        return "no checkpoint was written, begin anew"
    return f"go on with --resume from {folder} of process 0, if it has a checkpoint"
