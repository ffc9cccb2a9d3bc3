"""The folder of a run: all of it or nothing, whatever stands in the way."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from funcgrad import plots, tasks
from funcgrad.data import Category, Number
from funcgrad.errors import InputError
from funcgrad.tasks.folder import FILES, SWEEP_FILES

NAMES = ("$\\frac{$", "_$x$", "a\\$b", "\x1b[31m", "$" * 3, "高", "z" * 500)


@pytest.fixture(scope="module")
def runs():
    """Return a run and a sweep of two steps."""
    task = tasks.load("xor")
    recipe = task.recipe._replace(steps=2, hidden=(2,))
    trained = tasks.train(tasks.plan(task, recipe), progress=None)
    ranges = {"learning_rate": tasks.Range(0.01, 0.1)}
    return trained, tasks.sweep(task, ranges, recipe, members=2)


@pytest.fixture
def old(tmp_path):
    """Return a folder with a run of yesterday, every file of it."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (*FILES, *SWEEP_FILES):
        (folder / name).write_text(f"{name} of yesterday")
    return folder


def writers(runs):
    trained, swept = runs
    return (
        lambda folder: tasks.write(folder, trained),
        lambda folder: tasks.write_sweep(folder, swept),
    )


def contents(folder):
    """Return all that is below a folder, and in which state."""
    return {
        str(path): path.read_bytes() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*FILES, *SWEEP_FILES])
def test_a_folder_in_place_of_a_file_is_told_before(runs, old, name):
    (old / name).unlink()
    (old / name).mkdir()
    before = contents(old.parent)
    for start in (tasks.check_folder, *writers(runs)):
        with pytest.raises(InputError, match=f"{name} is no file that a run could rep"):
            start(old)
    assert contents(old.parent) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("moves", range(4))
def test_a_move_that_fails_half_way_puts_the_old_run_back(
    runs, old, monkeypatch, which, moves
):
    before = contents(old.parent)
    replace, done = os.replace, []

    def fail_after(source, target):
        # Only the way from the temporary folder can fail, not the way back.
        if os.path.dirname(target) == str(old) and "old" not in str(source):
            if len(done) == moves:
                raise OSError(28, "No space left on device")
            done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_after)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        writers(runs)[which](old)
    assert len(done) == moves
    assert contents(old.parent) == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("moves", range(4))
@pytest.mark.parametrize("fails", [False, True])
def test_ctrl_c_among_the_moves_waits_for_the_last(
    runs, old, monkeypatch, which, moves, fails
):
    """Pressed at each move in turn, and again when the old run is put back."""
    before, made = contents(old.parent), writers(runs)[which](old.parent / "other")
    replace, done = os.replace, []

    def pressed(source, target):
        if os.path.dirname(target) == str(old):
            signal.raise_signal(signal.SIGINT)
            if fails and len(done) == moves and "old" not in str(source):
                raise OSError(28, "No space left on device")
            done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", pressed)
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(InputError if fails else KeyboardInterrupt):
        writers(runs)[which](old)
    assert signal.getsignal(signal.SIGINT) is usual
    if fails:
        after = contents(old.parent)
        assert {path: after[path] for path in before} == before
        return
    assert {*made} <= {*os.listdir(old)}
    for name in made:
        ours, theirs = ((old.parent / f / name).read_bytes() for f in ("other", "run"))
        assert ours == theirs


