"""The progress lines on a terminal."""

import re

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.cli.progress import member_line, step_line, text_line
from funcgrad.data.scores import Accuracy


class Terminal:
    """A stderr that says it is a terminal and keeps what it shows."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def a_terminal(monkeypatch):
    """Return what is stderr from now on; after a setup pytest puts its own there."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    return terminal


def shown(terminal):
    """Return what the terminal was sent, without the codes that move and colour."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text)


def test_a_sweep_shows_the_nets_that_are_done(monkeypatch):
    terminal = a_terminal(monkeypatch)
    with member_line(1500) as show:
        show(30, 1500)
        assert "net 30/1,500 " in shown(terminal)
        show(1200, 1500)
    assert "net 1,200/1,500 " in shown(terminal)


def test_the_progress_line_shows_loss_score_speed_and_time_left(monkeypatch):
    terminal = a_terminal(monkeypatch)
    with step_line(100) as show:
        losses = np.array([9.0, 0.123456])
        now = fg.Progress(40, 100, losses, None, {"loss": 0.25}, 0.02, 2000.0, 3.2)
        show(now, Accuracy(0.91, 0.5, 100))
    assert re.search(
        r"step 40/100 .*loss 0\.1235  validation 0\.25  accuracy 91\.0 %  "
        r"2,000 steps/s  3 s left",
        shown(terminal),
    )


def test_a_run_on_text_shows_what_the_net_writes(monkeypatch):
    terminal = a_terminal(monkeypatch)
    state = fg.State(None, None, np.int32(40))
    now = fg.Progress(40, 100, np.array([1.5]), state, {"loss": 2.25}, 0.02, 2e3, 3.2)
    with text_line(100) as show:
        show(now, lambda: "a\x1bb\nc")
    assert "step 40: a\\x1bb\\nc\n" in shown(terminal)
    assert "loss 1.5  held out 2.25  2,000 steps/s  3 s left" in shown(terminal)


def test_nobody_is_shown_no_sample(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    state = fg.State(None, None, np.int32(40))
    now = fg.Progress(40, 100, np.array([1.5]), state, {"loss": 2.25}, 0.02, 2e3, 3.2)
    with text_line(100) as show:
        show(now, lambda: pytest.fail("asked for a sample"))
