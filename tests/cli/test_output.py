"""What is said before a run and after it: the right counts, of the right rows."""

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import tasks
from funcgrad.cli import output
from funcgrad.data import Category, Number
from funcgrad.tasks.recipe import XOR
from funcgrad.tasks.task import Task


def task(held_out):
    held_out = np.array(held_out, bool)
    inputs = (Number("n", 0.0, 1.0),)
    x, y = np.zeros((len(held_out), 1), np.float32), np.arange(len(held_out)) % 2
    target = Category("c", ("a", "b"))
    return Task("it", inputs, target, x, y.astype(np.int32), held_out, ("note",), XOR)


def test_the_plan_counts_rows_parameters_and_steps():
    recipe = XOR._replace(steps=1234, batch_size=2, loss="mean_squared_error")
    lines = output.plan_lines(task([0, 0, 0, 1, 1]), recipe, "at 1 falling to 0.1")
    assert lines == [
        "it: 5 rows, 2 of them held out; 2 classes of 'c'",
        "note",
        "net: 1-8-1 tanh, 25 parameters",
        "training: mean squared error + 0.0001 l2, adam at 1 falling to 0.1, "
        "1,234 steps of 2 rows",
    ]
    first, *_, last = output.plan_lines(task([0, 0]), XOR, "at 1")
    assert first == "it: 2 rows; 2 classes of 'c'"
    assert last.endswith("300 steps of all rows")


@pytest.mark.parametrize("held_out", [[0, 0, 0, 1, 1], [0] * 5])
def test_scores_are_of_the_rows_that_they_are_said_of(held_out):
    """Rows 0, 2 and 4 are of class a; the net says a of rows 0 to 2, b of 3 and 4."""
    outputs = np.float32([[-1], [-1], [-1], [1], [1]])
    history = fg.History(np.zeros(0), np.zeros(0), {})
    trained = tasks.Trained(task(held_out), XOR, None, history, outputs)
    lines = output.score_lines(trained, "held out, they say")
    if any(held_out):
        assert lines[0].startswith("training: accuracy 66.7 % on 3 rows ")
        assert lines[1].startswith("held out, they say: accuracy 50.0 % on 2 rows ")
    else:
        assert lines[0].startswith("training: accuracy 60.0 % on 5 rows ")
    assert len(lines) == 1 + any(held_out)


def test_rows_of_validation_are_scored_by_themselves():
    """Rows 0 and 2 are trained on, right and wrong; 1 is watched, 3 and 4 held out."""
    watched = np.array([0, 1, 0, 0, 0], bool)
    it = task([0, 0, 0, 1, 1])._replace(validation=watched)
    outputs = np.float32([[-1], [1], [1], [1], [1]])
    history = fg.History(np.zeros(0), np.zeros(0), {})
    lines = output.score_lines(tasks.Trained(it, XOR, None, history, outputs), "kept")
    assert [line.partition(" (")[0] for line in lines] == [
        "training: accuracy 50.0 % on 2 rows",
        "validation: accuracy 100.0 % on 1 rows",
        "kept: accuracy 50.0 % on 2 rows",
    ]
