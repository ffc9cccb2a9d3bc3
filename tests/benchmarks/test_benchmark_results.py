"""Rows are numbers; the table, the files and the notes are made of them."""

import csv
import json
import math

import pytest

from benchmarks import results
from benchmarks.cases import Case, Contender
from benchmarks.workers import Turns

MACHINE = results.Machine("a chip", 2, "Linux", 0.25)
RUN = results.Run("2026-01-02", MACHINE, {"python": "3", "jax": "1"}, 3, True)


def ran(*times, **figures):
    return Turns(list(times), figures, {"python": "3"}, "", "", "")


ABSENT = Turns([], {}, {}, "", 'needs torch: pip install "funcgrad[bench]"', "")
FAILED = Turns([2.0], {}, {"python": "3"}, "", "", "no room")


def wide():
    """Return rows of a net with 100 multiply-adds a row, and of two limits."""
    net = Contender("f", {}, multiply_adds=100)
    peak = Contender("p", {}, kind="limit", multiply_adds=0.5)
    case = Case("wide", "a net", "row", {
        "first": net, "second": net, "slow peak": peak, "peak": peak, "nobody": net,
    })  # fmt: skip
    return results.rows_of(case, {
        "first": ran(6.0, 1.0, 2.0), "second": ran(8.0), "slow peak": ran(0.01),
        "peak": ran(0.005), "nobody": ABSENT,
    })  # fmt: skip


def test_a_row_has_the_median_the_minimum_and_the_ratio_to_the_first():
    first, second, *_ = wide()
    assert (first.median, first.minimum, first.rounds) == (2.0, 1.0, 3)
    assert first.times == (6.0, 1.0, 2.0)
    assert (first.ratio, second.ratio) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (120.0, "120 s"), (1.0, "1 s"), (0.5, "500 ms"), (0.0125, "12.5 ms"),
        (1e-3, "1 ms"), (2.5e-4, "250 us"), (3e-6, "3 us"), (4.56e-8, "45.6 ns"),
        (1e-9, "1 ns"), (2e-12, "2 ps"), (float("nan"), ""),
    ],
)  # fmt: skip
def test_times_are_told_in_the_unit_that_suits_them(seconds, said):
    assert results.readable(seconds) == said


def test_cells_stand_under_their_headers():
    first, second, *_ = wide()
    cells = dict(
        zip(results.HEADER, results.cells(second._replace(times=())), strict=True)
    )
    assert cells == {
        "case": "a net", "contender": "second", "median": "8 s", "minimum": "8 s",
        "per": "row", "ratio": "4", "rounds": "1", "note": "0 rows/s, 12% of peak",
    }  # fmt: skip
    assert results.cells(first)[2:4] == ["2 s", "1 s"]
    assert results.terminal_line(first).split()[:7] == [
        "a", "net", "first", "2", "s", "1", "s",
    ]  # fmt: skip


def test_speeds_are_told_in_units_of_a_thousand_millions():
    net = Contender("f", {}, multiply_adds=3_000_000)
    peak = Contender("p", {}, kind="limit", multiply_adds=0.5)
    case = Case("growth", "a net", "step", {"net": net, "peak": peak})
    turns = {"net": ran(2**-9), "peak": ran(2**-33)}
    grown, limit = results.rows_of(case, turns)
    # 3 million in 1/512 s, and half of one in 2^-33 s: 2^32, of two operations each.
    assert results.note(grown) == "3,000,000 multiply-adds, 1.54 G/s, 36% of peak"
    assert results.note(limit) == "8.59 GFLOP/s, 4.29 G multiply-adds/s"
    row = Contender("f", {}, multiply_adds=100)
    (epoch,) = results.rows_of(
        Case("wide", "a net", "row", {"it": row}), {"it": ran(2**-10)}
    )
    assert results.note(epoch) == "1,024 rows/s"


def test_rows_per_second_and_the_share_of_the_best_matmul_are_fields():
    first, second, slow, peak, nobody = wide()
    assert peak.multiply_adds_per_second == 100 and peak.unit == "operation"
    assert (first.rows_per_second, second.rows_per_second) == (0.5, 0.125)
    assert (first.share_of_peak, second.share_of_peak) == (0.5, 0.125)
    for row in (slow, peak, nobody):
        assert row.share_of_peak is row.rows_per_second is None
        assert math.isnan(row.ratio)


