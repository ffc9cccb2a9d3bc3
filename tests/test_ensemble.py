"""Many members at once are the same nets as each of them alone."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from member_problems import KEY, MEMBERS, integer_problem, same_bits

import funcgrad as fg
from funcgrad.fast import groups


def smooth_problem():
    model = fg.mlp([3, 4, 1])
    x = jax.random.normal(KEY, (8, 3))
    return model, fg.objective(model, fg.squared_error), (x, jnp.sin(x[:, :1]))


def alone(model, objective, make_optimizer, **settings):
    """Return run(i, hyper, data): member `i` with `train` alone, no vmap."""

    @jax.jit
    def run(i, hyper, data):
        init_key, train_key = fg.member_keys(KEY, i)
        hyper = dict(hyper)
        scale = hyper.pop("init_scale", 1)
        params = jax.tree.map(lambda p: p * scale, model.init(init_key))
        optimizer = make_optimizer(**hyper)
        state = fg.init_state(params, optimizer)
        return fg.train(objective, optimizer, state, data, key=train_key, **settings)

    return run


def rounded(tree):
    return jax.tree.map(np.float32, jax.device_get(tree))


@pytest.mark.parametrize(
    ("batch_size", "own_data", "in_lanes"),
    [
        (2, True, True),
        (None, False, False),
        pytest.param(None, False, True, marks=pytest.mark.exhaustive),
        pytest.param(2, False, False, marks=pytest.mark.exhaustive),
        pytest.param(None, True, False, marks=pytest.mark.exhaustive),
    ],
)
def test_members_on_integers_are_bit_for_bit_those_alone(
    small_groups, monkeypatch, batch_size, own_data, in_lanes
):
    monkeypatch.setattr(groups, "FEWEST_LANES", 1 if in_lanes else 100)
    model, objective, (x, y) = integer_problem()
    rates = 2.0 ** -np.arange(4, 4 + MEMBERS)
    shift = np.arange(MEMBERS)[:, None, None]
    data = (x + shift, y - shift) if own_data else (x, y)
    settings = {"steps": 3, "batch_size": batch_size}
    states, losses = fg.train_many(
        objective, optax.sgd, model.init, {"learning_rate": rates}, data, key=KEY,
        own_data=own_data, **settings,
    )  # fmt: skip
    assert losses.shape == (MEMBERS, 3)
    one = alone(model, objective, optax.sgd, **settings)
    for i, rate in enumerate(rates):
        mine = fg.select(data, i) if own_data else data
        expected = one(i, {"learning_rate": np.float32(rate)}, mine)
        assert same_bits(expected, fg.select((states, losses), i)), i
    assert len({tuple(row) for row in losses.tolist()}) > 1


@pytest.mark.exhaustive
def test_members_in_float64_round_to_those_alone(small_groups):
    """Every kind of hyper-parameter at once, minibatches, a score, in any group."""
    with jax.enable_x64(True):
        model, objective, data = smooth_problem()

        def make_optimizer(rate, decay, b1):
            return optax.adamw(rate, b1=b1, weight_decay=decay)

        hyper = {
            "rate": np.logspace(-3, -1, MEMBERS),
            "decay": np.linspace(0, 1e-2, MEMBERS),
            "b1": np.linspace(0.5, 0.9, MEMBERS),
            "init_scale": np.linspace(0.5, 2, MEMBERS),
        }

        def init(key):
            return model.init(key, jnp.float64)

        settings = {"steps": 10, "batch_size": 3}
        states, losses = fg.train_many(
            objective, make_optimizer, init, hyper, data, key=KEY, **settings
        )
        one = alone(fg.Model(init, model.apply), objective, make_optimizer, **settings)
        for i in range(MEMBERS):
            expected = one(i, {name: v[i] for name, v in hyper.items()}, data)
            # vmap adds in another order: `design.md`, "exactly" 4.
            assert same_bits(rounded(expected), rounded(fg.select((states, losses), i)))
    assert losses.dtype == np.float64  # in the worker threads as in this one


def test_sweep_keeps_the_best_parameters_of_each_member():
    """Here w becomes w - rate * 2 w: at rate 0.25 it halves."""

    def objective(params, batch):
        return jnp.mean(batch * params**2)

    result = fg.sweep(
        objective, optax.sgd, lambda key: jnp.ones(()), {
            "learning_rate": np.array([0.25, 1.25, np.nan]),
            "init_scale": np.array([1.0, 2.0, 1.0]),
        },
        np.ones(3), score=lambda w: abs(w - 0.5), every=2, steps=5, key=KEY,
    )  # fmt: skip
    # Halving: 1, 1/2, 1/4, 1/8, 1/16, 1/32. Times -1.5: 2, -3, 4.5, ..., -15.1875.
    assert result.losses[0].tolist() == [4.0**-i for i in range(5)]
    assert result.scores[0].tolist() == [0.25, 0.4375, 0.46875]
    assert result.best_scores[0] == 0.25
    assert result.best_params[0] == 0.25
    assert result.states.params[0] == 1 / 32
    assert result.scores[1].tolist() == [4.0, 9.625, 15.6875]
    assert result.best_params[1] == 4.5
    # A member that diverged never had a best, and disturbed no other.
    assert np.isnan(result.losses[2][1:]).all()
    assert result.best_scores[2] == np.inf
    assert result.best_params[2] == 1.0
    assert fg.best(result.best_scores) == 0
    assert fg.top(result.best_scores, 3).tolist() == [0, 1, 2]


# An epoch has three batches, so that the seventh step is a rest, compiled once more.
@pytest.mark.exhaustive
@pytest.mark.parametrize("steps", [6, 7])
def test_sweep_trains_as_train_many_does(steps):
    model, objective, data = integer_problem()
    hyper, settings = {"learning_rate": 2.0 ** -np.arange(4, 8)}, {"steps": steps}
    given = (objective, optax.sgd, model.init, hyper, data)
    expected = fg.train_many(*given, batch_size=2, key=KEY, **settings)
    result = fg.sweep(
        *given, batch_size=2, key=KEY, every=3, **settings,
        score=lambda params: objective(params, data),
    )  # fmt: skip
    assert same_bits(expected, (result.states, result.losses))
    assert result.scores.shape == (4, -(-steps // 3))


def test_the_first_of_equal_scores_is_kept_and_an_infinite_one_never():
    """Here w becomes 1, 0, -1, ...: at a rate of 1, the slope being 1."""

    def run(score):
        return fg.sweep(
            lambda w, x: jnp.sum(x) * w, optax.sgd, lambda key: jnp.float32(2),
            {"learning_rate": np.ones(1)}, np.ones(1, np.float32), score=score,
            every=1, steps=4, key=KEY,
        )  # fmt: skip

    result = run(lambda w: jnp.abs(w))
    assert result.scores[0].tolist() == [1, 0, 1, 2]
    assert (result.best_params[0], result.best_scores[0]) == (0, 0)
    result = run(lambda w: w * 0)
    assert result.best_params[0] == 1  # after the first round, not the last
    for never in (jnp.inf, jnp.nan):
        result = run(lambda w, never=never: w * 0 + never)
        assert (result.best_params[0], result.best_scores[0]) == (2, np.inf)
        with pytest.raises(ValueError, match="every one of them diverged"):
            fg.best(result.best_scores)


def test_init_and_train_never_share_a_key():
    drawn = [KEY, *(k for i in range(3) for k in fg.member_keys(KEY, i))]
    assert len({tuple(jax.random.key_data(k).tolist()) for k in drawn}) == 7


def test_a_member_is_drawn_and_shuffled_by_its_own_two_keys():
    """The objective of a row is its number, so that losses are the order of rows."""
    rows = np.arange(4, dtype=np.float32)
    states, losses = fg.train_many(
        lambda w, x: jnp.sum(x) + 0 * w.sum(), optax.sgd,
        lambda key: jax.random.bits(key, (2,)).astype(jnp.float32),
        {"learning_rate": np.zeros(3)}, rows, steps=4, batch_size=1, key=KEY,
    )  # fmt: skip
    start = fg.init_state(0.0, optax.sgd(0.0))
    order = jax.jit(
        lambda key: fg.train(
            lambda w, x: jnp.sum(x) + 0 * w, optax.sgd(0.0), start, rows, steps=4,
            batch_size=1, key=key,
        )[1]
    )  # fmt: skip
    for i in range(3):
        init_key, train_key = fg.member_keys(KEY, i)
        first = jax.random.bits(init_key, (2,)).astype(jnp.float32)
        assert states.params[i].tolist() == first.tolist()
        assert losses[i].tolist() == order(train_key).tolist()
    assert len({tuple(row) for row in losses.tolist()}) == 3


def test_float32_stays_float32_where_float64_is_on():
    """Neither a scale in float64 nor a rate widens parameters, losses or scores."""
    model, objective, (x, y) = integer_problem()
    data = np.float32(x), np.float32(y)
    with jax.enable_x64(True):
        result = fg.sweep(
            objective, lambda rate: optax.sgd(jnp.float32(rate)), model.init,
            {"rate": np.ones(2) / 64, "init_scale": np.array([1.0, 2.0])}, data,
            score=lambda params: objective(params, data), every=2, steps=2, key=KEY,
        )  # fmt: skip
    floats = (
        result.states.params, result.losses, result.scores, result.best_scores,
        result.best_params,
    )  # fmt: skip
    assert {leaf.dtype.name for leaf in jax.tree.leaves(floats)} == {"float32"}
    assert result.states.step.dtype == np.int32


def test_top_and_best_put_nan_last():
    scores = [3.0, np.nan, 1.0, 2.0, -np.inf]
    assert fg.top(scores, 5).tolist() == [4, 2, 3, 0, 1]
    assert fg.best(scores[:4]) == fg.best(scores) == 2  # -inf is no number either
    with pytest.raises(ValueError, match="every one of them diverged"):
        fg.best([np.nan, np.inf])
    with pytest.raises(ValueError, match=r"n from 1 to their number.*n = 6"):
        fg.top(scores, 6)


def test_committee_is_the_mean_and_the_spread():
    def apply(params, x):
        return params * x

    params = jnp.array([1.0, 2.0, 3.0, 100.0])
    mean, spread = fg.committee(apply, fg.select(params, [0, 2]), jnp.array([1.0, 2.0]))
    assert mean.tolist() == [2.0, 4.0]
    assert spread.tolist() == [1.0, 2.0]


@pytest.mark.exhaustive
def test_own_data_may_have_fewer_members_than_rows():
    model, objective, (x, y) = integer_problem()
    rates = {"learning_rate": np.full(2, 1 / 64)}
    data = np.stack([x, -x]), np.stack([y, y])
    _, losses = fg.train_many(
        objective, optax.sgd, model.init, rates, data, steps=1, batch_size=6, key=KEY,
        own_data=True,
    )  # fmt: skip
    assert losses.shape == (2, 1)


def test_what_does_not_fit_is_named():
    model, objective, data = integer_problem()

    def run(hyper, data=data, **settings):
        settings = {"steps": 1, "key": KEY, **settings}
        return fg.train_many(objective, optax.sgd, model.init, hyper, data, **settings)

    with pytest.raises(ValueError, match=r"number of members.*momentum.*\(3,\)"):
        run({"learning_rate": np.ones(2), "momentum": np.ones(3)})
    with pytest.raises(ValueError, match=r"the number 0.1 at hyperparams\['learning_r"):
        run({"learning_rate": 0.1})
    with pytest.raises(ValueError, match=r"the number 0.1 at .* each list of numbers"):
        run({"learning_rate": [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"the number -?\d.\d at data\[0\]\[0\]\[0\]"):
        run({"learning_rate": np.ones(2)}, jax.tree.map(np.ndarray.tolist, data))
    with pytest.raises(ValueError, match="key needs one random key, got 0"):
        run({"learning_rate": np.ones(2)}, key=0)
    with pytest.raises(ValueError, match=r"progress must be a function, .* got 'yes'"):
        run({"learning_rate": np.ones(2)}, progress="yes")
    with pytest.raises(ValueError, match="steps must be at most 2,147,483,647 from"):
        run({"learning_rate": np.ones(2)}, steps=2**31)
    with pytest.raises(ValueError, match="data has 6 members, and hyperparams has 2"):
        run({"learning_rate": np.ones(2)}, own_data=True)
    with pytest.raises(ValueError, match="batch_size must be"):
        run({"learning_rate": np.ones(2)}, batch_size=9)
    with pytest.raises(ValueError, match="steps must be"):
        run({"learning_rate": np.ones(2)}, steps=-1)
    for every in (0, True, 1.5):
        with pytest.raises(ValueError, match="every must be a whole number of at lea"):
            fg.sweep(
                objective, optax.sgd, model.init, {"learning_rate": np.ones(2)}, data,
                score=lambda p: 0.0, every=every, steps=1, key=KEY,
            )  # fmt: skip


def halved(w, batch):
    """Return mean w^2: at rate 1/4 a step halves w, exactly."""
    return jnp.mean(batch * w**2)


def ones(key):
    return jnp.ones(())


def run_both(
    steps, every=2, objective=halved, make_optimizer=optax.sgd, init=ones,
    score=jnp.abs, **settings,
):  # fmt: skip
    """Return what train_many and sweep make of seven members that halve w."""
    rates = {"learning_rate": np.full(MEMBERS, 0.25)}
    given = (objective, make_optimizer, init, rates, np.ones(4))
    settings = {"steps": steps, "key": KEY, **settings}
    return (
        fg.train_many(*given, **settings),
        fg.sweep(*given, **settings, score=score, every=every),
    )


@pytest.mark.parametrize("batch_size", [None, 2])
def test_no_steps_give_no_losses(small_groups, batch_size):
    (states, losses), swept = run_both(0, batch_size=batch_size)
    assert losses.shape == swept.losses.shape == swept.scores.shape == (MEMBERS, 0)
    assert states.step.tolist() == [0] * MEMBERS
    assert states.params.tolist() == swept.best_params.tolist() == [1] * MEMBERS
    assert np.isinf(swept.best_scores).all()


@pytest.mark.exhaustive
def test_whole_numbers_of_numpy_are_taken():
    plain = run_both(3, batch_size=2)
    theirs = run_both(np.int64(3), every=np.int64(2), batch_size=np.int32(2))
    assert same_bits(plain, theirs)
    assert fg.top([2.0, 1.0], np.int64(1)).tolist() == [1]
    with pytest.raises(ValueError, match="n = True"):
        fg.top([2.0, 1.0], True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("steps", [1, 3])
def test_both_run_where_jit_is_off(small_groups, steps):
    compiled = run_both(steps)
    with jax.disable_jit():
        eager = run_both(steps)
    assert same_bits(compiled, eager)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(eager))


def test_functions_without_a_hash_are_taken():
    class Unhashable:
        __hash__ = None

        def __init__(self, f):
            self.f = f

        def __call__(self, *arguments, **named):
            return self.f(*arguments, **named)

    with pytest.raises(TypeError, match="unhashable"):
        hash(Unhashable(halved))
    functions = {
        "objective": halved, "make_optimizer": optax.sgd, "init": ones, "score": jnp.abs
    }  # fmt: skip
    unhashable = {name: Unhashable(f) for name, f in functions.items()}
    assert same_bits(run_both(3), run_both(3, **unhashable))


def test_progress_may_be_true_or_false(small_groups, capsys, monkeypatch):
    # On one thread two calls end in their order.
    monkeypatch.setattr(groups, "cores", lambda: 1)
    monkeypatch.setattr(groups, "FEWEST_CALLS_OF_A_WORKER", 2)
    run_both(1, progress=True)
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for progress in (False, None):
        run_both(1, progress=progress)
        assert capsys.readouterr().err == ""
    run_both(1, progress=True)
    line = "\r\x1b[K6/7 members\r\x1b[K7/7 members\n"
    assert capsys.readouterr().err == 2 * line


def test_a_committee_of_a_single_net_is_refused():
    model = fg.mlp([2, 3, 1])
    with pytest.raises(
        ValueError, match=r"number of members, .* for a single net call apply\(params"
    ):
        fg.committee(model.apply, model.init(KEY), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"got the number 1.0 at params"):
        fg.committee(lambda p, x: p * x, 1.0, np.ones(2))
    # Where every leaf happens to have three rows, the net itself says it.
    square = fg.mlp([3, 3])
    with pytest.raises(
        ValueError, match=r"\[0\]\.w must be an array of shape \(3, 3\)"
    ):
        fg.committee(square.apply, square.init(KEY), np.ones((4, 3)))
