"""One step, many steps, and the run watched: the same computation, in both engines."""

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import exact
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from reference import Ball, Value

STEPS = 20


def integer_problem():
    """Return a relu net's sizes, integer params, and four rows with their signs."""
    rng = np.random.default_rng(4)
    sizes = [2, 3, 1]
    nested = [
        (rng.integers(-2, 3, (n_in, n_out)), rng.integers(-2, 3, n_out))
        for n_in, n_out in pairwise(sizes)
    ]
    return sizes, nested, (rng.integers(-2, 3, (4, 2)), rng.choice([-1, 1], (4, 1)))


def relu_objective(sizes):
    model = fg.mlp(sizes, activation=jax.nn.relu, final_activation=fg.linear)
    return fg.objective(model, fg.hinge)


def smooth_problem():
    """Return an objective, params and data that round at every step, in float64."""
    rng = np.random.default_rng(0)
    nested = [(rng.normal(size=(3, 4)), rng.normal(size=4)),
              (rng.normal(size=(4, 2)), rng.normal(size=2))]  # fmt: skip
    model = fg.mlp([3, 4, 2], final_activation=fg.linear)
    data = (rng.normal(size=(6, 3)), rng.normal(size=(6, 2)))
    return fg.objective(model, fg.squared_error), nested, data


def arrays(nested, dtype):
    return tuple(
        fg.Layer(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in nested
    )


def reference_run(nested, activation, loss, data, rate, number):
    """Train in the scalar engine; return losses, last params, and bits needed."""
    net = exact.reference_net(nested, activation, number)
    losses, bits = [], 0
    for _ in range(STEPS):
        if number is Fraction:
            params = [(np.array(w), np.array(b)) for w, b in net.to_params()]
            bits = max(bits, exact.bits_needed(params, loss, *data))
        total = exact.reference_loss(net, loss, *data, number)
        net.zero_grad()
        total.backward()
        for p in net.parameters():
            p.data -= rate * p.grad
        losses.append(total.data)
    return losses, exact.flat(net.to_params()), bits


def four_ways(objective, optimizer, params, data, **batching):
    """Return (losses, params) of the same run, done in four ways."""
    step = fg.make_step(objective, optimizer)
    jitted = jax.jit(step)
    results = {}
    for name, one in {"loop": step, "jitted loop": jitted}.items():
        state, losses = fg.init_state(params, optimizer), []
        for _ in range(STEPS):
            state, loss = one(state, data)
            losses.append(float(loss))
        results[name] = losses, exact.flat(state.params)
    state, losses = jax.jit(
        lambda s: fg.train(objective, optimizer, s, data, steps=STEPS)
    )(fg.init_state(params, optimizer))
    results["train"] = exact.flat(losses), exact.flat(state.params)
    fit = fg.fit(objective, optimizer, params, data, steps=STEPS, progress=None)
    results["fit"] = exact.flat(fit.history.loss), exact.flat(fit.state.params)
    return results


# Rates that are powers of two keep the fractions dyadic. With 4 the gradient's quarters
# turn whole and 20 steps fit float32; with 2 they need float64; with 1 they outgrow it.
@pytest.mark.parametrize(("dtype", "rate"), [("float32", 4), ("float64", 2)])
def test_twenty_steps_equal_the_fractions_bit_for_bit(dtype, rate):
    sizes, nested, data = integer_problem()
    losses, params, bits = reference_run(nested, "relu", "hinge", data, rate, Fraction)
    assert bits <= exact.SIGNIFICAND[dtype]
    assert len(set(losses)) >= 4  # it does move
    with jax.enable_x64(dtype == "float64"):
        results = four_ways(
            relu_objective(sizes),
            optax.sgd(float(rate)),
            arrays(nested, dtype),
            jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), data),
        )
    for way, result in results.items():
        assert result == (losses, params), way


def test_the_guard_and_the_comparison_fail_where_steps_outgrow_the_float():
    sizes, nested, data = integer_problem()
    losses, params, bits = reference_run(nested, "relu", "hinge", data, 1, Fraction)
    assert bits > exact.SIGNIFICAND["float64"]
    results = four_ways(
        relu_objective(sizes),
        optax.sgd(1.0),
        arrays(nested, "float32"),
        jax.tree.map(lambda leaf: jnp.asarray(leaf, "float32"), data),
    )
    assert all(result != (losses, params) for result in results.values())


