"""Members in groups, in calls, on threads: the same nets as one vmap's."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
from member_problems import KEY, MEMBERS, integer_problem, same_bits

import funcgrad as fg
from funcgrad.fast import groups


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
    assert traces == 2  # one is compiled, and one tells what the losses cannot take
    run(np.full(4, 0.25))
    assert traces == 2
    run(np.full(5, 0.25))  # another size of group: the guard above can fail
    assert traces == 3


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
    # Once more at first, by the look at the data, which no setting changes.
    assert seen == [None, None, "highest"]
    with jax.debug_nans(True):
        run()
    assert len(seen) == 4
    run()
    assert len(seen) == 4


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


def test_jit_gives_the_same_members(small_groups):
    model, objective, data = integer_problem()

    def run(rates):
        return fg.train_many(
            objective, optax.sgd, model.init, {"learning_rate": rates}, data, steps=3,
            key=KEY,
        )  # fmt: skip

    rates = jnp.full(MEMBERS, 0.0625)
    assert same_bits(run(rates), jax.jit(run)(rates))
