"""The run watched: the same as train, ended where it should be, and told in words."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import arrays, arrays_of, same_bits, smooth_problem

import funcgrad as fg
from funcgrad import watching

SGD = optax.sgd(1.0)
ONE = np.ones(1, np.float32)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_whole_fit_is_compiled_once_and_the_next_traces_nothing(batch_size):
    batching = {"batch_size": batch_size, "key": jax.random.key(0)}
    _, nested, data = smooth_problem()
    model = fg.mlp([3, 4, 2])
    traces = 0

    def objective(params, batch):
        nonlocal traces
        traces += 1
        return fg.squared_error(model.apply(params, batch[0]), batch[1])

    params, optimizer = arrays(nested, "float32"), optax.adam(1e-3)
    reports = []
    fg.fit(
        objective, optimizer, params, data, steps=1234, every=500,
        progress=reports.append, **batching,
    )  # fmt: skip
    assert [r.done for r in reports] == [500, 1000, 1234]  # chunks of two sizes
    assert traces == 2  # one is compiled, and one tells what the losses cannot take
    fg.fit(objective, optimizer, params, data, steps=99, progress=None, **batching)
    assert traces == 2


def test_the_callers_arrays_live_on():
    objective, nested, data = smooth_problem()
    params, data = arrays(nested, "float32"), arrays_of(data)
    before = jax.device_get((params, data))
    fg.fit(objective, optax.adam(1e-2), params, data, steps=50, progress=None)
    assert same_bits(before, (params, data))  # a donated array would raise here


def test_until_ends_right_after_the_first_loss_that_small():
    def objective(w, data):
        return jnp.sum((w * data - 6) ** 2)

    # As above with rate 1/16, the loss falls to a quarter each step: 16, 4, 1, 1/4, ...
    fit = fg.fit(
        objective, optax.sgd(1 / 16), 1.0, jnp.array([2.0]), steps=100, until=0.25
    )
    assert fit.history.loss.tolist() == [16, 4, 1, 0.25]
    assert fit.state.step == 4
    assert fit.state.params == 3 - 2 * 0.5**4


@pytest.mark.parametrize("steps_before", [0, 1, 2, 10])
def test_divergence_says_where_and_keeps_the_last_good_state(steps_before):
    """Each step adds 1 to w, and the loss is infinite from w = `steps_before` on."""

    def objective(w, data):
        # The slope is 1, so a rate of -1 adds 1.
        return jnp.sum(data * jnp.where(w > steps_before - 0.5, jnp.inf, w))

    data = jnp.array([1.0])
    with pytest.raises(fg.DivergedError, match=f"at step {steps_before}:") as caught:
        fg.fit(objective, optax.sgd(-1.0), 0.0, data, steps=100)
    fit = caught.value.fit
    assert len(fit.history.loss) == steps_before
    good = max(steps_before - 1, 0)  # the last update led to the infinite loss
    assert fit.state.step == fit.state.params == good
    assert f"after {good} updates" in str(caught.value)


def test_nan_in_a_batch_stops_the_run():
    data = jnp.array([1.0, -1.0])
    with pytest.raises(fg.DivergedError, match="became nan at step"):
        fg.fit(
            lambda w, x: jnp.sum(w * jnp.sqrt(x)), optax.sgd(0.1), 1.0, data, steps=50,
            batch_size=1, key=jax.random.key(0),
        )  # fmt: skip


def test_progress_line_is_for_terminals_only(capsys, monkeypatch):
    state, losses = fg.State(None, None, None), np.array([9.0, 0.125])
    report = fg.Progress(50, 200, losses, state, {"loss": 0.25}, 1.0, 1234.5, 3.2)
    fg.print_progress(report)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fg.print_progress(report)
    line = capsys.readouterr().err
    assert (
        "step 50/200  loss 0.125  validation loss 0.25  1,234 steps/s  3 s left" in line
    )
    assert not line.endswith("\n")  # the next line takes its place
    fg.print_progress(report._replace(done=200))
    assert capsys.readouterr().err.endswith(" s left\n")


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that shows `now`, and goes on by `tick` whenever it was read."""
    clock = SimpleNamespace(now=100.0, tick=1.0)

    def perf_counter():
        clock.now += clock.tick
        return clock.now

    fake = SimpleNamespace(perf_counter=perf_counter)
    monkeypatch.setattr(watching, "time", fake)
    monkeypatch.setattr(watching, "WORK_OF_THE_FIRST_CHUNK", 1)
    return clock


