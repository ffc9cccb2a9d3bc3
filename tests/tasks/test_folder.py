"""The folder of a run: the pictures get what is true, predicted and held out."""

import csv

import numpy as np
import pytest

import funcgrad as fg
from funcgrad import plots, tasks
from funcgrad.data import Category, Number, Predictor
from funcgrad.tasks.recipe import XOR
from funcgrad.tasks.task import Task

HISTORY = fg.History(np.array([3, 4]), np.float32([0.5, 0.1]), {})


def trained(inputs, target, x, y, outputs, held_out, params):
    """Return a run with these outputs, whatever a net would say."""
    x, y = np.float32(x), np.array(y, np.int32 if target.classes else np.float32)
    held_out = np.array(held_out, bool)
    task = Task("it", inputs, target, x, y, held_out, (), XOR)
    sizes = (x.shape[1], target.outputs)
    loss = "cross_entropy" if target.classes else "mean_squared_error"
    predictor = Predictor(sizes, "relu", loss, inputs, target, params)
    return tasks.Trained(task, XOR, predictor, HISTORY, np.float32(outputs))


def layer(w):
    w = np.float32(w)
    return (fg.Layer(w, np.zeros(w.shape[1], np.float32)),)


@pytest.fixture
def drawn(monkeypatch):
    """Return what the pictures are given: {function: (arguments, keywords)}."""
    calls = {}
    names = (
        "loss_curve", "decision_boundary", "confusion_matrix",
        "predicted_against_true", "score_against",
    )  # fmt: skip
    for name in names:
        monkeypatch.setattr(
            plots, name, lambda *a, _name=name, **k: calls.update({_name: (a, k)})
        )
    monkeypatch.setattr(plots, "png", lambda figure: b"a picture")
    return calls


def test_a_matrix_counts_held_out_rows_by_true_and_by_predicted_class(drawn, tmp_path):
    """The rows have true classes a, a, b, c, and are said to be a, b, c, c."""
    target = Category("letter", ("a", "b", "c"))
    inputs = (Number("n", 0.0, 1.0),)
    outputs = np.eye(3)[[0, 1, 2, 2]]
    run = trained(
        inputs, target, [[0], [1], [2], [3]], [0, 0, 1, 2], outputs, [0, 1, 1, 0],
        layer([[1, 2, 3]]),
    )  # fmt: skip
    written = tasks.write(tmp_path / "run", run)
    assert written == ["model.safetensors", "history.csv", "loss.png", "confusion.png"]
    (true, predicted, classes, title), _ = drawn["confusion_matrix"]
    assert (true.tolist(), predicted.tolist()) == ([0, 1], [1, 2])
    assert classes == target.classes
    assert title == "it, held-out rows: accuracy 0.0 %"
    (step, loss, title), given = drawn["loss_curve"]
    assert given.keys() == {"looks"} and given["looks"] is HISTORY.looks
    assert (step.tolist(), loss.tolist()) == ([3, 4], HISTORY.loss.tolist())
    assert title == "it: loss at each step"
    assert (tmp_path / "run/confusion.png").read_bytes() == b"a picture"


def test_a_quantity_is_drawn_in_its_units_on_held_out_rows(drawn, tmp_path):
    target = Number("price", 100.0, 10.0)
    inputs = (Number("n", 0.0, 1.0),)
    run = trained(
        inputs, target, [[0], [1], [2]], [0, 1, -2], [[9], [3], [-1]], [0, 1, 1],
        layer([[1]]),
    )  # fmt: skip
    assert "predicted.png" in tasks.write(tmp_path / "run", run)
    (true, predicted, name, title), _ = drawn["predicted_against_true"]
    assert (true.tolist(), predicted.tolist()) == ([110, 80], [130, 90])
    assert name == "price"
    # Standardised errors 2 and 1, the labels 1 and -2 with a variance of 2.25.
    assert title == f"it, held-out rows: R² {1 - 2.5 / 2.25:.3f}"


