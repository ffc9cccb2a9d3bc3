"""The command `funcgrad`: its entry point, and how it speaks of what went wrong."""

import atexit
import gc
import importlib.util
import os
import sys
from collections.abc import Sequence

NEEDED = ("typer", "rich", "matplotlib", "polars", "flint")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all is fine and 2 for bad input.

    Bad input gets one sentence on stderr, and no traceback.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _fail(
            f"the command needs {' and '.join(missing)}, not installed here: "
            f'pip install "funcgrad[cli]"'
        )
    _collect_less()
    from funcgrad.cli.app import app
    from funcgrad.errors import InputError

    try:
        app(args=arguments, prog_name="funcgrad")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except InputError as error:
        if error.argument is None:
            return _fail(error.sentence)
        return _fail(f"--{error.argument.replace('_', '-')} {error.sentence}")
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _collect_less() -> None:
    """Keep the garbage collector from taking a sixth of a short run.

    A command ends soon, and what it made need not be searched for cycles as often as by
    default, nor at all at the end.
    """
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)


def _fail(sentence: str) -> int:
    print(f"funcgrad: {sentence}", file=sys.stderr)
    return 2
