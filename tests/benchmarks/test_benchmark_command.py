"""`python -m benchmarks`, run in this process with other cases."""

import csv
import json
import runpy
import sys

import pytest
from fake_interpreters import python_without

from benchmarks import cases, programs
from benchmarks.cases import Case, Contender

SEED = {"problem": "seed", "steps": 3}


@pytest.fixture
def command(monkeypatch):
    """Return the command, for which there is one small case and no C compiler."""
    tiny = Case("seed", "tiny", "step", {
        "funcgrad train": Contender("step_train", SEED, kind="funcgrad"),
        "nobody": Contender("step_torch", SEED, peer="torch"),
        "broken": Contender("seed_absent", {}),
    })  # fmt: skip
    monkeypatch.setattr(cases, "cases_of", lambda items, quick, programs: [tiny])
    monkeypatch.setattr(programs, "build", lambda folder, quick: {})

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
        runpy.run_module("benchmarks", run_name="__main__")

    return run


def test_the_command_writes_its_table_and_names_who_is_absent(
    command, tmp_path, capsys
):
    torch = f"torch={python_without(tmp_path / 'python', 'torch')}"
    command("seed", "--quick", "--rounds", 2, "--out", tmp_path, "--python", torch)
    with open(tmp_path / "results.csv", newline="") as file:
        ours, nobody, broken = csv.DictReader(file)
    assert float(ours["median"]) > 0
    assert ours["rounds"] == "2"
    assert float(ours["ratio"]) == 1
    assert nobody["median"] == "nan"
    assert nobody["note"] == 'absent: needs torch: pip install "funcgrad[bench]"'
    assert broken["note"] == "failed: KeyError: 'seed_absent'"
    said = capsys.readouterr().out
    assert "absent: a C compiler" in said
    assert nobody["note"] in said and broken["note"] in said
    assert "jax" in (tmp_path / "results.md").read_text()
    for name in ("results.png", "steps.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["rounds"] == 2 and told["quick"] is True
    assert "jax" in told["versions"]
    assert len(told["rows"][0]["times"]) == 2
    assert told["rows"][1]["absent"] == 'needs torch: pip install "funcgrad[bench]"'


def test_without_matplotlib_the_rest_is_written_and_the_extra_named(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(cases, "cases_of", lambda items, quick, programs: [])
    command("--out", tmp_path)
    said = capsys.readouterr().out
    assert 'no picture: needs matplotlib: pip install "funcgrad[bench]"' in said
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"results.json", "results.csv", "results.md"}
    assert ".png" not in said


@pytest.mark.exhaustive
def test_growth_is_measured_with_its_limit(command, tmp_path, monkeypatch):
    """The processes run; what becomes of their numbers, the tests of results say."""
    (limits,) = cases.limits_cases(True, {})
    curve, *_, compiling = cases.growth_cases(True, {})
    net = {"sizes": [2, 2], "batch": 1, "members": 1, "steps": 1}
    point = Contender("growth", net, work={"multiply-add": 2_000_000})
    curve = curve._replace(contenders={"large": point})
    ten = {"10 steps": compiling.contenders["10 steps"]}
    chosen = [limits, curve, compiling._replace(contenders=ten)]
    monkeypatch.setattr(cases, "cases_of", lambda items, quick, programs: chosen)
    command("growth", "--quick", "--rounds", 2, "--out", tmp_path)
    told = json.loads((tmp_path / "results.json").read_text())
    assert "jax" in told["versions"]
    limit, large, compiled = told["rows"]
    assert limit["unit"] == "multiply-add" and limit["median"] > 0
    assert limit["multiply_adds_per_second"] == pytest.approx(1 / limit["median"])
    assert large["ratio"] == 1 and large["rounds"] == 2
    assert large["limit"] == pytest.approx(2_000_000 * limit["minimum"])
    assert large["share_of_limit"] == pytest.approx(large["limit"] / large["median"])
    assert compiled["steps"] == 10 and compiled["peak_memory"] > 10e6
    assert compiled["rounds"] == 1 and compiled["median"] > 0
    assert compiled["limit"] is None


def test_an_unknown_item_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("everything")
    assert (
        "items are limits, seed, small, many, moons, wide, gpt, devices, growth"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("tensorflow=python", "--python knows torch, micrograd, sklearn, equinox, nnx"),
        ("torch=/no/such/python", "there is no such program"),
        ("torch", "there is no such program"),
    ],
)
def test_an_unknown_peer_or_interpreter_is_refused(command, capsys, pair, sentence):
    with pytest.raises(SystemExit):
        command("seed", "--python", pair)
    assert sentence in capsys.readouterr().err
