"""Whole runs lower for CPUs, CUDA and TPUs, and run on a GPU where there is one.

Lowering needs no accelerator. It shows that nothing in a run is tied to the CPU; what
XLA's compiler for the other platform makes of it is for the tests marked `gpu`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import funcgrad as fg
from funcgrad.testing import doctor

KEY = jax.random.key(0)


PLATFORMS = ["cpu", "cuda", "tpu"]


DATA = (np.ones((6, 3), np.float32), np.zeros((6, 1), np.float32))


MODEL = fg.mlp([3, 4, 4, 1])


OBJECTIVE = fg.objective(MODEL, fg.squared_error)


def train(params, batch_size=None, steps=10):
    optimizer = optax.adam(1e-2)
    state = fg.init_state(params, optimizer)
    return fg.train(
        OBJECTIVE, optimizer, state, DATA, steps=steps, batch_size=batch_size, key=KEY
    )


def train_many(rates, batch_size=None, steps=10):
    return fg.train_many(
        OBJECTIVE, optax.adam, MODEL.init, {"learning_rate": rates}, DATA, steps=steps,
        batch_size=batch_size, key=KEY,
    )  # fmt: skip


PARAMS, RATES = MODEL.init(KEY), jnp.logspace(-3, -1, 5)


def numbers(result):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)]


# An epoch has three batches: six steps are two, and ten leave a rest, which is compiled
# a second time.
@pytest.mark.parametrize(
    ("run", "argument", "batch_size", "steps"),
    [
        pytest.param(train, PARAMS, 2, 6, id="train-2-6"),
        *(
            pytest.param(*case, 10, marks=pytest.mark.exhaustive)
            for case in [
                (train, PARAMS, None),
                (train, PARAMS, 2),
                (train_many, RATES, None),
                (train_many, RATES, 2),
            ]
        ),
    ],
)
def test_a_whole_run_lowers_for_all_platforms_at_once(run, argument, batch_size, steps):
    jitted = jax.jit(lambda a: run(a, batch_size, steps))
    exported = export.export(jitted, platforms=PLATFORMS)(argument)
    assert exported.platforms == tuple(PLATFORMS)
    # The program for three platforms picks its branch when it is compiled for one.
    for one, other in zip(
        numbers(exported.call(argument)),
        numbers(jitted(argument)),
        strict=True,
    ):
        assert np.array_equal(one, other)


@pytest.fixture
def gpu():
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        pytest.skip("needs a GPU: JAX sees none here")


@pytest.mark.gpu
def test_a_gpu_is_exact_on_integers_and_its_gradients_are_proven(gpu):
    with jax.default_device(gpu), jax.default_matmul_precision("highest"):
        assert [finding for finding in doctor.examine() if not finding.ok] == []


@pytest.mark.gpu
def test_fit_on_a_gpu_sees_the_batches_of_a_cpu(gpu):
    """Sums of powers of two, exact on both."""
    data, runs = np.float32(2) ** np.arange(12), []
    for device in (jax.devices("cpu")[0], gpu):
        with jax.default_device(device):
            runs.append(
                fg.fit(
                    lambda w, x: jnp.sum(w * x), optax.sgd(0.0), 1.0, data, steps=9,
                    batch_size=4, key=KEY, progress=None,
                ).history.loss
            )  # fmt: skip
    assert runs[0].tolist() == runs[1].tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("many", [False, True])
def test_a_gpu_trains_the_same_integers_as_a_cpu(gpu, many):
    def draw(key, shape, dtype):
        return jax.random.randint(key, shape, -1, 2).astype(dtype)

    model = fg.mlp([2, 3, 1], activation=jax.nn.relu, initializer=draw)
    objective = fg.objective(model, fg.squared_error)
    data = (np.float32([[1, 2], [-1, 1], [2, 0]]), np.float32([[1], [0], [-1]]))

    def run(rates):
        if many:
            return fg.train_many(
                objective, optax.sgd, model.init, {"learning_rate": rates}, data,
                steps=2, key=KEY,
            )  # fmt: skip
        optimizer = optax.sgd(rates[0])
        state = fg.init_state(model.init(KEY), optimizer)
        return fg.train(objective, optimizer, state, data, steps=2)

    results = []
    for device in (jax.devices("cpu")[0], gpu):
        with jax.default_device(device), jax.default_matmul_precision("highest"):
            results.append(numbers(jax.jit(run)(jnp.array([1 / 64, 1 / 32]))))
            if many:  # not traced: in groups, on all devices of the first platform
                results.append(numbers(run(np.float32([1 / 64, 1 / 32]))))
    for same in zip(*results, strict=True):
        assert all(np.array_equal(same[0], other) for other in same)