def falling(clock):
    """Return an objective whose loss before step k is -k, slow to trace and compile."""

    def objective(w, x):
        clock.now += 1000.0
        return w * jnp.sum(x)

    return objective


def reports_of(clock, steps, **options):
    """Return the reports of a run of an objective that was never seen before."""
    reports = []
    fit = fg.fit(
        falling(clock), optax.sgd(1.0), 0.0, np.ones(1, np.float32), steps=steps,
        progress=reports.append, **options,
    )  # fmt: skip
    return fit, reports


def test_a_report_has_the_speed_the_time_left_and_the_loss_of_its_own_step(clock):
    """Each call takes 1/64 s: the second has 8 steps, the third a tenth of a second."""
    clock.tick = 1 / 64
    fit, reports = reports_of(clock, 60)
    assert [r.done for r in reports] == [1, 9, 60]
    assert [r.steps for r in reports] == [60] * 3
    # Steps done by seconds since the first, for which the clock is read four times a
    # look; compiling took a thousand and more.
    speeds = [1 * 16, 9 * 8, 60 * 64 / 12]
    assert [r.steps_per_second for r in reports] == speeds
    assert [r.seconds for r in reports] == [1 / 16, 2 / 16, 3 / 16]
    left = [(60 - r.done) / r.steps_per_second for r in reports]
    assert [r.seconds_left for r in reports] == left
    assert reports[-1].seconds_left == 0
    assert [r.loss for r in reports] == [0, -8, -59]
    assert [int(r.state.step) for r in reports] == [1, 9, 60]
    assert [float(r.state.params) for r in reports] == [-1, -9, -60]
    assert fit.state is reports[-1].state


@pytest.mark.parametrize(
    ("tick", "looks"),
    [
        (2.0, [1, 2, 3, 4]),  # no step fits a second
        (1 / 4, [1, 5, 21, 53, 60]),  # a second of steps, twice, and 32 of them
    ],
)
def test_a_look_waits_for_32_steps_but_no_longer_than_a_second(
    clock, monkeypatch, tick, looks
):
    # On this clock nothing takes no time, validation without any rows neither.
    monkeypatch.setattr(watching, "SECONDS_FOR_VALIDATION", 0)
    clock.tick = tick
    _, reports = reports_of(clock, looks[-1])
    assert [r.done for r in reports] == looks


def test_chunks_grow_eightfold_at_most_and_shrink_where_steps_are_slow(clock):
    clock.tick = 2.0**-20
    assert [r.done for r in reports_of(clock, 600)[1]] == [1, 9, 73, 585, 600]
    clock.tick = 1.0  # a step takes longer than a look should
    assert [r.done for r in reports_of(clock, 3)[1]] == [1, 2, 3]


def test_the_run_ended_by_until_reports_where_it_ended(clock):
    clock.tick = 1 / 64
    fit, reports = reports_of(clock, 60, until=-10.0)
    assert [r.done for r in reports] == [1, 9, 11]
    assert reports[-1].loss == -10
    assert reports[-1].seconds_left == 49 / reports[-1].steps_per_second
    assert fit.state.step == 11 and len(fit.history.loss) == 11


def test_no_chunk_is_longer_than_its_buffer(clock, monkeypatch):
    monkeypatch.setattr(watching, "LONGEST_CHUNK", 100)
    clock.tick = 2.0**-20
    fit, reports = reports_of(clock, 350)
    assert [r.done for r in reports] == [1, 9, 73, 173, 273, 350]
    assert fit.history.loss.tolist() == [-float(i) for i in range(350)]


def test_after_a_resume_steps_are_counted_on_and_reports_from_none(clock):
    start = fg.State(jnp.float32(-5.0), optax.sgd(1.0).init(0.0), jnp.int32(5))
    reports = []
    fit = fg.fit(
        falling(clock), optax.sgd(1.0), start, np.ones(1, np.float32), steps=3,
        progress=reports.append,
    )  # fmt: skip
    assert fit.history.step.tolist() == [5, 6, 7]
    assert fit.history.loss.tolist() == [-5, -6, -7]
    assert [(r.done, r.steps, int(r.state.step)) for r in reports] == [
        (1, 3, 6), (2, 3, 7), (3, 3, 8),
    ]  # fmt: skip


