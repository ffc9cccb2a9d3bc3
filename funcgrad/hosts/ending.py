"""How a process ends, of a run that it shares with others: at once, and in words."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import jax

from funcgrad.hosts.roll_call import LostError, Roll

# What a process ends with that another run can go on from: sysexits' EX_TEMPFAIL.
RESUME = 75

# How soon it is seen that another process has ended, and how long JAX then has to say
# so itself: on CPU some of its threads may wait for ever.
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_FOR_JAX = 1.0
# To end together where all know that the run is over.
_SECONDS_TO_LEAVE = 3.0

# In the errors of JAX's collectives, on CPU and on GPU, where another process is gone.
_OF_COLLECTIVES = ("Gloo", "NCCL", "oordination service", "distributed service")

# That of this process, once it has joined.
rolls: list[Roll] = []
# Set once this process knows that the run is over, or that another one is lost.
_is_over = threading.Event()


def watch_over(roll: Roll) -> None:
    """End this process where one of the roll is gone, from now on."""
    rolls.append(roll)
    threading.Thread(target=_end_when_lost, args=(roll,), daemon=True).start()


@contextmanager
def lost_in_words() -> Iterator[None]:
    """Turn what JAX says of a process that is gone into a `LostError`."""
    try:
        yield
    except LostError:
        _is_over.set()
        raise
    except jax.errors.JaxRuntimeError as error:
        if not any(word in str(error) for word in _OF_COLLECTIVES):
            raise
        _is_over.set()
        gone = [process for roll in rolls for process in roll.gone()]
        raise LostError(_who_is_gone(gone)) from error


def _who_is_gone(gone: list[int]) -> str:
    who = f"process {gone[0]}" if len(gone) == 1 else "another process"
    return f"{who} of this run is gone"


def _end_when_lost(roll: Roll) -> None:
    """End this process where another one is gone, and JAX does not say so in time."""
    while not _is_over.wait(_SECONDS_BETWEEN_LOOKS):
        if gone := roll.gone():
            if not _is_over.wait(_SECONDS_FOR_JAX):
                logging.getLogger(__name__).critical(_who_is_gone(gone))
                _exit(RESUME)
            return


def leave(code: int) -> None:
    """End this process with this code at once, after a moment for all to do so.

    Nothing is waited for that a process which is gone could hold up.
    """
    _is_over.set()
    with suppress(LostError):
        for roll in rolls:
            if not roll.gone():
                roll.meet("the end", _SECONDS_TO_LEAVE)
    _exit(code)


def at_exit() -> None:
    """End now where an exception ends the program; JAX would wait for the others."""
    error = getattr(sys, "last_value", None)
    if error is not None:
        _exit(RESUME if isinstance(error, LostError) else 1)
    _is_over.set()
    for roll in rolls:
        roll.say_goodbye()


def _exit(code: int) -> None:
    for name in ("stdout", "stderr"):
        with suppress(OSError, AttributeError, ValueError):  # closed, or not there
            getattr(sys, name).flush()
    os._exit(code)
