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


def products(count):
    return {"multiply-add": count}


def wide():
    """Return rows of a net with 100 multiply-adds a step, and of two limits."""
    net = Contender("f", {}, work=products(100))
    peak = Contender("p", {}, kind="limit", work=products(1))
    case = Case("wide", "a net", "step", {
        "first": net, "second": net, "slow peak": peak, "peak": peak, "nobody": net,
    }, rows=3)  # fmt: skip
    return results.rows_of(case, {
        "first": ran(6.0, 1.0, 2.0), "second": ran(8.0), "slow peak": ran(0.02),
        "peak": ran(0.01), "nobody": ABSENT,
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
    second = second._replace(times=(), times_c=2.5, share_of_limit=0.12345)
    cells = dict(zip(results.HEADER, results.cells(second), strict=True))
    assert cells == {
        "case": "a net", "contender": "second", "median": "8 s", "minimum": "8 s",
        "per": "step", "ratio": "4", "times C": "2.5", "of limit": "12.3 %",
        "rounds": "1", "note": "0 rows/s, 12% of the matmul peak",
    }  # fmt: skip
    assert results.cells(first)[2:4] == ["2 s", "1 s"]
    assert results.cells(first)[6:8] == ["", ""]
    line = results.terminal_line(results.cells(first))
    assert line.split()[:7] == ["a", "net", "first", "2", "s", "1", "s"]


def test_speeds_are_told_in_units_of_a_thousand_millions():
    net = Contender("f", {}, work=products(3_000_000))
    peak = Contender("p", {}, kind="limit", work=products(1))
    tanh = Contender("p", {}, kind="limit", work={"tanh": 1})
    case = Case("growth", "a net", "step", {"net": net, "peak": peak, "tanh": tanh})
    turns = {"net": ran(2**-9), "peak": ran(2**-32), "tanh": ran(2e-9)}
    grown, limit, other = results.rows_of(case, turns)
    # 3 million in 1/512 s, and one in 2^-32 s, of two operations.
    said = "3,000,000 multiply-adds, 1.54 G/s, 36% of the matmul peak"
    assert results.note(grown) == said
    assert results.note(limit) == "8.59 GFLOP/s, 4.29 G multiply-adds/s"
    assert results.note(other) == "0.5 G/s"
    case = Case("wide", "a net", "step", {"it": Contender("f", {})}, rows=2)
    (epoch,) = results.rows_of(case, {"it": ran(2**-10)})
    assert results.note(epoch) == "2,048 rows/s"


def test_rows_per_second_and_the_share_of_the_best_matmul_are_fields():
    first, second, slow, peak, nobody = wide()
    assert peak.multiply_adds_per_second == 100 and peak.unit == "multiply-add"
    assert (first.rows_per_second, second.rows_per_second) == (1.5, 0.375)
    assert (first.share_of_peak, second.share_of_peak) == (0.5, 0.125)
    for row in (slow, peak, nobody):
        assert row.share_of_peak is row.rows_per_second is None
        assert math.isnan(row.ratio)


def test_the_seconds_of_an_operation_are_those_of_its_best_turn():
    rows = wide()
    assert results.seconds_of(rows) == {"multiply-add": 0.01}
    quicker = rows[2]._replace(times=(0.3, 0.004), minimum=0.004)
    tanh = rows[3]._replace(unit="tanh", times=(0.5,), minimum=0.5)
    absent = rows[3]._replace(unit="byte", times=(), minimum=float("nan"))
    expected = {"multiply-add": 0.004, "tanh": 0.5}
    assert results.seconds_of([*rows, quicker, tanh, absent]) == expected


def test_times_are_compared_with_the_limit_and_with_the_fastest_c():
    work = {"multiply-add": 10, "dependent-tanh": 2}
    kinds = {"it": "funcgrad", "C": "C", "faster C": "C", "nobody": "other"}
    contenders = {
        name: Contender("f", {}, kind, work=work) for name, kind in kinds.items()
    }
    contenders["peak"] = Contender("p", {}, "limit", work=products(1))
    turns = {"it": ran(8.0), "C": ran(4.0), "faster C": ran(2.0), "peak": ran(0.1)}
    case = Case("seed", "case", "step", contenders)
    turns["nobody"] = ABSENT
    seconds = {"multiply-add": 0.05, "dependent-tanh": 0.5}
    it, c, faster, nobody, peak = results.rows_of(case, turns, seconds)
    assert [row.times_c for row in (it, c, faster)] == [4, 2, 1]
    assert [row.share_of_limit for row in (it, c, faster)] == [0.125, 0.25, 0.5]
    assert it.limit == nobody.limit == 1  # two tanh, one after the other
    assert nobody.times_c is nobody.share_of_limit is None
    assert peak.times_c is peak.limit is peak.share_of_limit is None
    del contenders["C"], contenders["faster C"]
    for row in results.rows_of(case, turns):
        assert row.times_c is row.limit is row.share_of_limit is None


def test_the_flags_that_won_are_told():
    case = Case("seed", "case", "step", {"C": Contender("f", {}, "C", flags="-O3 -DX")})
    (row,) = results.rows_of(case, {"C": ran(1.0)})
    assert row.flags == results.note(row) == "-O3 -DX"


def test_growth_is_compared_with_the_best_of_its_own_curve():
    net = Contender("growth", {}, work=products(10))
    case = Case("growth", "width", "step", {
        "small": net,
        "middle": net._replace(work=products(1_000_000)),
        "large": net._replace(work=products(2_000_000)),
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
    net = Contender("growth", {}, work=products(10))
    rows = results.rows_of(Case("growth", "width", "step", {"it": net}), {"it": ABSENT})
    assert math.isnan(rows[0].ratio)
    pair = {"nobody": net, "it": net}
    case = Case("seed", "case", "step", pair)
    _, row = results.rows_of(case, {"nobody": ABSENT, "it": ran(1.0)})
    assert math.isnan(row.ratio) and row.median == 1


def test_cpu_time_is_a_number_and_noted():
    case = Case("gpt", "case", "sample", {"it": Contender("f", {})})
    (row,) = results.rows_of(case, {"it": ran(0.5, cpu_seconds_per_unit=3e-6)})
    assert row.cpu == 3e-6 and results.note(row) == "CPU 3 us"


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
    assert results.note(first) == "2 rows/s, 50% of the matmul peak"
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
        assert line["work"] == row.work
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
    line = "| a net | first | 2 s | 1 s | step | 1 |  |  | 3 | 2 rows/s, 50% of "
    assert line in text


def test_versions_are_those_of_whoever_told_them_first():
    first, second, *_ = wide()
    first = first._replace(versions={"python": "2", "torch": "7"})
    second = second._replace(versions={"torch": "8", "flax": "9"})
    versions = results.versions_of([first, second])
    assert (versions["torch"], versions["flax"]) == ("7", "9")
    assert versions["python"] != "2"  # the one that runs the benchmarks
