"""Pictures show what they were given, each number at its place and in its colour."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from funcgrad import plots

CLASSES = ("red", "green", "blue")


def places(dots):
    """Return where the points of a scatter lie, one tuple each."""
    return [tuple(place) for place in np.asarray(dots.get_offsets()).tolist()]


def named_dots(axes):
    """Return the points by what the legend calls them, in its own colours."""
    legend = axes.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    colours = [handle.get_facecolor().tolist() for handle in legend.legend_handles]
    assert colours == [dot.get_facecolor().tolist() for dot in axes.collections]
    return dict(zip(names, axes.collections, strict=True))


def axes_of(figure):
    (axes,) = figure.axes
    return axes


def is_right_of_one(points):
    """Return class 2 right of 1, else class 0; and class 1 above 10, wherever it is."""
    return np.where(points[:, 1] > 10, 1, np.where(points[:, 0] > 1, 2, 0))


@pytest.fixture
def boundary():
    """Return a picture of a plane that is long upwards, with four points."""
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 20.0], [2.0, 20.0]])
    return plots.decision_boundary(
        is_right_of_one, points, np.array([0, 2, 1, 1]), names=["across", "up"],
        classes=CLASSES, title="title", held_out=np.array([False, True, False, True]),
    )  # fmt: skip


def test_the_plane_has_at_each_place_the_colour_of_the_class_chosen_there(boundary):
    (image,) = axes_of(boundary).images
    left, right, low, high = image.get_extent()
    assert (left, right, low, high) == (-0.16, 2.16, -1.6, 21.6)
    assert image.origin == "lower"
    shown = np.asarray(image.get_array())
    rows, columns, _ = shown.shape

    def colour_at(x, y):
        row = int((y - low) / (high - low) * rows)
        return tuple(shown[row, int((x - left) / (right - left) * columns)])

    corners = {(0.0, 0.0): 0, (2.0, 0.0): 2, (0.0, 20.0): 1, (2.0, 20.0): 1}
    dots = named_dots(axes_of(boundary))
    colours = [
        tuple(dots[label].get_facecolor()[0][:3])
        for label in ("red", "green", "blue, held out")
    ]
    assert len(set(colours)) == 3
    for (x, y), k in corners.items():
        # Each is the colour of that class's points, mixed with seven parts of white.
        mixed = 1 - 0.3 * (1 - np.array(colours[k]))
        # Both are float64 sums of numbers up to 1: a few units of 1e-16.
        assert np.allclose(colour_at(x, y), mixed, rtol=0, atol=1e-15)
    assert len({colour_at(*corner) for corner in corners}) == 3


def test_points_lie_at_their_places_and_diamonds_are_held_out(boundary):
    axes = axes_of(boundary)
    dots = named_dots(axes)
    assert {name: places(dot) for name, dot in dots.items()} == {
        "red": [(0, 0)],
        "green": [(0, 20)],
        "green, held out": [(2, 20)],
        "blue, held out": [(2, 0)],
    }
    for name, dot in dots.items():
        corners = len(dot.get_paths()[0].vertices)
        is_diamond = corners == 5  # four corners and back; a circle has many more
        assert is_diamond == name.endswith("held out"), corners
    green, held_out = dots["green"], dots["green, held out"]
    assert green.get_facecolor().tolist() == held_out.get_facecolor().tolist()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("across", "up")
    assert axes.get_title() == "title"
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.16, 2.16), (-1.6, 21.6))


def test_without_held_out_rows_there_are_no_diamonds():
    axes = axes_of(
        plots.decision_boundary(
            is_right_of_one, np.array([[0.0, 0.0], [2.0, 1.0]]), np.array([0, 2]),
            names=["a", "b"], classes=CLASSES, title="",
        )
    )  # fmt: skip
    assert list(named_dots(axes)) == ["red", "blue"]


def test_a_row_of_the_matrix_is_a_true_class_and_a_column_a_predicted_one():
    true = np.array([0, 0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 0, 1, 2, 2, 0])
    axes = axes_of(plots.confusion_matrix(true, predicted, CLASSES, "title"))
    (image,) = axes.images
    shares = [[0.75, 0.25, 0], [0, 0, 1], [1, 0, 0]]  # of the rows of a true class
    assert np.asarray(image.get_array()).tolist() == shares
    assert image.origin == "upper" and image.get_clim() == (0, 1)
    texts = {text.get_position(): text for text in axes.texts}  # (across, down)
    numbers = {place: text.get_text() for place, text in texts.items()}
    assert numbers == {(0, 0): "3", (1, 0): "1", (2, 1): "2", (0, 2): "1"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    across = [label.get_text() for label in axes.get_xticklabels()]
    down = [label.get_text() for label in axes.get_yticklabels()]
    assert across == down == list(CLASSES)
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [0, 1, 2]
    # White on dark blue, black on pale, where either can be read.
    colours = {place: text.get_color() for place, text in texts.items()}
    assert colours == {
        (0, 0): "white", (1, 0): "black", (2, 1): "white", (0, 2): "white",
    }  # fmt: skip
    assert axes.get_title() == "title"


def test_a_class_without_rows_has_a_share_of_nothing():
    axes = axes_of(
        plots.confusion_matrix(np.array([0]), np.array([2]), CLASSES, "title")
    )
    shares = np.asarray(axes.images[0].get_array()).tolist()
    assert shares == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("count", "numbered", "named"),
    [(20, True, True), (21, False, True), (30, False, True), (31, False, False)],
)
def test_many_classes_have_no_numbers_and_then_no_names(count, numbered, named):
    names = [f"a class with a long name {i}" for i in range(count)]
    y = np.arange(count)
    axes = axes_of(plots.confusion_matrix(y, y, names, "title"))
    assert bool(axes.texts) == numbered
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert ("a class with …" in labels) == named
    assert all(len(label) <= 14 for label in labels)


def test_true_goes_across_and_predicted_up():
    axes = axes_of(
        plots.predicted_against_true(
            np.array([1.0, 2.0]), np.array([5.0, -3.0]), "price", "title"
        )
    )
    (dots,) = axes.collections
    assert places(dots) == [(1, 5), (2, -3)]
    (line,) = axes.lines  # what is predicted perfectly, over all that there is
    assert list(line.get_xdata()) == list(line.get_ydata()) == [-3, 5]
    assert axes.get_xlabel() == "true price"
    assert axes.get_ylabel() == "predicted price"
    assert axes.get_aspect() == 1
    assert axes.get_title() == "title"


def test_the_loss_is_drawn_against_the_step():
    step, loss = np.arange(7, 10), np.array([4.0, 2.0, 1.0])
    axes = axes_of(plots.loss_curve(step, loss, "title"))
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [7, 8, 9]
    assert line.get_ydata().tolist() == [4, 2, 1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert axes.get_title() == "title"
    with_zero = axes_of(plots.loss_curve(step, loss - 1, "0 has no logarithm"))
    assert with_zero.get_yscale() == "linear"


def test_validation_is_drawn_beside_with_a_star_at_its_best():
    seen = np.array([3.0, np.nan, 0.5, 0.5, np.inf])
    looks = {"step": np.array([9, 11, 13, 15, 17]), "validation_loss": seen}
    step, loss = np.arange(7, 10), np.array([4.0, 2.0, 1.0])
    axes = axes_of(plots.loss_curve(step, loss, "title", looks=looks))
    training, validation, star = axes.lines
    assert training.get_ydata().tolist() == [4, 2, 1]
    assert validation.get_xdata().tolist() == [9, 11, 13, 15, 17]
    assert np.array_equal(validation.get_ydata(), seen, equal_nan=True)
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([13], [0.5])
    assert star.get_marker() == "*"
    assert validation.get_color() == star.get_color() != training.get_color()
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["training", "validation", "best, step 13"]
    assert axes.get_yscale() == "log"
    looks["validation_loss"] = np.array([3.0, 0, 0, 0, 0])
    assert axes_of(plots.loss_curve(step, loss, "", looks=looks)).get_yscale() == (
        "linear"
    )


@pytest.mark.parametrize("seen", [{}, {"validation_loss": np.full(2, np.nan)}])
def test_without_validation_there_is_one_curve_and_no_legend(seen):
    looks = {"step": np.array([1, 2]), "seconds": np.array([0.1, 0.2])} | seen
    axes = axes_of(plots.loss_curve(np.arange(2), np.ones(2), "", looks=looks))
    assert len(axes.lines) == 1 and axes.get_legend() is None


def test_a_long_curve_gets_a_hundred_medians():
    """The loss of step i is 1000 + 2 i, but for a peak every fifth step."""
    step = np.arange(10, 510)
    loss = 1000.0 + 2 * np.arange(500)
    loss[::5] = 1e9
    curve, medians = axes_of(plots.loss_curve(step, loss, "")).lines
    assert curve.get_ydata().tolist() == loss.tolist()
    assert list(medians.get_xdata()) == [12 + 5 * i for i in range(100)]
    # Of five neighbours, with the first as a peak, the middle one is the fourth.
    assert list(medians.get_ydata()) == [1006 + 10 * i for i in range(100)]
    assert curve.get_alpha() < 1


def test_the_star_is_on_the_best_member_in_every_panel():
    hyper = {
        "learning_rate": np.array([1.0, 10.0, 100.0, 1000.0]),
        "weight_decay": np.array([1.0, 2.0, 3.0, 4.0]),
    }
    scores = np.array([3.0, 0.5, np.inf, 2.0])
    figure = plots.score_against(hyper, scores, "moons")
    first, second = figure.axes
    for axes, values in ((first, hyper["learning_rate"]), (second, [1, 2, 3, 4])):
        members, star = axes.collections
        assert places(members) == [
            (values[0], 3), (values[1], 0.5), (values[3], 2),
        ]  # fmt: skip
        assert places(star) == [(values[1], 0.5)]
        assert members.get_facecolor()[0][:3].tolist() != list(
            star.get_facecolor()[0][:3]
        )
        assert star.get_sizes()[0] > members.get_sizes()[0]
        assert axes.get_yscale() == "log"
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")
    assert first.get_xlabel() == "learning rate"
    assert second.get_xlabel() == "weight decay"
    assert first.get_ylabel() == "lowest loss on the rows of the score"
    assert figure.get_suptitle() == "moons: 4 nets, 1 diverged"
    scores = np.array([3.0, 0.0, -1.0, 2.0])
    figure = plots.score_against(hyper, scores, "moons")
    assert figure.get_suptitle() == "moons: 4 nets"
    assert figure.axes[0].get_yscale() == "linear"


def test_classes_have_the_colours_that_everybody_tells_apart():
    """Those of Okabe and Ito, from blue on, again from the first after the seventh."""
    points = np.stack([np.arange(8.0), np.arange(8.0)], axis=1)
    names = [str(i) for i in range(8)]
    axes = axes_of(
        plots.decision_boundary(
            lambda at: at[:, 0].round().clip(0, 7).astype(int), points, np.arange(8),
            names=["a", "b"], classes=names, title="",
        )
    )  # fmt: skip
    colours = [tuple(dot.get_facecolor()[0][:3]) for dot in axes.collections]
    assert colours[:2] == [to_rgb("#0072B2"), to_rgb("#D55E00")]
    assert len(set(colours[:7])) == 7 and colours[7] == colours[0]
    assert axes.get_legend() is None  # more classes than colours


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


def test_png_has_the_bytes_of_savefig():
    step = np.arange(50.0)
    first, second = (plots.loss_curve(step, np.exp(-step), "t") for _ in range(2))
    buffer = io.BytesIO()
    first.savefig(buffer, format="png", dpi=120)
    assert plots.png(second) == buffer.getvalue()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1e-3, 1.0, {"0.001", "0.01", "0.1", "1"}), (0.3, 0.6, {"0.3", "0.4", "0.6"})],
)
def test_numbers_on_a_logarithmic_axis_are_plain(low, high, expected):
    axes = axes_of(plots.loss_curve(np.arange(2.0), np.array([high, low]), "t"))
    labels = [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]
    said = {label.get_text() for label in labels}
    assert expected <= said
    assert not any("$" in text for text in said)
