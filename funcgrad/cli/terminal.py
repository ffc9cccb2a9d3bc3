"""How the shell prints: what the terminal cannot take does not stop the work."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from funcgrad.errors import shown

# Why the output could not be written, if so: a run goes on, and `main` says it last.
lost: list[OSError] = []


def say(*lines: str) -> None:
    """Print lines at once, such that no name in them can command the terminal."""
    for line in lines:
        emit(f"{shown(line)}\n", sys.stdout)


class Stopped(Exception):
    """Raised by a command that Ctrl-C ended, after it has said so."""


@contextmanager
def nothing_written() -> Iterator[None]:
    """Say of Ctrl-C within the block that it leaves nothing, and end the command."""
    try:
        yield
    except KeyboardInterrupt as stop:
        complain("stopped by Ctrl-C: nothing is written")
        raise Stopped from stop


def tell_nobody(*lines: str) -> None:
    """Do in place of `say` what --quiet asks for."""


def complain(sentence: str) -> None:
    """Print a sentence to stderr, as of the command."""
    emit(f"funcgrad: {shown(sentence)}\n", sys.stderr)


def emit(text: str, stream: TextIO | None) -> None:
    """Write to a stream at once; where it takes no more, go on in silence.

    Letters that it cannot show, such as the last of R² in ASCII, are escaped.
    """
    if stream is None:  # closed from the start
        return
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        # A reader that leaves, such as head, has seen enough.
        if not isinstance(error, BrokenPipeError):
            lost.append(error)
        # What is still in the buffer, and what follows, goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