def test_divergence_after_a_resume_is_told_by_the_step_of_all(clock):
    """The loss is infinite from step 9 on, in the second chunk."""
    clock.tick = 1 / 64

    def objective(w, x):
        return jnp.sum(x * jnp.where(w < -8.5, jnp.inf, w))

    start = fg.State(jnp.float32(-5.0), optax.sgd(1.0).init(0.0), jnp.int32(5))
    with pytest.raises(fg.DivergedError, match=r"inf at step 9: .* after 8 updates"):
        fg.fit(objective, optax.sgd(1.0), start, np.ones(1, np.float32), steps=99)


def test_divergence_names_the_parameter_that_was_lost():
    def objective(params, x):
        return jnp.sum(params["b"] * x) + 0 * params["a"]

    start = {"a": jnp.float32(1.0), "b": jnp.float32(3e38)}
    with pytest.raises(fg.DivergedError, match=r"inf at step 1, as params\['b'\] had"):
        fg.fit(objective, optax.sgd(-3e38), start, ONE, steps=9, progress=None)


def test_losses_are_kept_in_the_float_they_have():
    """A third is another number in float32, and the history has it in float64."""

    def objective(w, x):
        return jnp.sum(w * x) / 3

    with jax.enable_x64(True):
        w, x = jnp.float64(1.0), np.ones(1)
        fit = fg.fit(objective, optax.sgd(0.0), w, x, steps=2, progress=None)
    assert fit.history.loss.dtype == np.float64
    assert fit.history.loss.tolist() == [1 / 3, 1 / 3]
    fit = fg.fit(objective, optax.sgd(0.0), 1.0, np.ones(1, np.float32), steps=2)
    assert fit.history.loss.dtype == np.float32
    assert fit.history.loss.tolist() == [np.float32(1 / 3)] * 2


def test_progress_may_be_true_or_false(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    def printed(progress):
        fg.fit(lambda w, x: w * jnp.sum(x), SGD, 0.0, ONE, steps=2, progress=progress)
        return capsys.readouterr().err

    assert "step 2/2" in printed(True)
    assert printed(False) == printed(None) == ""
    with pytest.raises(ValueError, match=r"progress must be a function, .* got 'yes'"):
        printed("yes")


class Unhashable:
    """Something that acts as `f` and has no hash, as a dataclass has none."""

    __hash__ = None

    def __init__(self, f=None, init=None):
        self.f, self.init = f, init

    def __call__(self, *arguments):
        return self.f(*arguments)

    update = __call__


def test_what_has_no_hash_is_trained_all_the_same():
    objective = Unhashable(lambda w, x: w * jnp.sum(x))
    optimizer = Unhashable(SGD.update, SGD.init)
    for f, o in ((objective, SGD), (objective.f, optimizer), (objective, optimizer)):
        fit = fg.fit(f, o, 0.0, ONE, steps=3, progress=None)
        assert fit.history.loss.tolist() == [0, -1, -2]


def test_a_fit_may_be_longer_than_what_the_device_keeps():
    steps = watching.LONGEST_CHUNK + 10
    fit = fg.fit(
        lambda w, x: w * jnp.sum(x), optax.sgd(1.0), 0.0, np.ones(1, np.float32),
        steps=steps, progress=None,
    )  # fmt: skip
    assert fit.history.loss.tolist() == [-float(i) for i in range(steps)]


def test_a_member_of_many_is_trained_on():
    """`train_many` returns NumPy arrays; what goes on from them is the same run."""

    def objective(w, x):
        return jnp.sum((w - x) ** 2)

    key, data = jax.random.key(0), jnp.ones(3)
    rates = {"learning_rate": np.array([0.125, 0.25])}
    states, _ = fg.train_many(
        objective, optax.sgd, jax.random.normal, rates, data, steps=2, key=key
    )
    member = fg.select(states, 1)
    assert isinstance(member.params, (np.ndarray, np.generic))
    given = {"data": data, "steps": 3, "progress": None}
    ended = fg.fit(objective, optax.sgd(0.25), member, **given)
    again = fg.fit(objective, optax.sgd(0.25), jax.device_put(member), **given)
    assert int(ended.state.step) == 5
    assert ended.history.loss.tolist() == again.history.loss.tolist()
    assert len(set(ended.history.loss.tolist())) == 3