def test_growth_is_compared_with_the_best_of_its_own_curve():
    net = Contender("growth", {}, multiply_adds=10)
    case = Case("growth", "width", "step", {
        "small": net,
        "middle": net._replace(multiply_adds=1_000_000),
        "large": net._replace(multiply_adds=2_000_000),
    })  # fmt: skip
    turns = {"small": ran(1e-6), "middle": ran(3.0), "large": ran(4.0)}
    small, middle, large = results.rows_of(case, turns)
    assert large.ratio == 1  # the best of those of a million multiply-adds
    assert middle.ratio == pytest.approx(1.5)
    assert small.ratio == pytest.approx(small.median / large.median * 2e5)
    assert (large.multiply_adds, large.multiply_adds_per_second) == (2_000_000, 5e5)
    assert "2,000,000 multiply-adds" in results.note(large)
    (alone,) = results.rows_of(case._replace(contenders={"small": net}), turns)
    assert alone.ratio == 1  # where none is that large


def test_a_ratio_is_to_nobody_where_the_best_is_not_there():
    net = Contender("growth", {}, multiply_adds=10)
    rows = results.rows_of(Case("growth", "width", "step", {"it": net}), {"it": ABSENT})
    assert math.isnan(rows[0].ratio)
    pair = {"nobody": net, "it": net}
    case = Case("seed", "case", "step", pair)
    _, row = results.rows_of(case, {"nobody": ABSENT, "it": ran(1.0)})
    assert math.isnan(row.ratio) and row.median == 1


def test_compiling_has_steps_and_peak_memory_as_numbers():
    case = Case("growth", "compiling fit", "compile", {
        "a thousand": Contender("compiling", {}, steps=1000),
    })  # fmt: skip
    (row,) = results.rows_of(case, {"a thousand": ran(0.5, peak_memory=99_000_000)})
    assert (row.steps, row.peak_memory) == (1000, 99_000_000)
    assert results.note(row) == "peak memory 99 MB"
    assert math.isnan(row.ratio)


def test_notes_tell_the_figures_and_who_is_absent_or_failed():
    case = Case("seed", "case", "step", dict.fromkeys("abc", Contender("f", {})))
    away = Turns([1.0], {}, {"python": "3.9", "torch": "2"}, "/bin/python", "", "")
    a, b, c = results.rows_of(case, {"a": ABSENT, "b": FAILED, "c": away})
    assert results.note(a) == 'absent: needs torch: pip install "funcgrad[bench]"'
    assert results.note(b) == "failed: no room" and b.median == 2
    assert results.note(c) == "python 3.9, torch 2"
    first, _, _, peak, _ = wide()
    assert results.note(first) == "0 rows/s, 50% of peak"
    assert results.note(peak).startswith("2e-07 GFLOP/s")


def test_everything_is_in_the_json(tmp_path):
    rows = wide()
    results.write(tmp_path, RUN, rows)
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["machine"] == MACHINE._asdict()
    assert told["versions"] == RUN.versions
    assert (told["date"], told["rounds"], told["quick"]) == ("2026-01-02", 3, True)
    assert len(told["rows"]) == len(rows)
    for line, row in zip(told["rows"], rows, strict=True):
        assert line.keys() == set(results.Row._fields)
        assert line["times"] == list(row.times)
        assert line["share_of_peak"] == row.share_of_peak
        assert line["multiply_adds"] == row.multiply_adds
    assert told["rows"][-1]["median"] is None  # JSON has no nan
    assert told["rows"][-1]["absent"] == ABSENT.absent


def test_the_table_is_written_as_csv_and_as_markdown(tmp_path):
    rows = wide()
    results.write(tmp_path, RUN, rows)
    with open(tmp_path / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["median"]) for line in lines[:2]] == [2.0, 8.0]
    assert lines[-1]["median"] == "nan"
    assert float(lines[0]["share_of_peak"]) == 0.5
    assert lines[0]["steps"] == ""
    assert [line["note"] for line in lines] == [results.note(row) for row in rows]
    text = (tmp_path / "results.md").read_text()
    assert text.startswith("2026-01-02, a chip, 2 cores, Linux, load 0.2; python 3, ")
    assert "| a net | first | 2 s | 1 s | row | 1 | 3 | 0 rows/s, 50% of peak |" in text


def test_versions_are_those_of_whoever_told_them_first():
    first, second, *_ = wide()
    first = first._replace(versions={"python": "2", "torch": "7"})
    second = second._replace(versions={"torch": "8", "flax": "9"})
    versions = results.versions_of([first, second])
    assert (versions["torch"], versions["flax"]) == ("7", "9")
    assert versions["python"] != "2"  # the one that runs the benchmarks
