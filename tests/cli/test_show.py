"""`funcgrad show`: what a model is, and how it was made."""

from pathlib import Path

import jax
import pytest

import funcgrad as fg
from funcgrad import cli
from funcgrad.data import Predictor

SAVED = Path(__file__).parents[1] / "data/saved_by_0.1.0"


def shown(model, capsys):
    assert cli.main(["show", str(model)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.exhaustive
def test_a_model_tells_what_it_is_and_by_which_command_it_was_made(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    options = ["--hidden", "3", "--steps", "2", "--seed", "7", "--out", "my run"]
    assert cli.main(["train", "xor", *options]) == 0
    capsys.readouterr()
    model = Path("my run/model.safetensors")
    *lines, command, date, funcgrad, jax_line, python, steps, seed = shown(
        model, capsys
    )
    assert lines == [
        "net: 2-3-1 tanh, 13 parameters",
        "loss: binary cross entropy",
        "target: 2 classes of 'class': '0', '1'",
        "input: 'x1', a number",
        "input: 'x2', a number",
    ]
    assert command == (
        "command: funcgrad train xor --hidden 3 --steps 2 --seed 7 --out 'my run'"
    )
    assert date.startswith("date: 20") and date.endswith("+00:00")
    assert funcgrad == f"funcgrad: {fg.__version__}"
    assert jax_line == f"jax: {jax.__version__}"
    assert python.startswith("python: 3.")
    assert (steps, seed) == ("steps: 2", "seed: 7")
    assert Predictor.load(model).describe() == shown(model, capsys)


def test_a_sweep_tells_it_too(tmp_path, capsys):
    given = ["sweep", "xor", "--members", "2", "--steps", "40", "--out", str(tmp_path)]
    assert cli.main(given) == 0
    made = Predictor.load(tmp_path / "model.safetensors").provenance
    assert made["command"].startswith("funcgrad sweep xor --members 2 ")
    assert made["seed"] == 1337
    assert made["steps"] in range(2, 41, 2)  # a round of its looks


def test_a_model_of_an_older_version_tells_what_it_has(capsys):
    assert shown(SAVED / "mixed.safetensors", capsys) == [
        "net: 5-4-3 tanh, 39 parameters",
        "loss: cross entropy",
        "target: 3 classes of 'kind': 'cold', 'large', 'warm'",
        "input: 'size', a number",
        "input: 'colour', one of 'blue', 'green', 'red'",
        "input: 'weight', a number",
        "funcgrad: 0.1.0",
    ]
    assert shown(SAVED / "quantity.safetensors", capsys)[2].startswith(
        "target: the quantity "
    )


def test_what_is_no_model_is_a_sentence(refused, tmp_path):
    (tmp_path / "t.csv").write_text("a,b")
    assert "t.csv is not a whole safetensors file" in refused("show", "t.csv")
    assert "there is no model file none" in refused("show", "none")
