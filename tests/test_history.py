"""What a run left behind: every step, or every second of a long one."""

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import history
from funcgrad.history import History, Record


@pytest.fixture
def at_most_eight(monkeypatch):
    monkeypatch.setattr(history, "MOST_KEPT", 8)


def look(step, losses, validation):
    state = fg.State(None, None, np.int32(step))
    return fg.Progress(step, step, losses, state, validation, 0.5, 2.0, 0.0)


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_a_long_run_keeps_every_second_fourth_and_so_on(at_most_eight, chunk):
    record = Record(100, ["validation_loss"])
    losses = np.arange(50, dtype=np.float32)
    for start in range(0, 50, chunk):
        part = losses[start : start + chunk]
        done = start + len(part)
        record.add(look(100 + done, part, {"loss": done * 10}))
    found = record.history()
    assert found.step.tolist() == [100 + 8 * i for i in range(7)]
    assert found.loss.tolist() == [8 * i for i in range(7)]
    assert found.loss.dtype == np.float32
    assert len(found.looks["step"]) <= 8
    assert found.looks["step"][0] == 100 + min(chunk, 50)
    later = found.looks["step"] - 100
    assert found.looks["validation_loss"].tolist() == (later * 10).tolist()


def test_a_short_one_keeps_all(at_most_eight):
    record = Record(0, [])
    record.add(look(8, np.arange(8.0), {}))
    assert record.history().step.tolist() == list(range(8))


def test_nothing_is_a_history_too():
    found = Record(3, ["validation_loss"]).history()
    assert [len(found.step), len(found.loss)] == [0, 0]
    assert {name: len(values) for name, values in found.looks.items()} == {
        "step": 0, "loss": 0, "seconds": 0, "steps_per_second": 0, "validation_loss": 0
    }  # fmt: skip


def test_csv_has_a_line_a_step_and_what_was_seen_after_it():
    looks = {
        "step": np.array([2]),
        "loss": np.array([0.5]),
        "seconds": np.array([0.25]),
    }
    found = History(np.array([0, 1]), np.float32([1.5, 0.5]), looks)
    assert found.to_csv().splitlines() == [
        "step,loss,seconds",
        "0,1.5,",
        "1,0.5,0.25",
    ]
