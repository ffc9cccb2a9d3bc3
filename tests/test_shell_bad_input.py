"""Bad input to the command: one sentence, exit code 2, and nothing written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import funcgrad as fg
from funcgrad import cli

ROWS = [f"{i % 7},{i * i % 11},{'yes' if i % 3 else 'no'}" for i in range(40)]
GOOD = "\n".join(["a,b,y", *ROWS]) + "\n"
QUANTITY = "a,b,y\n" + "".join(f"{i % 7},{i * i % 11},{i / 2}\n" for i in range(40))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command and checks that it refuses properly.

    The folder holds a run of an earlier day, which must stay as it is.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("t", "moons"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.safetensors").write_text("of yesterday")

    def check(*arguments: str) -> str:
        before = snapshot(tmp_path)
        code = cli.main(arguments)
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("funcgrad: ")
        assert error.count("\n") == 1, error
        assert "Traceback" not in error
        assert snapshot(tmp_path) == before
        return error.removeprefix("funcgrad: ").strip()

    return check


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder with the model of a classifier and that of a regression."""
    folder = tmp_path_factory.mktemp("models")
    for name, content in {"classes": GOOD, "quantity": QUANTITY}.items():
        table = folder / f"{name}.csv"
        table.write_text(content)
        arguments = ["train", str(table), "--target", "y", "--out", str(folder / name)]
        assert cli.main([*arguments, "--steps", "2"]) == 0
    return folder