def test_ctrl_c_before_the_moves_leaves_the_old_run(runs, old, monkeypatch):
    before = contents(old.parent)
    monkeypatch.setattr(plots, "png", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        writers(runs)[0](old)
    assert contents(old.parent) == before


def test_a_thread_writes_a_run_too(runs, tmp_path):
    """Only the main thread may say what a signal does."""
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(writers(runs)[0], tmp_path / "run").result()
    assert sorted(os.listdir(tmp_path / "run")) == sorted(made)


def test_a_new_folder_is_the_first_that_is_not_there(tmp_path):
    at = tmp_path / "runs/moons"
    assert tasks.new_folder(at) == at
    at.mkdir(parents=True)
    assert tasks.new_folder(str(at)) == tmp_path / "runs/moons-2"
    (tmp_path / "runs/moons-2").write_text("a file")
    (tmp_path / "runs/moons-3").symlink_to("nowhere")
    assert tasks.new_folder(at) == tmp_path / "runs/moons-4"


@pytest.mark.parametrize("name", [*FILES, *SWEEP_FILES])
def test_a_file_of_another_run_is_overwritten_only_if_asked(tmp_path, name):
    (tmp_path / "notes.txt").write_text("no run")
    tasks.check_folder(tmp_path, overwrite=False)
    (tmp_path / name).write_text("of yesterday")
    tasks.check_folder(tmp_path)
    with pytest.raises(InputError, match=f"holds another run, {name} for one: choose"):
        tasks.check_folder(tmp_path, overwrite=False)


@pytest.mark.parametrize("which", [0, 1])
def test_a_picture_that_fails_leaves_the_old_run(runs, old, monkeypatch, which):
    before = contents(old.parent)
    last = ("decision_boundary", "score_against")[which]

    def broken(*_, **__):
        raise RuntimeError("no picture")

    monkeypatch.setattr(plots, last, broken)
    with pytest.raises(RuntimeError, match="no picture"):
        writers(runs)[which](old)
    assert contents(old.parent) == before


def test_a_run_takes_the_place_of_the_old_one(runs, old):
    before = contents(old)
    made = writers(runs)[0](old)
    assert made == ["model.safetensors", "history.csv", "loss.png", "boundary.png"]
    assert sorted(os.listdir(old)) == sorted([*made, *SWEEP_FILES])
    made = writers(runs)[1](old)
    assert sorted(os.listdir(old)) == sorted(made)
    after = contents(old)
    assert all(before[path] != after[path] for path in after)


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to("absent")
    for name, sentence in {
        "file": "file is a file: choose another folder",
        "nowhere": "nowhere is a file: choose another folder",
        "file/run": "cannot be written: Not a directory: choose another folder",
        "nowhere/run": "cannot be written: No such file or directory: choose another",
        "x" * 300: "cannot be written: File name too long: choose another folder",
    }.items():
        with pytest.raises(InputError, match=sentence):
            tasks.check_folder(tmp_path / name)
    tasks.check_folder(tmp_path / "new" / "run")
    assert sorted(os.listdir(tmp_path)) == ["file", "nowhere"]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_drawn_as_they_are(runs, tmp_path, name):
    """Mathematics that is broken would raise while the picture is drawn."""
    trained, swept = runs
    target = Category(name, (name, f"_{name}"))
    inputs = tuple(Number(f"{name}{i}", 0.0, 1.0) for i in (1, 2))
    task = trained.task._replace(name=name[:50], inputs=inputs, target=target)
    predictor = trained.predictor._replace(inputs=inputs, target=target)
    best = trained._replace(task=task, predictor=predictor)
    tasks.write_sweep(tmp_path / "run", swept._replace(best=best))

    y = np.array([0, 1])
    for figure in (
        plots.confusion_matrix(y, y, (name, "b"), name),
        plots.predicted_against_true(y, y, name, name),
    ):
        assert plots.png(figure).startswith(b"\x89PNG")


def test_the_texts_of_a_picture_are_the_names(runs):
    y, points = np.array([0, 1, 1]), np.array([[0.0, 1], [1, 0], [2, 2]])
    figure = plots.decision_boundary(
        lambda at: np.zeros(len(at), int),
        points,
        y,
        names=("$a$", "\x1b[31m"),
        classes=("_$b$", "c"),
        title="$\\frac{$",
    )
    plots.png(figure)
    (axes,) = figure.axes
    assert axes.get_title() == r"\$\frac{\$"  # \$ is how matplotlib is told a dollar
    assert (axes.get_xlabel(), axes.get_ylabel()) == (r"\$a\$", r"\x1b[31m")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [r"_\$b\$", "c"]


def test_a_bad_backend_is_a_sentence_in_python(monkeypatch):
    import builtins

    original = builtins.__import__

    def failing(name, *rest):
        if name.startswith("matplotlib"):
            raise ValueError("Key backend: 'x' is not a valid value")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(InputError, match=r"'x' is not a valid.*unset MPLBACKEND"):
        plots.loss_curve(np.arange(2), np.ones(2), "t")
