"""Members in groups, in calls, on threads: the same nets as one vmap's."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from member_problems import KEY, MEMBERS, integer_problem, integers, same_bits

import funcgrad as fg
from funcgrad import ensemble
from funcgrad.fast import groups

HAS_LOOPS = jax.__version_info__ >= (0, 11)


@pytest.mark.exhaustive
def test_groups_and_calls_do_not_change_results(monkeypatch):
    """Five members in three groups, in one, and in three that share two calls."""
    model, objective, data = integer_problem()
    hyper = {"learning_rate": 2.0 ** -np.arange(4, 9)}
    monkeypatch.setattr(groups, "cores", lambda: 1)
    results = []
    for most, fewest_calls, progress in [
        (2, 3, [(2, 5), (4, 5), (5, 5)]),
        (5, 1, [(5, 5)]),
        (2, 2, [(4, 5), (5, 5)]),
    ]:
        monkeypatch.setattr(groups, "MOST_MEMBERS_OF_A_GROUP", most)
        monkeypatch.setattr(groups, "FEWEST_CALLS_OF_A_WORKER", fewest_calls)
        seen = []
        results.append(
            fg.train_many(
                objective, optax.sgd, model.init, hyper, data, steps=3, key=KEY,
                progress=lambda *where, seen=seen: seen.append(where),
            )
        )  # fmt: skip
        assert seen == progress
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])


def test_groups_run_on_several_threads(monkeypatch, small_groups):
    model, objective, data = integer_problem()
    together, threads = threading.Barrier(2, timeout=30), set()
    device_get = jax.device_get

    def meet(tree):
        here = threading.current_thread()
        if here is not threading.main_thread() and here not in threads:
            threads.add(here)
            together.wait()  # breaks unless two groups are under way
        return device_get(tree)

    monkeypatch.setattr(groups.jax, "device_get", meet)
    hyper = {"learning_rate": np.full(6, 0.5)}
    fg.train_many(objective, optax.sgd, model.init, hyper, data, steps=1, key=KEY)
    assert len(threads) == 2


@pytest.mark.exhaustive
def test_a_second_call_traces_nothing():
    model, objective, data = integer_problem()
    traces = 0

    def counted(params, batch):
        nonlocal traces
        traces += 1
        return objective(params, batch)

    def run(rates):
        return fg.train_many(
            counted, optax.sgd, model.init, {"learning_rate": rates}, data, steps=2,
            key=KEY,
        )  # fmt: skip

    run(np.full(4, 0.5))
    # One is compiled, one tells what the losses cannot take, and one is counted.
    assert traces == 3
    run(np.full(4, 0.25))
    assert traces == 3
    run(np.full(5, 0.25))  # another size of group: the guard above can fail
    assert traces == 4


@pytest.mark.exhaustive
def test_what_was_compiled_serves_no_other_settings_of_jax():
    """Precision and the search for NaN are compiled into a program, or out of it."""
    model, objective, data = integer_problem()
    seen = []

    def noted(params, batch):
        seen.append(jax.config.jax_default_matmul_precision)
        return objective(params, batch)

    def run():
        return fg.train_many(
            noted, optax.sgd, model.init, {"learning_rate": np.full(4, 0.5)},
            jax.tree.map(np.float32, data), steps=2, key=KEY,
        )  # fmt: skip

    first = run()
    with jax.default_matmul_precision("highest"):
        assert same_bits(first, run())
    # Twice more at first, by the look at the data and by the count of operations, which
    # no setting changes.
    assert seen == [None, None, None, "highest"]
    with jax.debug_nans(True):
        run()
    assert len(seen) == 5
    run()
    assert len(seen) == 5


def test_the_programs_have_the_precision_that_was_asked_for(monkeypatch):
    """On a CPU it changes no number, so it is read off what is compiled."""
    texts = []
    jit = jax.jit

    def noted(f, **options):
        jitted = jit(f, **options)

        class Noted:
            def trace(self, *arguments):
                traced = jitted.trace(*arguments)
                texts.append(traced.lower().as_text())
                return traced

        return Noted() if options else jitted

    def objective(w, x):
        return jnp.sum(jnp.dot(x, w))

    def run():
        fg.train_many(
            objective, optax.sgd, lambda key: jnp.ones((64, 64)),
            {"learning_rate": np.full(2, 0.5)}, np.ones((64, 64), np.float32),
            steps=1, key=KEY,
        )  # fmt: skip

    # Tries its options once, and none of that counts.
    groups.compiler_options("cpu", is_group=True)
    monkeypatch.setattr(groups.jax, "jit", noted)
    run()
    with jax.default_matmul_precision("highest"):
        run()
    assert ["HIGHEST" in text for text in texts] == [False, True]


@pytest.mark.exhaustive
def test_jit_gives_the_same_members(small_groups):
    model, objective, data = integer_problem()

    def run(rates):
        return fg.train_many(
            objective, optax.sgd, model.init, {"learning_rate": rates}, data, steps=3,
            key=KEY,
        )  # fmt: skip

    rates = jnp.full(MEMBERS, 0.0625)
    assert same_bits(run(rates), jax.jit(run)(rates))


# Sizes go by the work -------------------------------------------------------------


def layers(sizes):
    """Return an MLP's objective and init, and a function that draws so many rows."""
    model = fg.mlp(sizes)
    return (
        fg.objective(model, fg.squared_error),
        model.init,
        lambda rows: (np.ones((rows, sizes[0])), np.ones((rows, sizes[-1]))),
    )