def test_the_guard_itself_can_fail(refused, tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    with pytest.raises(AssertionError):
        refused("train", "t.csv", "--target", "y", "--steps", "1")
    assert (tmp_path / "runs/t/model.safetensors").read_bytes() != b"of yesterday"


TABLES = {
    "empty": ("", "t.csv is empty: give a CSV table whose first line names"),
    "header only": ("a,b,y\n", "t.csv has a header but no rows: add at least one row"),
    "one row": ("a,b,y\n1,2,no\n", "needs at least 5 rows, as one in 5 is held out"),
    "missing values": (
        GOOD + ",NA,no\n3,,yes\n",
        "missing values, 1 in 'a', 2 in 'b': fill them in or leave these rows out",
    ),
    "short row": (GOOD + "1,2\n", "missing values, 1 in 'y'"),
    "long row": (GOOD + "1,2,no,5\n", "t.csv is not a CSV table that can be read"),
    "infinity": (
        GOOD + "inf,2,no\n-inf,2,no\n",
        "column 'a' must hold finite numbers, got inf in row 41 and 1 more",
    ),
    "too large": (
        GOOD + "1e300,2,no\n-1e300,2,no\n",
        "column 'a' has numbers too large to square",
    ),
    "a word among numbers": (
        GOOD + "many,2,no\n",
        "column 'a' must hold numbers, got 'many' in row 41: correct it",
    ),
    "one class": (
        GOOD.replace("yes", "no"),
        "target 'y' is always 'no', so there is nothing to learn",
    ),
    "class of one row": (
        GOOD + "1,2,maybe\n",
        "each class needs at least 2 rows, one to learn from and one for the score; 1 "
        "of the 3 classes in 'y' have one, such as 'maybe'",
    ),
    "constant quantity": (
        "a,b,y\n" + "".join(f"{i},{i},0.5\n" for i in range(9)),
        "target 'y' is always 0.5 in the rows to train on, so there is nothing",
    ),
    "constant columns": (
        "a,b,y\n" + "".join(f"3,x,{i}.5\n" for i in range(9)),
        "leaves no column to predict 'y' from: 'a', 'b' (the same in every row)",
    ),
    "no other column": ("y\n" + "no\nyes\n" * 5, "leaves no column to predict 'y'"),
    "text in a quantity": (
        QUANTITY + "1,2,much\n",
        "column 'y' must hold numbers, got 'much' in row 41: correct it",
    ),
    "two columns of one name": ("a,a,y\n1,2,no\n", "has two columns named 'a'"),
    "column without name": ("a,,y\n1,2,no\n", "has no name for column 2"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_learnt(refused, tmp_path, case):
    content, sentence = TABLES[case]
    (tmp_path / "t.csv").write_text(content)
    assert sentence in refused("train", "t.csv", "--target", "y")


def test_files_that_are_no_tables(refused, tmp_path):
    assert "there is no file no.csv" in refused("train", "no.csv", "--target", "y")
    assert "runs is a folder" in refused("train", "runs", "--target", "y")
    assert "did you mean moons?" in refused("train", "moon")
    for name, content in {"head": b"\xff\xfea,y\n", "body": b"a,y\n\xff,1\n"}.items():
        (tmp_path / f"{name}.csv").write_bytes(content)
        error = refused("train", f"{name}.csv", "--target", "y")
        assert error.startswith(f"{name}.csv is not")


OPTIONS = {
    "unknown target": ("--target yy", "no column 'yy'; it has 'a', 'b', 'y': did you"),
    "no target": ("", "t.csv needs --target COLUMN, the column to predict, one of 'a'"),
    "no sizes": ("--target y --hidden=", "--hidden must be whole numbers above 0"),
    "size 0": ("--target y --hidden 16,0", "such as 16,16, got '16,0'"),
    "size -1": ("--target y --hidden=-1", "got '-1'"),
    "size of a half": ("--target y --hidden 1.5", "got '1.5'"),
    "batch too large": (
        "--target y --batch-size 33",
        "--batch-size must be from 1 to the 32 rows to train on, got 33",
    ),
    "batch of none": ("--target y --batch-size 0", "to train on, got 0"),
    "negative rate": (
        "--target y --learning-rate -0.1",
        "--learning-rate must be a finite number above 0, got -0.1",
    ),
    "no rate": ("--target y --learning-rate 0", "above 0, got 0"),
    "nan rate": ("--target y --learning-rate nan", "above 0, got nan"),
    "infinite rate": ("--target y --learning-rate inf", "above 0, got inf"),
    "no steps": ("--target y --steps 0", "--steps must be at least 1, got 0"),
    "negative seed": ("--target y --seed -1", "--seed must be from 0 to 4294967295"),
    "activation": (
        "--target y --activation gelu",
        "--activation must be one of relu, tanh, sigmoid, linear, got 'gelu'",
    ),
    "optimizer": (
        "--target y --optimizer lion",
        "--optimizer must be one of sgd, adam, adamw, rmsprop, got 'lion'",
    ),
    "file as folder": ("--target y --out t.csv", "t.csv is a file: choose another"),
    "folder in file": ("--target y --out t.csv/a/b", "cannot be written, as"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_make_no_sense(refused, tmp_path, case):
    options, sentence = OPTIONS[case]
    (tmp_path / "t.csv").write_text(GOOD)
    assert sentence in refused("train", "t.csv", *options.split())


def test_drawn_points_have_their_own_target(refused):
    assert "moons has a target of its own" in refused("train", "moons", "--target", "y")


def test_options_that_are_no_numbers_are_refused_too(capsys):
    assert cli.main(["train", "moons", "--steps", "many"]) == 2
    assert "Invalid value for '--steps'" in capsys.readouterr().err
    assert cli.main(["learn"]) == 2
    assert "No such command 'learn'" in capsys.readouterr().err


def test_a_run_that_diverges_writes_nothing(refused):
    error = refused("train", "moons", "--learning-rate", "1e9")
    assert error.startswith("the loss was no longer a finite number at step ")
    assert error.endswith("lower --learning-rate, now 1e+09")


def test_a_disk_that_fails_half_way_leaves_the_old_run(refused, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("funcgrad.plots.png", full)
    assert "cannot be written: No space left" in refused("train", "moons")


PREDICTIONS = {
    "other columns": (
        "a,c\n1,2\n",
        "the table has no column 'b'; it has 'a', 'c'",
    ),
    "header only": ("a,b,y\n", "has a header but no rows"),
    "missing values": ("a,b\n1,2\n,3\n", "missing values, 1 in 'a'"),
    "infinity": ("a,b\n1,2\ninf,3\n", "column 'a' must hold finite numbers, got inf"),
    "text": ("a,b\n1,2\nx,3\n", "column 'a' must hold numbers, got 'x' in row 2"),
    "far away": ("a,b\n1,2\n1e60,3\n", "row 2 has a number too far from those in tr"),
    "a column of ours": (
        "a,b,prediction\n1,2,yes\n",
        "has a column 'prediction' already, which predict would add: rename it",
    ),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_tables_that_cannot_be_predicted(refused, models, tmp_path, case):
    content, sentence = PREDICTIONS[case]
    (tmp_path / "t.csv").write_text(content)
    model = str(models / "classes/model.safetensors")
    assert sentence in refused("predict", model, "t.csv", "--out", "p.csv")


def test_tables_that_cannot_be_scored(refused, models, tmp_path):
    classes = str(models / "classes/model.safetensors")
    quantity = str(models / "quantity/model.safetensors")
    for model, content, sentence in [
        (classes, "a,b\n1,2\n", "no column 'y'"),
        (
            classes,
            "a,b,y\n1,2,no\n1,2,maybe\n",
            "column 'y' must be one of 'no', 'yes', as in training, got 'maybe'",
        ),
        (quantity, "a,b,y\n1,2,yes\n", "column 'y' must hold numbers, got 'yes'"),
        (quantity, "a,b,y\n1,2,\n", "missing values, 1 in 'y'"),
    ]:
        (tmp_path / "t.csv").write_text(content)
        assert sentence in refused("evaluate", model, "t.csv")


def test_a_text_never_seen_in_training_is_named(refused, tmp_path):
    table = "size,y\n" + "small,no\nlarge,yes\n" * 10
    (tmp_path / "s.csv").write_text(table)
    assert cli.main(["train", "s.csv", "--target", "y", "--steps", "1"]) == 0
    (tmp_path / "p.csv").write_text("size\nsmall\nhuge\nhuge\n")
    error = refused("predict", "runs/s/model.safetensors", "p.csv")
    assert "'size' must be one of 'large', 'small', as in training, got 'huge'" in error
    assert "in row 2 and 1 more" in error


def test_model_files_that_are_none(refused, models, tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    whole = (models / "classes/model.safetensors").read_bytes()
    fg.save(tmp_path / "foreign", {"w": jnp.ones(3)}, {"format": "pt"})
    metadata = fg.load_metadata(models / "classes/model.safetensors")
    about = json.loads(metadata["funcgrad"])
    (tmp_path / "cut").write_bytes(whole[:-7])
    (tmp_path / "cut early").write_bytes(whole[:90])
    (tmp_path / "text").write_text(GOOD)
    (tmp_path / "nothing").write_text("")
    sentences = {
        "foreign": "foreign was not written by funcgrad train",
        "cut": "cut is not a whole safetensors file",
        "cut early": "cut early is not a whole safetensors file",
        "text": "text is not a whole safetensors file",
        "nothing": "nothing is not a whole safetensors file",
        "absent": "there is no model file absent",
        "runs": "runs ",
    }
    for name, change in {
        "other format": {"format": 2},
        "other sizes": {"sizes": [2, 5, 1]},
        "one size": {"sizes": [2]},
        "other columns": {"inputs": about["inputs"][:1]},
        "other activation": {"activation": "gelu"},
        "no columns": {"inputs": None},
        "column of text": {"inputs": [{"kind": "number", "name": "a", "mean": "x"}]},
    }.items():
        text = json.dumps(about | change)
        fg.save(tmp_path / name, _params(models), {"funcgrad": text})
        sentences[name] = f"{name} is damaged, or of another version of funcgrad ("
    fg.save(tmp_path / "no json", _params(models), {"funcgrad": "{"})
    fg.save(tmp_path / "a list", _params(models), {"funcgrad": "[]"})
    sentences |= {name: f"{name} is damaged" for name in ("no json", "a list")}
    for name, sentence in sentences.items():
        for command in ("predict", "evaluate"):
            assert sentence in refused(command, name, "t.csv"), name


def test_predictions_that_cannot_be_written(refused, models, tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    model = str(models / "classes/model.safetensors")
    error = refused("predict", model, "t.csv", "--out", "no/folder/p.csv")
    assert "no/folder/p.csv cannot be written: No such file or directory" in error
    assert "runs cannot be written" in refused(
        "predict", model, "t.csv", "--out", "runs"
    )


def test_without_the_extra_it_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr(cli, "_NEEDED", ("typer", "not_there"))
    error = refused("train", "moons")
    assert error.startswith("the command needs not_there, not installed here")
    assert error.endswith('pip install "funcgrad[cli]"')


def test_importing_the_entry_point_needs_no_extra():
    blocked = "import sys; sys.modules.update(dict.fromkeys(" + repr(
        ["typer", "rich", "matplotlib", "polars", "flint"]
    )
    code = f"{blocked})); import funcgrad, funcgrad.cli, funcgrad.data, funcgrad.plots"
    environment = os.environ | {"PYTHONPATH": str(Path(fg.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def _params(models: Path) -> object:
    from funcgrad.predictor import load_predictor

    return load_predictor(models / "classes/model.safetensors")[1]
