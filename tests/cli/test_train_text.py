"""`funcgrad train` and `sample` on text: the lines, the files, and what is refused."""

import contextlib
import io
import math
import re
import shlex

import jax
import pytest
from shell import snapshot

from funcgrad import cli, tasks
from funcgrad.cli import proof
from funcgrad.data import Characters, Writer, pydoc_text
from funcgrad.data.writer import Sizes, net

TEXT = "the cat sat on the mat, and the dog sat on the log.\n" * 40
SMALL = ["--width", "8", "--layers", "1", "--heads", "2", "--batch-size", "4"]


GIVEN = ["train", "t.txt", *SMALL, "--context", "16", "--steps", "60", "--out", "t"]


def write_texts(folder):
    (folder / "t.txt").write_text(TEXT)
    (folder / "names.txt").write_text("anna\nbob\n\ncarla\ndave\neve\n" * 4)


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """Return a folder with a run on a text in its folder t, and what was said."""
    folder = tmp_path_factory.mktemp("text")
    write_texts(folder)
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        assert cli.main(GIVEN) == 0
    return folder, said.getvalue().splitlines()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command where texts lie; returns stdout."""
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)

    def command(*arguments: str) -> str:
        found = cli.main(arguments)
        said = capsys.readouterr()
        assert found == 0, said.err
        return said.out

    return command


@pytest.mark.exhaustive
def test_of_a_net_too_large_a_narrow_one_alike_is_proven(run, monkeypatch):
    fit = proof.rows_that_fit

    def of_a_narrow_net(objective, params, *rest):
        is_wide = jax.tree.leaves(params)[0].shape[-1] == 8
        return [(0, 9.0)] * 2 if is_wide else fit(objective, params, *rest)

    monkeypatch.setattr(proof, "rows_that_fit", of_a_narrow_net)
    said = run("train", "t.txt", *SMALL, "--steps", "2", "--context", "16")
    assert re.search(
        r"gradients of this net, 4 wide on two tokens: all \d+ proven on 1 of 1 rows: "
        r"rules (exact|in finite fields .*), rounding at most",
        said,
    )


def test_a_text_is_learnt_and_the_run_is_written(run, text_run):
    folder, lines = text_run
    assert lines[0] == "t: 2,080 characters, a tenth of them held out"
    # Of 8 width, (16 tokens + 16 positions + 1) * 8, and a block's 12 * 64 + 16.
    assert lines[1] == (
        "net: a GPT of 1 layer, 2 heads, width 8, context 16, 1,048 parameters; "
        "16 characters"
    )
    assert lines[2] == (
        "training: cross entropy, adamw at 0.003 falling to 0.0003, 60 steps of 4 "
        "windows of 16"
    )
    assert lines[3].startswith("gradients")
    assert "proven on 4 of 4 rows: rules in finite fields" in lines[3]
    found = re.match(
        r"held out: (\S+) nats, (\S+) bits a character \((\S+) nats by how often each "
        r"character is\)",
        lines[4],
    )
    nats, bits, baseline = map(float, found.groups())
    assert nats < baseline < math.log(16)
    # Both are printed to three digits.
    assert abs(nats / math.log(2) - bits) <= 0.0005 + 0.0005 / math.log(2)
    assert lines[-1].startswith(
        "wrote model.safetensors, history.csv, loss.png, sample.txt to t after "
    )
    assert sorted(snapshot(folder / "t")) == [
        "history.csv", "loss.png", "model.safetensors", "sample.txt",
    ]  # fmt: skip
    assert len((folder / "t/sample.txt").read_text()) == 501
    names, *_ = (folder / "t/history.csv").read_text().splitlines()
    assert "validation_loss" in names
    writer = Writer.load(folder / "t/model.safetensors")
    assert writer.provenance["command"] == shlex.join(["funcgrad", *GIVEN])
    shown = run("show", str(folder / "t/model.safetensors")).splitlines()
    assert shown[0] == lines[1] and "steps: 60" in shown


@pytest.mark.exhaustive
def test_the_loss_told_is_that_of_all_that_was_held_out(text_run):
    folder, lines = text_run
    task = tasks.load_text(folder / "t.txt")
    sizes = task.recipe.sizes._replace(context=16)
    plan = tasks.plan_text(task, task.recipe._replace(sizes=sizes))
    # Each token that is held out is asked for once, but for the first.
    assert (plan.held_out[:, 1:] >= 0).sum() == 2080 // 10 - 1
    writer = Writer.load(folder / "t/model.safetensors")
    assert lines[4].startswith(f"held out: {writer.loss(plan.held_out):.3f} nats")
    # A model that knows nothing is seen: all its logits are equal.
    flat = writer.params._replace(tokens=0 * writer.params.tokens)
    # A mean of float32 logarithms of 16, some ulps of 2.8 off.
    assert abs(writer._replace(params=flat).loss(plan.held_out) - math.log(16)) < 1e-5


@pytest.mark.exhaustive
def test_lines_are_examples_of_their_own(run):
    lines = run("train", "names.txt", "--lines", *SMALL, "--steps", "40").splitlines()
    assert lines[0] == "names: 20 lines, a tenth of them held out"
    assert "context 6" in lines[1]  # carla and its end
    assert lines[2].endswith("40 steps of 4 lines")
    said = run("sample", "runs/names/model.safetensors", "--prompt", "an")
    assert said.startswith("an") and said.count("\n") == 1


def test_a_sample_is_drawn_by_its_seed(run, text_run):
    model = str(text_run[0] / "t/model.safetensors")

    def sample(*more):
        return run("sample", model, "--prompt", "the ", "--length", "30", *more)

    first = sample()
    assert first == sample() == sample("--seed", "0") != sample("--seed", "1")
    assert first.startswith("the ") and len(first) == len("the ") + 30 + 1
    cold = sample("--temperature", "0")
    assert cold == sample("--temperature", "0", "--seed", "1")
    assert cold == sample("--top-k", "1")


@pytest.mark.exhaustive
def test_a_run_goes_on_from_its_checkpoints(run):
    small = [*SMALL, "--context", "8"]
    run("train", "t.txt", *small, "--steps", "20", "--out", "whole")
    run(
        "train", "t.txt", *small, "--steps", "20", "--out", "cut",
        "--checkpoint-every", "5", "--seconds", "1e-9",
    )  # fmt: skip
    cut = Writer.load("cut/model.safetensors")
    assert cut.provenance["steps"] == 5
    run("train", "t.txt", *small, "--steps", "20", "--out", "cut", "--resume")
    whole, resumed = (
        Writer.load(f"{name}/model.safetensors") for name in ("whole", "cut")
    )
    assert resumed.provenance["steps"] == 20
    for a, b in zip(whole.params[0].tolist(), resumed.params[0].tolist(), strict=True):
        assert a == b


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--context", "5000"], "more tokens than the context"),
        (["--heads", "3"], "--heads must divide the width"),
        (["--width", "0"], "--width must be at least 1, got 0"),
        (["--target", "y"], "--target must be left out, as t.txt is learnt as text"),
        (["--hidden", "4"], "--hidden must be left out"),
        (["--learning-rate", "0"], "--learning-rate must be a finite number above 0"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--patience", "0"], "--patience must be at least 1"),
        (["--seconds", "-1"], "--seconds must be a finite number above 0"),
        (["--layers", "1001"], "--layers must be at most 1,000, got 1,001"),
        (
            ["--width", "6000"],
            "--width must make a net of at most 100,000,000 parameters, got 864,",
        ),
    ],
)
def test_what_a_net_for_text_cannot_be_is_refused(
    refused, tmp_path, arguments, sentence
):
    (tmp_path / "t.txt").write_text(TEXT)
    assert sentence in refused("train", "t.txt", *arguments)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"a", "must have two tokens at least"),
        (b"ab" * 20, "more tokens than the context of 64"),
    ],
)
def test_what_is_no_text_to_learn_is_refused(refused, tmp_path, content, sentence):
    (tmp_path / "t.txt").write_bytes(content)
    assert sentence in refused("train", "t.txt")


@pytest.mark.exhaustive
def test_without_a_prompt_a_text_begins_somewhere():
    for characters, begins in {"ab": "a", "\nab": "\n"}.items():
        vocabulary = Characters(characters)
        sizes = Sizes(context=4, width=4, layers=1, heads=2)
        params = net(sizes, vocabulary.size).init(jax.random.key(0))
        writer = Writer(sizes, vocabulary, False, params)
        assert writer.write(length=5, seed=1) == writer.write(begins, 5, seed=1)


def test_options_of_text_are_refused_elsewhere(refused):
    assert "--width must be left out, as moons is no text" in refused(
        "train", "moons", "--width", "8"
    )


def test_each_kind_of_model_is_told_from_the_other(
    refused, text_run, moons_run, tmp_path
):
    text = str(text_run[0] / "t/model.safetensors")
    points = str(moons_run[0] / "runs/moons/model.safetensors")
    assert "is a model of a table" in refused("sample", points)
    (tmp_path / "table.csv").write_text("x1,x2\n0,1\n")
    assert "is a model of text" in refused("predict", text, "table.csv")
    assert "is a model of text" in refused("evaluate", text, "table.csv")
    assert "characters of the vocabulary, got 'Q'" in refused(
        "sample", text, "--prompt", "Q"
    )
    assert "--length must be at least 1" in refused("sample", text, "--length", "0")
    assert "--temperature must be a finite number" in refused(
        "sample", text, "--temperature", "-1"
    )
    assert "--top-k must be at least 1" in refused("sample", text, "--top-k", "0")
    assert "there is no file no.txt" in refused("train", "no.txt")


@pytest.mark.exhaustive
def test_pydoc_is_there_without_a_download(run):
    lines = run("train", "pydoc", *SMALL, "--context", "8", "--steps", "1").splitlines()
    assert (
        lines[0] == f"pydoc: {len(pydoc_text()):,} characters, a tenth of them held out"
    )


def test_a_damaged_file_is_refused(text_run, refused, tmp_path):
    whole = (text_run[0] / "t/model.safetensors").read_bytes()
    changed = whole.replace(b'\\"width\\": 8', b'\\"width\\": 9')
    assert changed != whole
    for name, content in {"cut": whole[:-4], "changed": changed}.items():
        (tmp_path / name).write_bytes(content)
        refused("sample", name)