@pytest.mark.parametrize("held_out", [[0, 0, 1], [0, 0, 0]])
def test_a_boundary_is_drawn_in_the_units_of_the_columns(drawn, tmp_path, held_out):
    target = Category("side", ("no", "yes"))
    inputs = (Number("width", 5.0, 2.0), Number("height", -1.0, 10.0))
    # It says yes where the first, standardised, is above 0: wider than 5.
    run = trained(
        inputs, target, [[1, 0], [-1, 2], [0, 1]], [1, 0, 0], [[1], [-1], [1]],
        held_out, layer([[1], [0]]),
    )  # fmt: skip
    assert "boundary.png" in tasks.write(tmp_path / "run", run)
    (classes_at, points, y), given = drawn["decision_boundary"]
    assert points.tolist() == [[7, -1], [3, 19], [5, 9]]
    assert y.tolist() == [1, 0, 0]
    assert classes_at(np.array([[5.5, 0.0], [4.5, 9.0]])).tolist() == [1, 0]
    assert given["names"] == ["width", "height"]
    assert given["classes"] == ("no", "yes")
    assert given["held_out"].tolist() == [bool(h) for h in held_out]
    part = "held-out rows: accuracy 0.0 %" if any(held_out) else None
    assert given["title"] == f"it, {part or 'all points: accuracy 66.7 %'}"


def test_two_columns_of_which_one_is_text_are_no_plane(drawn, tmp_path):
    target = Category("side", ("no", "yes"))
    inputs = (Number("n", 0.0, 1.0), Category("c", ("a", "b")))
    run = trained(
        inputs, target, [[0, 1, 0], [1, 0, 1]], [1, 0], [[1], [1]], [0, 0],
        layer([[1], [0], [0]]),
    )  # fmt: skip
    assert "confusion.png" in tasks.write(tmp_path / "run", run)
    (true, predicted, *_), _ = drawn["confusion_matrix"]
    assert (true.tolist(), predicted.tolist()) == ([1, 0], [1, 1])


def test_a_sweep_writes_every_member_best_first(drawn, tmp_path):
    target = Category("side", ("no", "yes"))
    inputs = (Number("a", 0.0, 1.0), Number("b", 0.0, 1.0))
    best = trained(
        inputs, target, [[0, 1], [1, 0]], [1, 0], [[1], [1]], [0, 0], layer([[1], [0]])
    )
    hyper = {"learning_rate": np.array([1.0, 2.0, 4.0]), "momentum": np.ones(3) / 2}
    scores, order = np.array([0.5, np.inf, 0.25]), np.array([2, 0, 1])
    swept = tasks.Swept(best, hyper, scores, order)
    written = tasks.write_sweep(tmp_path / "run", swept)
    assert written[-2:] == ["sweep.csv", "sweep.png"]
    assert {*written} == {path.name for path in (tmp_path / "run").iterdir()}
    (hyper_drawn, scores_drawn, name), _ = drawn["score_against"]
    assert hyper_drawn is hyper and scores_drawn is scores
    assert name == "it"
    with open(tmp_path / "run/sweep.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines == [
        ["member", "loss", "learning_rate", "momentum"],
        ["2", "0.25", "4.0", "0.5"],
        ["0", "0.5", "1.0", "0.5"],
        ["1", "inf", "2.0", "0.5"],
    ]


def test_a_history_keeps_every_digit_of_its_own_steps(drawn, tmp_path):
    run = trained(
        (Number("n", 0.0, 1.0),), Number("y", 0.0, 1.0), [[0], [1]], [0, 1],
        [[0], [1]], [0, 0], layer([[1]]),
    )  # fmt: skip
    tasks.write(tmp_path, run)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "loss"]
    assert [(int(step), float(loss)) for step, loss in rows[1:]] == [
        (3, 0.5), (4, float(np.float32(0.1))),
    ]  # fmt: skip
