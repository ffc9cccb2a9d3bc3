"""The command `funcgrad`: its entry point, and how it speaks of what went wrong."""

import atexit
import gc
import importlib.util
import io
import os
import sys
from collections.abc import Sequence

from funcgrad.cli.worker import (
    NOTES,
    RESUME,
    begin_work,
    is_for_worker,
    note,
    run_worker,
)

# What it gives back for a command that SIGINT has ended: 128 and its number.
STOPPED = 130

NEEDED = ("typer", "rich", "matplotlib", "polars", "flint")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    0 if all is fine, 2 for bad input, 75 for a run that another can go on from and 130
    for Ctrl-C. All but 0 get one sentence on stderr, and no traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if is_for_worker(given):
        code, sentence = run_worker(given)
        if sentence is not None:
            _fail(sentence)
        return code
    is_worker = NOTES in os.environ
    if is_worker:
        begin_work()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _fail(
            f"the command needs {' and '.join(missing)}, not installed here: "
            f'pip install "funcgrad[cli]"'
        )
    _collect_less()
    # Pictures become files, whatever windows the user has elsewhere; and a name that
    # matplotlib does not know would stop it.
    os.environ["MPLBACKEND"] = "agg"
    from funcgrad.cli import terminal

    terminal.lost.clear()
    try:
        code = _run(given)
    except KeyboardInterrupt:
        code = STOPPED
        _fail("stopped by Ctrl-C; no file is half written")
    terminal.emit("", sys.stdout)  # what others have left in the buffer
    if terminal.lost and not code:
        code = _fail(
            f"not all output could be written: {terminal.lost[0].strerror}; the work "
            f"itself was done"
        )
    if is_worker and code:
        from funcgrad.hosts import leave

        leave(code)
    return code


def _run(given: Sequence[str]) -> int:
    from typer import Abort

    from funcgrad.cli.app import app
    from funcgrad.cli.terminal import Stopped, emit
    from funcgrad.errors import InputError, shown
    from funcgrad.hosts.roll_call import LostError

    try:
        code = app(given, "funcgrad", standalone_mode=False, obj=given) or 0
    except SystemExit as end:
        if end.code == RESUME:
            note("reason", "the run was asked to end by SIGTERM")
        return end.code if isinstance(end.code, int) else 1
    except LostError as error:
        note("reason", error)
        return RESUME
    except Abort:  # some versions of typer's make this of Ctrl-C, others the code
        code = STOPPED
    except Stopped:  # and has said so
        return STOPPED
    except InputError as error:
        if error.argument is None:
            return _fail(error.sentence)
        return _fail(f"--{error.argument.replace('_', '-')} {error.sentence}")
    except OSError as error:
        where = "the output" if error.filename is None else str(error.filename)
        return _fail(shown(f"{where} cannot be read or written: {error.strerror}"))
    except Exception as error:
        # Typer's own, about arguments: it has the command's usage beside the sentence.
        if not hasattr(error, "format_message"):
            raise
        with io.StringIO() as said:
            error.show(file=said)  # type: ignore[attr-defined]
            for line in said.getvalue().splitlines():
                emit(f"{shown(line)}\n", sys.stderr)
        return 2
    if code == STOPPED:
        raise KeyboardInterrupt
    return code


def _collect_less() -> None:
    """Keep the garbage collector from taking a sixth of a short run.

    A command ends soon, and what it made need not be searched for cycles as often as by
    default, nor at all at the end.
    """
    gc.set_threshold(300_000, 50, 50)
    atexit.register(gc.freeze)


def _fail(sentence: str) -> int:
    from funcgrad.cli.terminal import emit

    emit(f"funcgrad: {sentence}\n", sys.stderr)
    return 2
