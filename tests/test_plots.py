"""Pictures can be drawn of hard cases too."""

import numpy as np

from funcgrad import plots


def test_pictures_of_hard_cases_can_be_drawn():
    step = np.arange(3)
    loss = np.array([1.0, 0.0, 2.0])
    many = [f"a class with a long name {i}" for i in range(40)]
    y = np.arange(40)
    for figure in (
        plots.loss_curve(step, loss, "a loss of 0 has no logarithm"),
        plots.loss_curve(step[:1], loss[:1], "one step"),
        plots.confusion_matrix(y, y[::-1], many, "forty classes"),
        plots.confusion_matrix(y % 2, y % 2, ["a", "b"], "two"),
        plots.predicted_against_true(loss, loss, "y", "perfect"),
        plots.decision_boundary(
            lambda points: (points[:, 0] > 0) * 1,
            np.random.default_rng(0).normal(size=(40, 2)),
            y,
            names=["a", "b"],
            classes=many,
            title="forty classes",
        ),
    ):
        assert plots.png(figure).startswith(b"\x89PNG\r\n\x1a\n")
