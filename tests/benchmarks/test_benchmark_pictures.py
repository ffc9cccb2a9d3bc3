"""The pictures show the fields of the rows, whatever their names and notes say."""

import pytest
from matplotlib.figure import Figure

from benchmarks.cases import Case, Contender
from benchmarks.pictures import picture, picture_of_steps, rounded
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
        "peak": Contender("p", {}, kind="limit", work={"multiply-add": 1}),
    }),
    {"peak": ran(0.5)},
)  # fmt: skip
GROWN = rows_of(
    Case("growth", "a curve", "step", {
        "1 and 2": Contender("g", {}, work={"multiply-add": 30}),
        "none": Contender("g", {}, work={"multiply-add": 500}),
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
    # The peak does a multiply-add in 0.5 s.
    assert lines["the limit: multiply-adds"] == ([30, 500], [15.0, 250.0])
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


def net(name, size, **seconds):
    """Return the rows of a case that is in the picture of the steps."""
    names = {"ours": "funcgrad train", "c": "best C", "theirs": "PyTorch eager"}
    work = {"multiply-add": size}
    contenders = {names[who]: Contender("f", {}, work=work) for who in seconds}
    contenders["Equinox"] = Contender("f", {}, work=work)
    turns = {names[who]: ran(time) for who, time in seconds.items()}
    contenders["peak"] = Contender("p", {}, "limit", work={"multiply-add": 1})
    turns |= {"Equinox": ran(1.0), "peak": ran(1.0)}
    return rows_of(Case("seed", "case", "step", contenders, net=name), turns)


def test_steps_are_drawn_against_their_size_with_what_torch_takes_longer():
    large = net("large, 2 rows", 1000, ours=4.0, theirs=10.0)
    small = net("small, 1 rows", 10, ours=0.5, c=0.25, theirs=617.0)
    (axis,) = picture_of_steps([*large, *small, *BARS, *GROWN]).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
    theirs, ours, c = lines
    assert theirs == ([10, 1000], [617.0, 10.0])
    assert ours == ([10, 1000], [0.5, 4.0])
    assert c == ([10], [0.25])
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    ticks = zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)
    named = {size: label.get_text() for size, label in ticks}
    assert named == {10: "small\n1 rows", 1000: "large\n2 rows"}
    said = {text.get_text() for text in axis.texts if text.get_text()}
    assert said == {"PyTorch", "funcgrad", "C by hand", "1,200 x", "2.5 x"}
    assert "up to 1,200 times" in axis.get_title(loc="left")


def test_steps_without_torch_or_at_all_promise_nothing(tmp_path):
    alone = net("small, 1 rows", 10, ours=0.5)
    for rows in (alone, [], BARS):
        figure = picture_of_steps(rows)
        (axis,) = figure.axes
        assert axis.get_title(loc="left") == "A training step"
        figure.savefig(tmp_path / "steps.png")
        assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("ratio", "said"), [(1034.0, "1,000"), (2.94, "2.9"), (0.456, "0.46"), (21.0, "21")]
)
def test_ratios_have_two_digits(ratio, said):
    assert rounded(ratio) == said
