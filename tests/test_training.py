"""One step, and a whole run: the same computation in both engines, and pure."""

from fractions import Fraction

import exact
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import arrays, arrays_of, integer_problem, relu_objective, smooth_problem

import funcgrad as fg
from reference import Ball, Value

STEPS = 20


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
@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
def test_train_can_be_vmapped_over_keys_and_rates():
    sizes, _, data = integer_problem()
    model = fg.mlp(sizes, initializer=fg.uniform)
    objective = fg.objective(model, fg.squared_error)

    def run(key, rate):
        optimizer = optax.sgd(rate)
        state = fg.init_state(model.init(key, rate.dtype), optimizer)
        _, losses = fg.train(
            objective, optimizer, state, data, steps=4, batch_size=2, key=key
        )
        return losses

    with jax.enable_x64(True):
        keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0, 0.01, 0.1])
        together = jax.jit(jax.vmap(run))(keys, rates)
        one = jax.jit(run)
        alone = jnp.stack([one(k, r) for k, r in zip(keys, rates, strict=True)])
        assert together.shape == (3, 4)
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


BAD_CALLS = {
    "steps must be a whole number of at least 0, got -1": {"steps": -1},
    "steps must be a whole number of at least 0, got 2.5": {"steps": 2.5},
    "steps must be a whole number of at least 0, got True": {"steps": True},
    "steps must be at most 2,147,483,647 from step 0 on": {"steps": 2**31},
    "from 1 to the 4 rows of the data, got True": {"batch_size": True},
    "batch_size needs one random key, got 0": {"batch_size": 2, "key": 0},
    "from 1 to the 4 rows of the data, got 5": {"batch_size": 5},
    "from 1 to the 4 rows of the data, got 0": {"batch_size": 0},
    "pass key=jax.random.key": {"batch_size": 2, "key": None},
    "same number of rows": {"data": (jnp.ones((4, 2)), jnp.ones((3, 1)))},
    "at least one": {"data": (jnp.ones((0, 2)), jnp.ones((0, 1)))},
    "along their first axis": {"data": jnp.ones(())},
    r"got the number 1.0 at data: make an array": {"data": 1.0},
    r"got the number 0.5 at data\[0\]\[0\]\[0\]: make an array of each list": {
        "data": ([[0.5, 1.0]] * 4, [[1.0]] * 4)
    },
    r"needs arrays of numbers, got <U1 at data\[1\]": {
        "data": (jnp.ones((4, 2)), np.array(["a"] * 4))
    },
    r"needs arrays of numbers, got str at data\[1\]": {"data": (jnp.ones(4), "a")},
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


@pytest.mark.parametrize("run", [fg.train, fg.fit])
def test_what_is_wrong_with_many_leaves_is_said_in_a_line(run):
    start = 1.0 if run is fg.fit else fg.init_state(1.0, optax.sgd(0.1))
    rows = np.random.default_rng(0).normal(size=(10_000, 2))
    for data in (rows.tolist(), [np.ones(3)] * 999 + [np.ones(2)]):
        with pytest.raises(ValueError, match="data needs arrays") as caught:
            run(lambda w, x: w, optax.sgd(0.1), start, data, steps=1)
        assert len(str(caught.value)) < 300
    assert str(caught.value).endswith("and 992 more")


@pytest.mark.parametrize("run", [fg.train, fg.fit])
def test_whole_numbers_of_numpy_are_taken(run):
    sizes, nested, data = integer_problem()
    params, optimizer = arrays(nested, "float32"), optax.sgd(0.1)
    start = params if run is fg.fit else fg.init_state(params, optimizer)
    state, *_ = run(
        relu_objective(sizes), optimizer, start, data, steps=np.int64(3),
        batch_size=np.int32(2), key=jax.random.key(0),
    )  # fmt: skip
    assert state.step == 3


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("run", [fg.train, fg.fit])
def test_the_counter_reaches_its_last_number_and_never_overflows(run, batch_size):
    last, optimizer = 2**31 - 1, optax.sgd(0.1)
    start = fg.init_state(1.0, optimizer)._replace(step=jnp.int32(last - 3))

    def go(steps):
        return run(
            lambda w, x: w * jnp.sum(x), optimizer, start, np.ones(5, "f"), steps=steps,
            batch_size=batch_size, key=jax.random.key(0),
        )  # fmt: skip

    assert go(3)[0].step == last
    with pytest.raises(
        ValueError, match=r"steps must be at most 3 from step 2,147,483,644 on.* got 4:"
    ):
        go(4)


def test_train_wants_a_state():
    with pytest.raises(
        ValueError, match=r"from a State, got float: init_state\(params"
    ):
        fg.train(lambda w, x: w, optax.sgd(0.1), 1.0, np.ones(1), steps=1)


@pytest.mark.parametrize("start", [1, {"w": jnp.ones(2), "n": jnp.ones(2, int)}])
def test_parameters_that_are_no_floats_are_named(start):
    with pytest.raises(ValueError, match=r"params must be floats .* got int32 at para"):
        fg.init_state(start, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"got int32 at params(\['n'\])?: convert"):
        fg.fit(lambda w, x: w, optax.sgd(0.1), start, np.ones(1), steps=1)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_program_does_not_grow_with_the_steps(batch_size):
    """What is compiled has as many lines for ten million steps as for a thousand."""
    model, optimizer = fg.mlp([3, 4, 4, 1]), optax.adam(1e-2)
    data = (np.ones((4, 3), np.float32), np.ones((4, 1), np.float32))
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)

    def lines(steps):
        run = jax.jit(
            lambda s: fg.train(
                fg.objective(model, fg.squared_error), optimizer, s, data, steps=steps,
                batch_size=batch_size, key=jax.random.key(1),
            )
        )  # fmt: skip
        return len(run.lower(state).as_text().splitlines())

    assert lines(1_000) == lines(10_000_000)
    assert lines(1_000) != lines(1_001) or batch_size is None  # a rest is seen


@pytest.mark.parametrize("how", [fg.fit, fg.make_step])
def test_what_is_no_objective_or_no_optimizer_is_refused(how):
    model, rows = fg.mlp([2, 1]), (jnp.ones((3, 2)), jnp.ones((3, 1)))
    good = fg.objective(model, fg.squared_error), optax.sgd(0.1)
    given = (model.init(jax.random.key(0)), rows) if how is fg.fit else ()
    options = {"steps": 1, "progress": None} if how is fg.fit else {}
    with pytest.raises(ValueError, match="objective must be a function, such as"):
        how(model, good[1], *given, **options)
    with pytest.raises(ValueError, match=r"such as optax.sgd\(0.1\), .* got sgd"):
        how(good[0], optax.sgd, *given, **options)


def test_members_are_given_a_function_that_makes_their_optimizers():
    model, rows = fg.mlp([2, 1]), (jnp.ones((3, 2)), jnp.ones((3, 1)))
    objective = fg.objective(model, fg.squared_error)
    rates = {"learning_rate": jnp.ones(2)}
    with pytest.raises(ValueError, match="make_optimizer must be a function of"):
        fg.train_many(
            objective, optax.sgd(0.1), model.init, rates, rows, steps=1,
            key=jax.random.key(0),
        )  # fmt: skip
