"""Ctrl-C, and whatever a user's function raises, ends a run at once."""

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
from member_problems import KEY, integer_problem, same_bits

import funcgrad as fg
from funcgrad.fast import groups

ROOT = Path(__file__).parents[1]

# A run of a billion steps, which says each time that a call has ended.
PROGRAM = """
import jax, numpy as np, optax, funcgrad as fg

model = fg.mlp([3, 4, 4, 1])
objective = fg.objective(model, fg.squared_error)
data = np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)
run(
    objective, optax.sgd, model.init, {"learning_rate": np.full(200, 1e-3)}, data,
    steps=10**9, key=jax.random.key(0), progress=lambda *now: print("call", flush=True),
)
"""
RUNS = {
    "train_many": "run = fg.train_many",
    "short rounds": "run = lambda *a, **b: fg.sweep(*a, every=10, score=fg.l2, **b)",
    "long rounds": "run = lambda *a, **b: fg.sweep(*a, every=10**8, score=fg.l2, **b)",
}
# Of the issue: so long a user waits at most.
SECONDS_TO_STOP = 2


@pytest.mark.parametrize(
    "name",
    [
        "train_many",
        pytest.param("short rounds", marks=pytest.mark.exhaustive),
        pytest.param("long rounds", marks=pytest.mark.exhaustive),
    ],
)
def test_ctrl_c_ends_a_run_of_any_length(name):
    code = f"import funcgrad as fg; {RUNS[name]}" + PROGRAM
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            for _ in range(3):  # a call that begins, and two of steps
                assert process.stdout.readline() == "call\n"
            time.sleep(random.random())
            told = time.perf_counter()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
            seconds = time.perf_counter() - told
        finally:
            process.kill()
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
    assert seconds < SECONDS_TO_STOP


def small_run(make_problem, members, **settings):
    """Return what sweep makes of some nets in 50 steps."""
    model, objective, data = make_problem()
    return fg.sweep(
        objective, optax.adam, model.init,
        {"learning_rate": np.logspace(-3, -2, members)}, data, steps=50, key=KEY,
        score=fg.l2, **settings,
    )  # fmt: skip


def rounding_problem():
    """Return a net and data whose sums round at every step."""
    model = fg.mlp([3, 4, 4, 1])
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    return model, fg.objective(model, fg.squared_error), (x, np.sin(x[:, :1]))


@pytest.fixture
def short_calls(monkeypatch):
    """Return a function that cuts every run from now on into calls of eight steps."""

    def cut():
        monkeypatch.setattr(groups, "SECONDS_OF_LONGEST_CALL", 1e-12)
        monkeypatch.setattr(groups, "SECONDS_OF_A_PART", 1e-12)
        monkeypatch.setattr(groups, "FEWEST_STEPS_OF_A_PART", 8)

    monkeypatch.setattr(groups, "cores", lambda: 1)
    return cut


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("members", "batch_size", "every"),
    [(1, 3, 3), (8, 3, 20), (8, None, 3)],
)
def test_a_run_that_is_cut_is_bit_for_bit_the_same(
    members, batch_size, every, short_calls
):
    """Members that lie along the last axis, and one alone, round alike."""
    seen = []
    settings = {
        "batch_size": batch_size,
        "every": every,
        "progress": lambda *now: seen.append(now),
    }
    whole = small_run(rounding_problem, members, **settings)
    assert seen == [(members, members)]
    short_calls()
    cut = small_run(rounding_problem, members, **settings)
    assert len(seen) > 6
    assert seen[-1] == (members, members)
    assert seen[1:] == sorted(seen[1:])
    assert same_bits((whole.states, whole.losses), (cut.states, cut.losses))
    if every < 8:  # else a score is compiled outside a loop, and may round otherwise
        assert same_bits(whole, cut)


@pytest.mark.exhaustive
def test_what_progress_raises_ends_the_run(short_calls):
    calls = []

    def progress(done, members):
        calls.append(done)
        if len(calls) == 3:
            raise ArithmeticError("enough")

    short_calls()
    with pytest.raises(ArithmeticError, match="enough"):
        small_run(integer_problem, 8, every=3, progress=progress)
    assert len(calls) == 3


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_loop_of_unknown_length_is_not_taken_for_a_short_one(is_counted):
    """Its first call begins the run, and the second one takes the fewest steps."""

    def draw(key, source):
        if is_counted:
            return source
        return jax.lax.while_loop(lambda x: x < 3, lambda x: x + 1, source)

    seen = []
    _, losses = fg.train_many(
        lambda w, x: w * x, optax.sgd, lambda key: jnp.ones(()),
        {"learning_rate": np.full(4, 0.5)}, fg.Drawn(draw, jnp.float32(3)), steps=50,
        key=KEY, progress=lambda *now: seen.append(now),
    )  # fmt: skip
    assert losses[:, :2].tolist() == [[3, 3 * (1 - 1.5)]] * 4
    assert seen[-1] == (4, 4)
    assert (len(seen) == 1) == is_counted