def bigrams(tokens, width):
    """Return the same of a language model, whose rows are tokens and products dots."""

    def objective(params, rows):
        vectors, out = params
        wanted = jax.nn.one_hot(rows[:, 1:], tokens)
        return fg.squared_error(vectors[rows[:, :-1]] @ out, wanted)

    def init(key):
        return integers(key, (tokens, width)), integers(key, (width, tokens))

    return objective, init, lambda length: np.arange(2 * length).reshape(2, -1) % tokens


@pytest.mark.parametrize(
    ("problem", "rows", "size"),
    [
        (layers([3, 4, 4, 1]), 4, 64),  # as many as there may be, in lanes
        # Whole registers, and half as many where sums are written out, JAX being old.
        (layers([4, 8, 8, 2]), 16, 16 if HAS_LOOPS else 8),
        # Products in loops, alone; where JAX is too old for loops they are dots.
        (layers([2, 16, 16, 1]), 100, 1 if HAS_LOOPS else 7),
        (layers([8, 16, 1]), 32, 8 if HAS_LOOPS else 7),
        (layers([16, 64, 64, 1]), 32, 7),  # dots, which others share, in no lanes
        (layers([16, 64, 64, 1]), 1000, 1),
        (bigrams(27, 16), 4, 16),
        (bigrams(27, 16), 100, 7),  # the same two rows, of more tokens each
        (bigrams(27, 16), 2000, 1),
    ],
)
def test_a_group_has_so_many_members_as_work_allows(monkeypatch, problem, rows, size):
    objective, init, draw = problem
    told = []

    def noted(run, own, shared, work, *rest):
        told.append(groups.group_sizes(work, 64, jax.local_devices()[0], 2)[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(ensemble, "map_members", noted)
    with pytest.raises(KeyboardInterrupt):
        fg.train_many(
            objective, optax.sgd, init, {"learning_rate": np.full(64, 0.5)},
            draw(rows), steps=2, key=KEY,
        )  # fmt: skip
    assert told == [size]


@pytest.mark.exhaustive
def test_groups_of_a_language_model_are_its_members_alone(monkeypatch):
    """Exact: whole numbers for one step; in lanes, side by side, and one by one."""
    objective, init, draw = bigrams(5, 3)
    rows, rates = draw(6), 2.0 ** -np.arange(8, 18)
    given = {"steps": 1, "key": KEY}
    alone = []
    for member, rate in enumerate(rates):
        init_key, _ = fg.member_keys(KEY, member)
        start = fg.init_state(init(init_key), optax.sgd(rate))
        state, losses = fg.train(objective, optax.sgd(rate), start, rows, steps=1)
        alone.append((state.params, losses))
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    for limits in [(2**20, 0), (1, 2**20), (1, 1)]:
        monkeypatch.setattr(groups, "OPERATIONS_OF_A_GROUP", limits[0])
        monkeypatch.setattr(groups, "OPERATIONS_SIDE_BY_SIDE", limits[1])
        states, losses = fg.train_many(
            objective, optax.sgd, init, {"learning_rate": rates}, rows, **given
        )
        assert same_bits((states.params, losses), alone)
    assert len({float(x) for x in losses.ravel()}) > 3  # they differ
