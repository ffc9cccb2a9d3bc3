"""A run is a loop that its caller writes."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import same_bits

import funcgrad as fg

SGD = optax.sgd(1.0)
ONE = np.ones(1, np.float32)


def slope_one(w, x):
    """Return w, for a w that begins at 0 and goes down by 1 a step."""
    return w * jnp.sum(x)


def watched(state, **options):
    return fg.watch(slope_one, SGD, state, ONE, **options)


def test_consumed_by_hand_it_is_fit():
    start = fg.init_state(0.0, SGD)
    losses, seen = [], []
    for now in watched(start, steps=25, every=10):
        losses.append(now.losses)
        seen.append((now.done, int(now.state.step), now.loss))
    fit = fg.fit(slope_one, SGD, 0.0, ONE, steps=25, every=10, progress=None)
    assert seen == [(10, 10, -9), (20, 20, -19), (25, 25, -24)]
    assert same_bits((now.state, np.concatenate(losses)), (fit.state, fit.history.loss))
    assert fit.history.looks["step"].tolist() == [10, 20, 25]
    assert fit.history.looks["loss"].tolist() == [-9, -19, -24]


def test_looks_are_where_every_divides_the_counter_wherever_the_run_began():
    start = fg.init_state(0.0, SGD)._replace(step=jnp.int32(7))
    assert [int(n.state.step) for n in watched(start, steps=20, every=10)] == [
        10, 20, 27
    ]  # fmt: skip


def test_breaking_off_is_all_that_it_takes_to_stop():
    for now in watched(fg.init_state(0.0, SGD), steps=10**9, every=3):
        if now.done == 6:
            break
    assert float(now.state.params) == -6


def test_arguments_are_looked_at_when_it_is_called():
    with pytest.raises(ValueError, match=r"watch goes on from a State, got float"):
        watched(1.0, steps=3)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        watched(fg.init_state(0.0, SGD), steps=-3)


def test_until_ends_at_its_step_between_two_looks():
    reports = []
    fit = fg.fit(
        slope_one, SGD, 0.0, ONE, steps=100, every=10, until=-13.0,
        progress=reports.append,
    )  # fmt: skip
    assert [r.done for r in reports] == [10, 14]
    assert int(fit.state.step) == len(fit.history.loss) == 14


def test_divergence_between_two_looks_keeps_all_losses():
    def objective(w, x):
        return jnp.sum(x * jnp.where(w < -12.5, jnp.nan, w))

    with pytest.raises(fg.DivergedError, match="nan at step 13") as caught:
        fg.fit(objective, SGD, 0.0, ONE, steps=100, every=10, progress=None)
    fit = caught.value.fit
    assert fit.history.loss.tolist() == [-float(i) for i in range(13)]
    assert int(fit.state.step) == 12
    state = fg.init_state(0.0, SGD)
    with pytest.raises(fg.DivergedError) as caught:
        list(fg.watch(objective, SGD, state, ONE, steps=100, every=10))
    assert int(caught.value.fit.state.step) == 12
    assert caught.value.fit.history.step.tolist() == [10, 11, 12]


def test_seconds_end_a_run_at_a_look():
    fit = fg.fit(slope_one, SGD, 0.0, ONE, steps=2**31 - 1, seconds=0.05, progress=None)
    assert 0 < int(fit.state.step) < 2**31 - 1
    assert fit.history.looks["seconds"][-1] >= 0.05
    assert (fit.history.looks["seconds"][:-1] < 0.05).all()


def test_what_is_raised_on_the_way_has_what_was_reached():
    def progress(now):
        if now.done == 20:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        fg.fit(slope_one, SGD, 0.0, ONE, steps=50, every=10, progress=progress)
    assert int(caught.value.fit.state.step) == len(caught.value.fit.history.loss) == 20


def test_ctrl_c_ends_a_run_with_what_was_reached():
    """The signal comes while a chunk is computed, or between two."""
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        fg.fit(slope_one, SGD, 0.0, ONE, steps=2**31 - 1, progress=None)
    fit = caught.value.fit
    assert (
        0 < int(fit.state.step) == -float(fit.state.params)
        or int(fit.state.step) > 2**24
    )  # beyond which a float32 counts no more
    assert fit.history.looks["step"][-1] == int(fit.state.step)


def test_a_run_ends_with_the_counter_and_says_so():
    last = fg.init_state(0.0, SGD)._replace(step=jnp.int32(2**31 - 11))
    data, key = np.ones(6, np.float32), jax.random.key(0)
    for given in ({}, {"batch_size": 4, "key": key}):
        fit = fg.fit(slope_one, SGD, last, data, steps=10, progress=None, **given)
        assert int(fit.state.step) == 2**31 - 1
        with pytest.raises(
            ValueError, match="must be at most 0 from step 2,147,483,647"
        ):
            fg.fit(slope_one, SGD, fit.state, data, steps=1, **given)
