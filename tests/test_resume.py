"""A run in a folder goes on where it was cut, to the bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import arrays, same_bits, smooth_problem

import funcgrad as fg
from funcgrad import fitting, watching

STEPS = 60
# The same for all runs of a process, so that they are compiled once.
OBJECTIVE, NESTED, DATA = smooth_problem()
ADAM = optax.adam(0.01)


def run(folder, steps=STEPS, **options):
    """Train on numbers that round at each step, in batches of 4 of 6 rows."""
    data = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), DATA)
    given = {
        "batch_size": 4, "key": jax.random.key(0), "every": 10, "progress": None
    }  # fmt: skip
    return fg.fit(
        OBJECTIVE, ADAM, arrays(NESTED, "float32"), data, steps=steps,
        folder=folder, **(given | options),
    )  # fmt: skip


def same_run(a, b):
    return same_bits((a.state, a.history[:2]), (b.state, b.history[:2]))


@pytest.fixture(scope="module")
def whole():
    return run(None)


@pytest.mark.parametrize("every", [None, 10])
@pytest.mark.parametrize("cut", [1, 10, 37, 59, STEPS])
def test_a_run_that_was_cut_goes_on_to_the_same_bits(tmp_path, whole, cut, every):
    def stop(now):
        if now.done >= cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", every=every, progress=stop)
    resumed = run(tmp_path / "run", every=every, resume=True)
    assert same_run(whole, resumed)
    assert resumed.history.looks["step"][-1] == STEPS


def test_a_run_that_ended_is_returned_as_it_was_and_may_be_made_longer(tmp_path):
    first = run(tmp_path)
    assert same_run(first, run(tmp_path, resume=True))
    assert same_run(run(None, 100), run(tmp_path, 100, resume=True))
    assert len(list(tmp_path.glob("step-*.safetensors"))) == 3


def test_a_folder_without_checkpoints_begins_a_run(tmp_path, whole):
    assert same_run(whole, run(tmp_path / "new", resume=True))


def test_without_every_checkpoints_are_half_a_minute_apart(tmp_path, monkeypatch):
    def found(seconds):
        monkeypatch.setattr(fitting, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
        seen = set()

        def look(now):
            seen.update(path.name for path in (tmp_path / str(seconds)).iterdir())

        monkeypatch.setattr(watching, "WORK_OF_THE_FIRST_CHUNK", 1)
        run(tmp_path / str(seconds), every=None, progress=look)
        return [name for name in seen if name.startswith("step-")]

    assert found(30.0) == []
    assert len(found(0.0)) > 2


def bowl(w, x):
    """Its slope is 1, so w goes 0, -1, -2, ...; on rows of 1 it is lowest at -30."""
    return jnp.mean(jnp.where(x > 0, (w + 30) ** 2, w))


@pytest.mark.parametrize("cut", [20, 30, 40])
def test_patience_goes_on_with_the_best_that_was_seen(tmp_path, cut):
    def patient(folder, **options):
        given = {"steps": 1000, "every": 10, "patience": 3, "progress": None} | options
        return fg.fit(
            bowl, optax.sgd(1.0), 0.0, np.zeros(2, np.float32), folder=folder,
            validation=np.ones(2, np.float32), **given,
        )  # fmt: skip

    def stop(now):
        if now.done == cut:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        patient(tmp_path, progress=stop)
    fit = patient(tmp_path, resume=True)
    assert int(fit.state.step) == 30
    assert fit.history.looks["step"].tolist() == [10, 20, 30, 40, 50, 60]
    assert same_run(fit, patient(None))


def test_a_run_that_ended_early_does_not_go_on(tmp_path):
    def until(**options):
        return fg.fit(
            lambda w, x: w * jnp.sum(x), optax.sgd(1.0), 0.0, np.ones(1, np.float32),
            steps=100, until=-13.0, every=5, folder=tmp_path, progress=None, **options,
        )  # fmt: skip

    first = until()
    assert int(first.state.step) == 14
    assert same_run(first, until(resume=True))


@pytest.mark.parametrize(
    ("changed", "item"),
    [
        ({"key": jax.random.key(1)}, "key"),
        ({"batch_size": 3}, "batch_size"),
        (
            {"metrics": {"a": lambda p, r: 0.0}, "validation": np.ones((6, 3))},
            "metrics",
        ),
    ],
)
def test_another_run_is_refused_by_what_differs(tmp_path, changed, item):
    run(tmp_path, 10)
    if "validation" in changed:
        x = np.ones((6, 3), np.float32)
        changed["validation"] = (x, np.ones((6, 2), np.float32))
    with pytest.raises(ValueError, match=f"whose {item} is"):
        run(tmp_path, resume=True, **changed)


def test_what_stands_in_the_way_is_said(tmp_path):
    run(tmp_path, 10)
    with pytest.raises(ValueError, match="pass resume=True to go on"):
        run(tmp_path, 10)
    with pytest.raises(
        ValueError, match="resume needs the folder of the run, got none"
    ):
        run(None, resume=True)


ENDLESS = """
import sys
sys.path[:0] = [{tests!r}]
from test_resume import run
print("ready", flush=True)
fit = run({folder!r}, {steps}, every=7, resume=True)
"""


def killed_and_resumed(tmp_path, seed, kills):
    """Kill a run at random moments, writes included; return how it ended at last."""
    steps = 3000
    draw = random.Random(seed)
    folder = tmp_path / "run"
    for _ in range(kills):
        code = ENDLESS.format(
            tests=str(Path(__file__).parent), folder=str(folder), steps=steps
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        # From before the first write on; most of the time goes into writing.
        time.sleep(draw.uniform(0.0, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return run(folder, steps, every=7, resume=True), run(None, steps, every=7)


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path):
    resumed, whole = killed_and_resumed(tmp_path, 0, 1)
    assert same_run(resumed, whole)


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_was_killed_four_times_goes_on_to_the_same_bits(tmp_path):
    resumed, whole = killed_and_resumed(tmp_path, 1, 4)
    assert same_run(resumed, whole)