def test_twenty_steps_of_a_tanh_net_round_to_the_balls():
    objective, nested, data = smooth_problem()
    rate = 1 / 64
    losses, params, _ = reference_run(nested, "tanh", "squared_error", data, rate, Ball)
    with jax.enable_x64(True):
        results = four_ways(
            objective, optax.sgd(rate), arrays(nested, "float64"), arrays_of(data)
        )
    for way, result in results.items():
        for given, truth in zip(result, (losses, params), strict=True):
            truth = np.float32([float(ball) for ball in truth])
            assert np.float32(given).tolist() == truth.tolist(), way


def arrays_of(data):
    return jax.tree.map(jnp.asarray, data)


def test_batches_are_the_same_in_train_and_fit_and_over_resuming():
    """On integers, in batches of 2 out of 7 rows: three a step, one row sits out."""
    sizes, nested, _ = integer_problem()
    rng = np.random.default_rng(1)
    data = (rng.integers(-2, 3, (7, 2)) * 1.0, rng.choice([-1.0, 1.0], (7, 1)))
    objective, optimizer = relu_objective(sizes), optax.sgd(2.0)
    params, key = arrays(nested, "float32"), jax.random.key(3)
    batching = {"batch_size": 2, "key": key}

    state = fg.init_state(params, optimizer)
    whole = fg.train(objective, optimizer, state, data, steps=STEPS, **batching)
    first, losses_1 = fg.train(objective, optimizer, state, data, steps=7, **batching)
    last, losses_2 = fg.train(
        objective, optimizer, first, data, steps=STEPS - 7, **batching
    )
    resumed = (last, jnp.concatenate([losses_1, losses_2]))
    fit = fg.fit(objective, optimizer, params, data, steps=STEPS, **batching)
    begun = fg.fit(objective, optimizer, params, data, steps=7, **batching)
    ended = fg.fit(objective, optimizer, begun.state, data, steps=STEPS - 7, **batching)
    assert same_bits(whole, resumed)
    assert same_bits(whole, (fit.state, fit.history.loss))
    assert same_bits(whole[0], ended.state)
    assert ended.history.step.tolist() == list(range(7, STEPS))

    other = fg.train(
        objective, optimizer, state, data, steps=STEPS, batch_size=2,
        key=jax.random.key(4),
    )  # fmt: skip
    assert not same_bits(whole, other)


def test_each_epoch_sees_every_row_once():
    def objective(params, batch):
        return jnp.sum(batch * params)

    data = 2.0 ** jnp.arange(6)
    state = fg.init_state(1.0, optax.sgd(0.0))
    _, losses = fg.train(
        objective, optax.sgd(0.0), state, data, steps=6, batch_size=2,
        key=jax.random.key(0),
    )  # fmt: skip
    epochs = losses.reshape(2, 3)
    # Distinct powers of two: only all six of them add up to 63.
    assert epochs.sum(axis=1).tolist() == [63, 63]
    assert epochs[0].tolist() != epochs[1].tolist()


def same_bits(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)


def test_a_rerun_with_the_same_key_gives_the_same_bits():
    program = (
        "import jax, optax, funcgrad as fg\n"
        "model = fg.mlp([3, 8, 1])\n"
        "key = jax.random.key(0)\n"
        "data = (jax.random.normal(key, (20, 3)), jax.random.normal(key, (20, 1)))\n"
        "fit = fg.fit(fg.objective(model, fg.squared_error), optax.adam(1e-2),\n"
        "    model.init(key), data, steps=50, batch_size=4, key=key)\n"
        "print([leaf.tobytes().hex() for leaf in jax.tree.leaves(\n"
        "    jax.device_get(fit.state))])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("batch_size", [None, 3])
def test_one_trace_for_a_whole_fit(batch_size):
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
        objective, optimizer, params, data, steps=1234, progress=reports.append,
        **batching,
    )  # fmt: skip
    assert len(reports) > 2  # several chunks, of several sizes
    assert [r.done for r in reports][-1] == 1234
    assert traces == 1
    fg.fit(objective, optimizer, params, data, steps=99, progress=None, **batching)
    assert traces == 1


def test_the_callers_arrays_live_on():
    objective, nested, data = smooth_problem()
    params, data = arrays(nested, "float32"), arrays_of(data)
    before = jax.device_get((params, data))
    fg.fit(objective, optax.adam(1e-2), params, data, steps=50, progress=None)
    assert same_bits(before, (params, data))  # a donated array would raise here


