"""Lines on stderr that follow a run, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from funcgrad.data.scores import Score
from funcgrad.errors import shown
from funcgrad.history import Progress


@contextmanager
def step_line(steps: int) -> Iterator[Callable[[Progress, Score], None]]:
    """Follow a run: its steps, loss, score, speed and time left."""
    with _line("step", steps, _text) as update:

        def show(now: Progress, score: Score) -> None:
            seen = "".join(
                f"  validation {value:.4g}" for value in now.validation.values()
            )
            text = (
                f"loss {now.loss:.4g}{seen}  {score}  "
                f"{now.steps_per_second:,.0f} steps/s  {now.seconds_left:,.0f} s left"
            )
            update(completed=now.done, description=text)

        yield show


@contextmanager
def text_line(steps: int) -> Iterator[Callable[[Progress, Callable[[], str]], None]]:
    """Follow a run on text: its steps, loss, speed and time left, and what it writes.

    The sample is asked for at the looks, and where somebody sees it.
    """
    with _line("step", steps, _text) as update:

        def show(now: Progress, sample: Callable[[], str]) -> None:
            if sys.stderr is not None and sys.stderr.isatty():
                step = f"step {int(now.state.step):,}: "
                sys.stderr.write(f"\r\x1b[K{step}{shown(sample())}\n")
            text = (
                f"loss {now.loss:.4g}  held out {now.validation['loss']:.4g}  "
                f"{now.steps_per_second:,.0f} steps/s  {now.seconds_left:,.0f} s left"
            )
            update(completed=now.done, description=text)

        yield show


@contextmanager
def member_line(members: int) -> Iterator[Callable[[int, int], None]]:
    """Follow a sweep: the nets that are done, and the time left."""

    def time_left() -> Any:
        from rich.progress import TimeRemainingColumn

        return TimeRemainingColumn()

    with _line("net", members, time_left) as update:
        yield lambda done, _: update(completed=done)


def _text() -> Any:
    """Return the column of what is said beside a bar."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}")


@contextmanager
def _line(
    what: str, total: int, last: Callable[[], Any]
) -> Iterator[Callable[..., None]]:
    # Nobody would see it, and rich takes a while to import.
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda **changed: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Line

    line = Line(
        TextColumn(what + " {task.completed:,}/{task.total:,}"),
        BarColumn(bar_width=20),
        last(),
        console=Console(stderr=True),
        auto_refresh=False,
    )
    bar = line.add_task("", total=total)
    line.disable = not line.console.is_terminal
    with line:
        yield lambda **changed: line.update(bar, refresh=True, **changed)
