"""The benchmarks run, in a tiny mode; no time that they measure decides a test."""

import csv
import shutil

import pytest

from benchmarks import __main__ as bench
from benchmarks import contenders


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    return bench.build_c(tmp_path_factory.mktemp("c"))


def test_the_c_program_learns(programs):
    """Its loss falls as funcgrad's does: not the same draw, but the same net."""
    import subprocess

    for program in programs.values():
        losses = [
            float(
                subprocess.run(
                    [program, "1", str(steps), "1"], capture_output=True, check=True
                ).stdout.split()[1]
            )
            for steps in (1, 1000)
        ]
        assert losses[1] < losses[0] / 100


OURS = [
    ("seed_train", {"steps": 5}),
    ("seed_fit", {"steps": 5}),
    ("seed_dispatched", {"steps": 2}),
    ("seed_equinox", {"steps": 2}),
    ("seed_nnx", {"steps": 2}),
    ("many_train_many", {"members": 4, "steps": 2}),
    ("many_vmap_plain", {"members": 4, "steps": 2}),
    ("moons_training", {"steps": 2}),
    ("wide_train", {"rows": 8, "batch": 4}),
    ("wide_fit", {"rows": 8, "batch": 4}),
    ("wide_equinox", {"rows": 8, "batch": 4}),
    ("wide_nnx", {"rows": 8, "batch": 4}),
    ("peak_jax", {"size": 8}),
    ("growth", {"sizes": [3, 4, 1], "batch": 4, "members": 3, "steps": 2}),
    ("seed_torch", {"steps": 2}),
    ("seed_micrograd", {"steps": 2}),
    ("many_torch_bmm", {"members": 4, "steps": 2}),
    ("many_torch_func", {"members": 4, "steps": 2}),
    ("moons_micrograd", {"steps": 1, "of": 10}),
    ("wide_torch", {"rows": 8, "batch": 4, "fused": True}),
    ("peak_torch", {"size": 8}),
]


@pytest.mark.filterwarnings("default")  # peers warn as they like
@pytest.mark.parametrize(("name", "arguments"), OURS, ids=[name for name, _ in OURS])
def test_a_contender_runs(name, arguments):
    try:
        run, units = getattr(contenders, name)(**arguments)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    run()
    assert units > 0


def test_every_contender_of_the_table_is_there(programs):
    for quick in (True, False):
        for case in bench.cases(quick, programs):
            for function, _ in case.contenders.values():
                assert callable(getattr(contenders, function))
        assert list(bench.growth_cases(quick))


def test_the_command_writes_its_table_and_names_who_is_absent(
    monkeypatch, tmp_path, capsys
):
    turns = bench.Case("seed", "tiny", "step", {
        "funcgrad train": ("seed_train", {"steps": 3}),
        "nobody": ("seed_absent", {}),
    })  # fmt: skip
    monkeypatch.setattr(bench, "cases", lambda quick, programs: [turns])
    monkeypatch.setattr(bench, "build_c", lambda folder: {})
    bench.main(["seed", "--quick", "--rounds", "2", "--out", str(tmp_path)])
    with open(tmp_path / "results.csv", newline="") as file:
        ours, nobody = csv.DictReader(file)
    assert float(ours["median"]) > 0
    assert ours["rounds"] == "2"
    assert float(ours["ratio"]) == 1
    assert nobody["median"] == "nan"
    assert nobody["note"].startswith("absent: ")
    assert "absent: a C compiler" in capsys.readouterr().out
    assert "jax" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_growth_is_compared_with_the_best_of_its_own_curve(monkeypatch, tmp_path):
    net = {"sizes": [2, 2], "batch": 1, "members": 1, "steps": 1}
    points = [("width", "small", 10, net), ("width", "large", 2_000_000, net)]
    monkeypatch.setattr(bench, "growth_cases", lambda quick: points)
    versions = {}
    rows = bench.run_growth(True, 1, versions)
    peak, small, large = rows
    assert peak.unit == "operation" and peak.median > 0
    assert large.ratio == 1  # the only one of a million multiply-adds
    assert small.ratio == pytest.approx(small.median / large.median * 2e5)
    assert "2000000 multiply-adds" in large.note
    assert "jax" in versions
    rows.append(large._replace(case="1,000 steps", contender="fit, compiling",
                               unit="compile", note="peak memory 99 MB"))  # fmt: skip
    bench.draw(tmp_path / "growth.png", rows, "growth")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_item_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["everything"])
    assert "items are seed, many, moons, wide, growth" in capsys.readouterr().err
