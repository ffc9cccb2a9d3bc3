"""`funcgrad predict`: the net's own numbers, and what it refuses."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from shell import ENVIRONMENT, GOOD

import funcgrad as fg
from funcgrad import cli
from funcgrad.data import moons
from funcgrad.data.predictor import Predictor, net


def test_predict_on_drawn_points_gives_the_score(moons_run, tmp_path, capsys):
    folder, _ = moons_run
    x, y = moons()
    table = tmp_path / "points.csv"
    table.write_text(
        "x1,x2,class\n"
        + "".join(f"{a},{b},{k}\n" for (a, b), k in zip(x.tolist(), y, strict=True))
    )
    model = folder / "runs/moons/model.safetensors"
    assert cli.main(["predict", str(model), str(table)]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    scores = np.array([float(row["score"]) for row in rows])
    predictor = Predictor.load(model)
    apply = net(predictor.sizes, predictor.activation).apply
    expected = apply(predictor.params, x.astype(np.float32))[:, 0]
    # The same float32 sums, perhaps in another order: 2 + 16 + 16 terms, biases and
    # relus are fewer than 40 roundings, each of half an ulp of numbers of this size.
    rounding = 40 * np.finfo("f").eps / 2 * np.abs(expected).max()
    assert np.allclose(scores, expected, rtol=0, atol=rounding)
    assert [row["prediction"] for row in rows] == [str(int(s > 0)) for s in scores]
    assert cli.main(["evaluate", str(model), str(table)]) == 0
    assert capsys.readouterr().out.startswith("accuracy 100.0 % on 100 rows")


@pytest.mark.exhaustive
def test_head_may_close_the_pipe(moons_run, tmp_path):
    folder, _ = moons_run
    table = tmp_path / "long.csv"
    table.write_text("x1,x2\n" + "0.5,0.5\n" * 20_000)
    call = "import sys; from funcgrad.cli import main; sys.exit(main())"
    model = folder / "runs/moons/model.safetensors"
    command = [sys.executable, "-c", call, "predict", str(model), str(table)]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"x1,x2,prediction,score\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
    assert Path(table).exists()


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
        "runs": "runs is a folder: give the model.safetensors in it",
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


def test_predictions_that_cannot_be_written_are_told_before_the_work(
    refused, models, tmp_path, monkeypatch
):
    (tmp_path / "t.csv").write_text(GOOD)
    own = tmp_path / "own.safetensors"
    own.write_bytes((models / "classes/model.safetensors").read_bytes())
    monkeypatch.setattr(Predictor, "predict", None)  # so that no work can be done
    for out, sentence in {
        "no/folder/p.csv": "cannot be written: No such file or directory: choose anoth",
        "t.csv/p.csv": "t.csv/p.csv cannot be written: Not a directory",
        "runs": "runs cannot be written: Is a directory",
        "own.safetensors": "own.safetensors is the model: choose another --out file",
    }.items():
        assert sentence in refused("predict", str(own), "t.csv", "--out", out)


def test_predictions_go_through_pipes_and_links(models, tmp_path, capfd):
    (tmp_path / "t.csv").write_text(GOOD)
    (tmp_path / "link.csv").symlink_to("p.csv")
    predict = ["predict", str(models / "classes/model.safetensors")]
    predict.append(str(tmp_path / "t.csv"))
    capfd.readouterr()
    assert cli.main(predict) == 0
    expected = capfd.readouterr().out
    assert cli.main([*predict, "--out", "/dev/fd/1"]) == 0
    assert capfd.readouterr().out == expected
    assert cli.main([*predict, "--out", str(tmp_path / "link.csv")]) == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "p.csv").read_text() == expected


def _params(models: Path) -> object:
    return Predictor.load(models / "classes/model.safetensors").params
