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


def said(capsys):
    return capsys.readouterr().out.splitlines()


def test_the_plan_counts_rows_parameters_and_steps(capsys):
    recipe = XOR._replace(steps=1234, batch_size=2, loss="mean_squared_error")
    output.say_plan(task([0, 0, 0, 1, 1]), recipe, "at 1 falling to 0.1")
    assert said(capsys) == [
        "it: 5 rows, 2 of them held out; 2 classes of 'c'",
        "note",
        "net: 1-8-1 tanh, 25 parameters",
        "training: mean squared error + 0.0001 l2, adam at 1 falling to 0.1, "
        "1,234 steps of 2 rows",
    ]
    output.say_plan(task([0, 0]), XOR, "at 1")
    first, *_, last = said(capsys)
    assert first == "it: 2 rows; 2 classes of 'c'"
    assert last.endswith("300 steps of all rows")


@pytest.mark.parametrize("held_out", [[0, 0, 0, 1, 1], [0] * 5])
def test_scores_are_of_the_rows_that_they_are_said_of(capsys, held_out):
    """Rows 0, 2 and 4 are of class a; the net says a of rows 0 to 2, b of 3 and 4."""
    outputs = np.float32([[-1], [-1], [-1], [1], [1]])
    history = fg.History(np.zeros(0), np.zeros(0), {})
    trained = tasks.Trained(task(held_out), XOR, None, history, outputs)
    output.say_scores(trained, "held out, they say")
    lines = said(capsys)
    if any(held_out):
        assert lines[0].startswith("training: accuracy 66.7 % on 3 rows ")
        assert lines[1].startswith("held out, they say: accuracy 50.0 % on 2 rows ")
    else:
        assert lines[0].startswith("training: accuracy 60.0 % on 5 rows ")
    assert len(lines) == 1 + any(held_out)
