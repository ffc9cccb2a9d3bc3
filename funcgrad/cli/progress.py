"""Lines on stderr that follow a run, where that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from funcgrad.data.scores import Score
from funcgrad.fitting import Progress


@contextmanager
def step_line(steps: int) -> Iterator[Callable[[Progress, Score], None]]:
    """Follow a run: its steps, loss, score, speed and time left."""
    from rich.progress import TextColumn

    with _line("step", steps, TextColumn("{task.description}")) as update:

        def show(now: Progress, score: Score) -> None:
            text = (
                f"loss {now.loss:.4g}  {score}  {now.steps_per_second:,.0f} steps/s  "
                f"{now.seconds_left:,.0f} s left"
            )
            update(completed=now.done, description=text)

        yield show


@contextmanager
def member_line(members: int) -> Iterator[Callable[[int, int], None]]:
    """Follow a sweep: the nets that are done, and the time left."""
    from rich.progress import TimeRemainingColumn

    with _line("net", members, TimeRemainingColumn()) as update:
        yield lambda done, _: update(completed=done)


@contextmanager
def _line(what: str, total: int, last: Any) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Line

    line = Line(
        TextColumn(what + " {task.completed:,}/{task.total:,}"),
        BarColumn(bar_width=20),
        last,
        console=Console(stderr=True),
        auto_refresh=False,
    )
    bar = line.add_task("", total=total)
    line.disable = not line.console.is_terminal
    with line:
        yield lambda **changed: line.update(bar, refresh=True, **changed)
