"""`funcgrad sweep`: many nets on a table, the best saved as a model."""

import csv
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from shell import ENVIRONMENT

from funcgrad import tasks
from funcgrad.cli import main
from funcgrad.cli.sweep import parse_range
from funcgrad.data import moons
from funcgrad.errors import InputError
from funcgrad.tasks import Range


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "moons.csv"
    x, y = moons(60)
    rows = ["x1,x2,side", *(f"{a},{b},{s}" for (a, b), s in zip(x, y, strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.exhaustive
def test_sweep_saves_the_best_of_its_nets(table, tmp_path, capsys):
    folder = tmp_path / "out"
    arguments = [
        "sweep", str(table), "--target", "side", "--members", "6", "--steps", "40",
        "--learning-rate", "1e-4..1e-1", "--weight-decay", "1e-5..1e-2",
        "--momentum", "0.5..0.95", "--init-scale", "0.5..2", "--hidden", "4",
        "--out", str(folder),
    ]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "sweep: 6 nets, learning rate 0.0001..0.1" in said
    assert "falling to a tenth, 40 steps of 32 rows" in said
    assert "the rows that chose the net: accuracy" in said
    with open(folder / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses)
    assert all(1e-4 <= float(row["learning_rate"]) <= 1e-1 for row in rows)
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")

    # The saved model is a model like any other.
    assert main(["evaluate", str(folder / "model.safetensors"), str(table)]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_every_option_reaches_the_sweep(table, tmp_path, monkeypatch, capsys):
    asked = {}

    def sweep(task, ranges, recipe, **settings):
        asked.update(settings, task=task, ranges=ranges, recipe=recipe)
        raise InputError("that is enough")

    monkeypatch.setattr(tasks, "sweep", sweep)
    options = (
        "--members 7 --learning-rate 1e-3..1e-2 --weight-decay 1e-5..1e-4 "
        "--momentum 0.5..0.9 --init-scale 2 --hidden 5,4 --activation sigmoid "
        "--optimizer rmsprop --steps 70 --batch-size 10 --seed 3 --out"
    )
    given = ["sweep", str(table), "--target", "side", *options.split(), str(tmp_path)]
    assert main(given) == 2
    assert capsys.readouterr().err == "funcgrad: that is enough\n"
    assert asked["ranges"] == {
        "learning_rate": Range(1e-3, 1e-2),
        "weight_decay": Range(1e-5, 1e-4),
        "momentum": Range(0.5, 0.9, in_log=False),
        "init_scale": Range(2.0, 2.0),
    }
    assert (asked["members"], asked["seed"]) == (7, 3)
    recipe = asked["recipe"]
    assert (recipe.hidden, recipe.activation) == ((5, 4), "sigmoid")
    assert (recipe.optimizer, recipe.steps, recipe.batch_size) == ("rmsprop", 70, 10)
    held_out = tasks.load(table, "side", seed=3).held_out
    assert np.array_equal(asked["task"].held_out, held_out)
    assert callable(asked["progress"])


def test_the_best_are_said_with_their_settings_and_the_diverged_counted(
    tmp_path, monkeypatch, capsys
):
    """An infinite rate leaves no number behind, and does not disturb the others."""
    monkeypatch.setattr(
        Range, "draw", lambda self, random, members: np.array([np.inf, 0.01, 0.125])
    )
    out = tmp_path / "out"
    given = ["sweep", "xor", "--members", "3", "--steps", "5", "--optimizer", "sgd"]
    assert main([*given, "--out", str(out)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["place", "loss", "learning_rate"])
    assert [line[0] for line in lines[at + 1 : at + 4]] == ["1", "2", "3"]
    assert {lines[at + 1][2], lines[at + 2][2]} == {"0.01", "0.125"}
    assert lines[at + 3][1:] == ["inf", "inf"]
    assert float(lines[at + 1][1]) <= float(lines[at + 2][1])
    assert lines[at + 4] == ["1", "of", "3", "nets", "diverged"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--learning-rate", "0..1"], "--learning-rate must be one number above 0"),
        (["--learning-rate", "1..0.1"], "got '1..0.1'"),
        (["--momentum", "0.5..1"], "--momentum must be one number above 0 and below 1"),
        (["--members", "0"], "--members must be at least 1, got 0"),
    ],
)
def test_bad_ranges_are_one_sentence(arguments, sentence, table, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["sweep", str(table), "--target", "side", "--out", str(out), *arguments]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not out.exists()


def test_ranges_are_drawn_evenly_in_the_logarithm():
    drawn = Range(1e-4, 1e-1).draw(np.random.default_rng(0), 10_000)
    counts, _ = np.histogram(np.log10(drawn), bins=[-4, -3, -2, -1])
    assert counts.sum() == 10_000
    # A third each; five standard deviations of a binomial either side, seed fixed.
    assert np.all(abs(counts - 10_000 / 3) < 5 * np.sqrt(10_000 * 2 / 9))
    assert parse_range("x", "0.5") == Range(0.5, 0.5)
    with pytest.raises(InputError, match=r"two as LOW\.\.HIGH"):
        parse_range("x", "a..b..c")


def test_ctrl_c_is_one_sentence_and_writes_nothing(tmp_path):
    command = [
        sys.executable, "-m", "funcgrad", "sweep", "moons", "--steps", "1000000000",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=ENVIRONMENT, cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            while not process.stdout.readline().startswith("sweep: "):
                pass
            time.sleep(3 + 3 * random.random())  # it compiles, or is in a call
            told = time.perf_counter()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
            seconds = time.perf_counter() - told
        finally:
            process.kill()
    assert error == "funcgrad: stopped by Ctrl-C; no file is half written\n"
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    # Of the issue: so long a user waits at most.
    assert seconds < 2
