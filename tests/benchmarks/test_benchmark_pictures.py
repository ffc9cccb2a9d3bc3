"""The picture shows the fields of the rows, whatever their names and notes say."""

import pytest
from matplotlib.figure import Figure

from benchmarks.cases import Case, Contender
from benchmarks.pictures import picture
from benchmarks.results import rows_of
from benchmarks.workers import Turns


def ran(seconds, **figures):
    return Turns([seconds], figures, {}, "", "", "")


BARS = rows_of(
    Case("seed", "bars", "step", {
        "ours": Contender("f", {}, kind="funcgrad"), "theirs": Contender("f", {}),
        "absent": Contender("f", {}),
    }),
    {"ours": ran(1.0), "theirs": ran(2.0), "absent": ran(1.0)._replace(times=[])},
)  # fmt: skip
LIMIT = rows_of(
    Case("growth", "limit", "operation", {
        "peak": Contender("p", {}, kind="limit", multiply_adds=0.5),
    }),
    {"peak": ran(0.25)},
)  # fmt: skip
GROWN = rows_of(
    Case("growth", "a curve", "step", {
        "1 and 2": Contender("g", {}, multiply_adds=30),
        "none": Contender("g", {}, multiply_adds=500),
    }),
    {"1 and 2": ran(7.0), "none": ran(9.0)},
)  # fmt: skip
COMPILED = rows_of(
    Case("growth", "how", "compile", {
        "a few": Contender("c", {}, steps=4), "many": Contender("c", {}, steps=1000),
    }),
    {"a few": ran(3.0, peak_memory=1e9), "many": ran(5.0, peak_memory=2e9)},
)  # fmt: skip


def lines_of(axis):
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.lines
    }


def test_bars_are_medians_and_funcgrad_has_a_colour():
    (axis,) = picture(BARS, "title").axes
    theirs, ours = axis.patches  # from below
    assert (ours.get_width(), theirs.get_width()) == (1.0, 2.0)
    assert ours.get_facecolor() != theirs.get_facecolor()
    assert [label.get_text() for label in axis.get_yticklabels()] == ["theirs", "ours"]
    assert [text.get_text() for text in axis.texts] == ["2 s", "1 s"]
    assert axis.get_title() == "seed: bars"
    assert axis.get_xlabel() == "seconds per step"


def test_growth_is_drawn_against_multiply_adds_with_the_limit_from_its_field():
    (axis,) = picture(LIMIT + GROWN, "title").axes
    lines = lines_of(axis)
    assert lines["a curve"] == ([30, 500], [7.0, 9.0])
    # The peak does an operation in 0.25 s, and so a multiply-add in 0.5.
    assert lines["the limit: matmul peak"] == ([30, 500], [15.0, 250.0])
    (axis,) = picture(GROWN, "title").axes
    assert lines_of(axis).keys() == {"a curve"}


def test_compiling_is_drawn_against_steps_with_its_memory():
    (axis,) = picture(COMPILED, "title").axes
    lines = lines_of(axis)
    assert lines["how: seconds"] == ([4, 1000], [3.0, 5.0])
    assert lines["how: gigabytes"] == ([4, 1000], [1.0, 2.0])


@pytest.mark.parametrize("rows", [[], BARS[2:], BARS + LIMIT + GROWN + COMPILED])
def test_it_is_a_picture_however_much_there_is_to_see(rows, tmp_path):
    figure = picture(rows, "title")
    assert isinstance(figure, Figure)
    assert len(figure.axes) == (3 if len(rows) > 3 else 0)
    figure.savefig(tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