def test_train_can_be_vmapped_over_keys_and_rates():
    sizes, _, data = integer_problem()
    model = fg.mlp(sizes, initializer=fg.uniform)
    objective = fg.objective(model, fg.squared_error)

    def run(key, rate):
        optimizer = optax.sgd(rate)
        state = fg.init_state(model.init(key, rate.dtype), optimizer)
        _, losses = fg.train(
            objective, optimizer, state, data, steps=5, batch_size=2, key=key
        )
        return losses

    with jax.enable_x64(True):
        keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0, 0.01, 0.1])
        together = jax.jit(jax.vmap(run))(keys, rates)
        alone = jnp.stack([run(k, r) for k, r in zip(keys, rates, strict=True)])
        assert together.shape == (3, 5)
        # vmap adds in another order: rounded to float32, as in the README.
        assert np.float32(together).tolist() == np.float32(alone).tolist()
        assert len(set(np.float32(alone)[:, -1].tolist())) == 3


def test_train_can_be_differentiated_through():
    """After two steps of (2 w - 6)^2 from w = 1, d loss / d rate = -512 (1 - 8 rate)^3.

    Each step multiplies w - 3 by 1 - 8 rate, so the loss is 16 (1 - 8 rate)^4; a rate
    of 1/16 makes every number in it a float.
    """

    def last_loss(rate):
        optimizer = optax.sgd(rate)
        state = fg.init_state(1.0, optimizer)
        rows = jnp.array([2.0])
        _, losses = fg.train(
            lambda w, x: jnp.sum((w * x - 6) ** 2), optimizer, state, rows, steps=3
        )
        return losses[-1]

    assert last_loss(1 / 16) == 1
    assert jax.grad(last_loss)(1 / 16) == -64


def test_forgetting_to_zero_adds_up_and_the_functional_step_cannot():
    """Accumulated over three steps, the gradient is the sum of the three, exactly."""
    w = Value(Fraction(1))
    gradients = []
    for _ in range(3):
        before = w.grad
        ((w * 2 - 6) ** 2).backward()
        gradients.append(w.grad - before)
        w.data -= Fraction(1, 16) * gradients[-1]
    assert w.grad == sum(gradients) == -16 - 8 - 4

    gradient = jax.grad(lambda w: (w * 2 - 6) ** 2)
    assert [gradient(v) for v in (1.0, 2.0, 2.5, 1.0)] == [-16, -8, -4, -16]


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
    data = jnp.array([1.0, jnp.nan])
    with pytest.raises(fg.DivergedError, match="became nan at step"):
        fg.fit(
            lambda w, x: jnp.sum(w * x), optax.sgd(0.1), 1.0, data, steps=50,
            batch_size=1, key=jax.random.key(0),
        )  # fmt: skip


def test_progress_line_is_for_terminals_only(capsys, monkeypatch):
    report = fg.Progress(50, 200, 0.125, fg.State(None, None, None), 1234.5, 3.2)
    fg.print_progress(report)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fg.print_progress(report)
    line = capsys.readouterr().err
    assert "step 50/200  loss 0.125  1,234 steps/s  3 s left" in line


BAD_CALLS = {
    "steps must be a whole number of at least 0, got -1": {"steps": -1},
    "steps must be a whole number of at least 0, got 2.5": {"steps": 2.5},
    "from 1 to the 4 rows of the data, got 5": {"batch_size": 5},
    "from 1 to the 4 rows of the data, got 0": {"batch_size": 0},
    "pass key=jax.random.key": {"batch_size": 2, "key": None},
    "same number of rows": {"data": (jnp.ones((4, 2)), jnp.ones((3, 1)))},
    "at least one": {"data": (jnp.ones((0, 2)), jnp.ones((0, 1)))},
    "along their first axis": {"data": 1.0},
}


@pytest.mark.parametrize("sentence", BAD_CALLS)
@pytest.mark.parametrize("run", [fg.train, fg.fit])
def test_bad_calls_say_what_is_required(run, sentence):
    sizes, nested, data = integer_problem()
    params, optimizer = arrays(nested, "float32"), optax.sgd(0.1)
    start = params if run is fg.fit else fg.init_state(params, optimizer)
    options = {"data": data, "steps": 1, "key": jax.random.key(0)}
    options |= BAD_CALLS[sentence]
    data = options.pop("data")
    with pytest.raises(ValueError, match=sentence):
        run(relu_objective(sizes), optimizer, start, data, **options)


def devices_touched_by(program):
    program += (
        "\nfrom jax._src import xla_bridge\n"
        "print(xla_bridge.backends_are_initialized())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip() == "True"


def test_importing_touches_no_device():
    assert not devices_touched_by("import funcgrad")
    assert devices_touched_by("import jax; jax.numpy.zeros(1)")  # and it can be told
