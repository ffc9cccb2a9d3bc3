"""What makes two runs the same: all that changes a number, and nothing else."""

import json
import os
import subprocess
import sys
import tracemalloc
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad.run_identity import identity

BIG = np.arange(5000, dtype=np.float32)  # longer than NumPy prints in full


def net(activation=jnp.tanh, width=3):
    return fg.mlp([2, width, 1], activation=activation, final_activation=fg.linear)


def closed_over(constants, wrap, of_params):
    """Return an objective with these numbers in a function of params or batch."""
    inner = wrap(lambda x: (constants * x).sum())

    def objective(params, batch):
        w, x = params[0].w.sum(), batch[0].sum()
        return inner(w) if of_params else w * inner(x)

    return objective


def of(
    *,
    objective=None,
    optimizer=None,
    model=None,
    data=None,
    batch_size=4,
    key=None,
):
    """Return the identity of a small run, of which some part is another."""
    model = net() if model is None else model
    optimizer = optax.adam(0.1) if optimizer is None else optimizer
    if data is None:
        data = (jnp.ones((8, 2)), jnp.zeros((8, 1)))
    return identity(
        fg.objective(model, fg.squared_error) if objective is None else objective,
        optimizer,
        fg.init_state(model.init(jax.random.key(0)), optimizer),
        data,
        batch_size,
        jax.random.key(0) if key is None else key,
    )


def differing(a, b):
    assert list(a) == list(b)
    return [name for name in a if a[name] != b[name]]


class Rows(NamedTuple):
    x: jax.Array
    y: jax.Array


ONES, ZEROS = jnp.ones((8, 2)), jnp.zeros((8, 1))


@pytest.mark.parametrize(
    ("change", "items"),
    [
        ({}, []),
        ({"objective": fg.objective(net(jax.nn.relu), fg.squared_error)}, "objective"),
        ({"objective": fg.objective(net(), fg.mean_squared_error)}, "objective"),
        ({"optimizer": optax.adam(0.2)}, "optimizer"),
        ({"optimizer": optax.sgd(0.1)}, "optimizer"),
        ({"optimizer": optax.adam(optax.constant_schedule(0.1))}, "optimizer"),
        ({"model": net(width=4)}, "model objective optimizer"),
        ({"batch_size": 8}, "batch_size objective"),
        ({"batch_size": None}, "batch_size objective"),
        ({"key": jax.random.key(1)}, "key"),
        ({"key": jax.random.key(0, impl="rbg")}, "key"),
        ({"key": jax.random.PRNGKey(0)}, []),  # the same bits, and so the same run
        ({"data": (ONES.at[7, 1].set(2), ZEROS)}, "data"),
        ({"data": (ONES, ZEROS.astype("int32"))}, "data objective"),
        ({"data": Rows(ONES, ZEROS)}, "data"),
        ({"data": [ONES, ZEROS]}, "data"),
        ({"data": (np.ones((8, 2), "f"), np.zeros((8, 1), "f"))}, []),
        ({"data": (np.ones((2, 8), "f").T, ZEROS)}, []),
    ],
)
def test_what_changes_a_run_changes_these_items(change, items):
    assert differing(of(), of(**change)) == (items.split() if items else [])


def test_a_mask_is_not_its_complement():
    """Bytes are the same where shapes differ, and shapes where bytes do."""
    masks = [np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)]
    data = [(np.ones((2, 2), "f"), mask) for mask in masks]
    data.append((np.ones((2, 2), "f"), masks[0].reshape(2, 2, 1)))
    found = {
        of(data=d, batch_size=None, objective=lambda p, b: p[0].w.sum())["data"]
        for d in data
    }
    assert len(found) == 3


@pytest.fixture
def flags():
    """Put back a flag that JAX plans to have on: whether arrays are literals."""
    name = "jax_use_simplified_jaxpr_constants"
    before = getattr(jax.config, name)
    yield
    jax.config.update(name, before)


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        jax.jit,
        jax.checkpoint,
        lambda f: lambda x: jax.lax.cond(x > 0, f, jnp.sin, x),
        lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, length=2)[0],
    ],
    ids=["bare", "jit", "checkpoint", "cond", "scan"],
)
@pytest.mark.parametrize("of_params", [True, False])
@pytest.mark.parametrize("literal", [True, False])
def test_numbers_within_an_objective_are_seen_even_where_text_leaves_them_out(
    wrap, of_params, literal
):
    changed = BIG.copy()
    changed[1000] += 1
    assert str(changed) == str(BIG)
    jax.config.update("jax_use_simplified_jaxpr_constants", literal)
    a, same, b = (
        of(objective=closed_over(c, wrap, of_params)) for c in (BIG, BIG + 0, changed)
    )
    assert differing(a, same) == []
    assert differing(a, b) == ["objective"]


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("literal", [True, False])
def test_a_gradient_that_is_a_constant_is_seen(literal):
    jax.config.update("jax_use_simplified_jaxpr_constants", literal)

    @jax.custom_vjp
    def zero(x, slope):
        return 0.0

    zero.defvjp(lambda x, slope: (0.0, slope), lambda slope, g: (slope, None))
    model = fg.Model(lambda key: jnp.ones(5000), None)
    slopes = [BIG, BIG + 0, BIG * 2]
    a, same, b = (
        of(model=model, objective=lambda p, batch, s=s: zero(p, s)) for s in slopes
    )
    assert differing(a, same) == []
    assert differing(a, b) == ["objective"]


def test_another_rule_for_the_same_value_is_seen():
    def cube(factor):
        @jax.custom_jvp
        def cube(x):
            return x**3

        cube.defjvp(lambda x, t: (x[0] ** 3, factor * x[0] ** 2 * t[0]))
        return of(objective=lambda params, batch: cube(params[0].w.sum()))

    assert differing(cube(3), cube(3)) == []
    assert differing(cube(3), cube(2)) == ["objective"]


def scalar():
    """Return the identity of the smallest run there is."""
    optimizer = optax.sgd(0.1)
    state = fg.init_state(jnp.float32(1), optimizer)
    return identity(
        lambda w, x: w * x.sum(), optimizer, state, np.ones(3, "f"), None, None
    )


def test_flags_of_jax_are_seen():
    a = scalar()
    with jax.default_matmul_precision("highest"):
        assert differing(a, scalar())[0] == "jax_default_matmul_precision"
    with jax.threefry_partitionable(not jax.config.jax_threefry_partitionable):
        assert differing(a, scalar())[0] == "jax_threefry_partitionable"
    with jax.enable_x64(True):
        assert differing(a, scalar())[0] == "jax_enable_x64"
    assert differing(a, scalar()) == []


def test_texts_can_be_read():
    found = of()
    assert list(found)[:5] == ["funcgrad", "jax", "jaxlib", "optax", "platform"]
    assert found["funcgrad"] == fg.__version__
    assert found["key"] == "threefry2x32 [0, 0]"
    assert found["batch_size"] == "4"
    assert found["model"].endswith(
        " of float32[2, 3], float32[3], float32[3, 1], float32[1]"
    )
    assert all(isinstance(text, str) for text in found.values())
    without_key = scalar()
    assert (without_key["key"], without_key["batch_size"]) == ("None", "None")


@jax.tree_util.register_pytree_node_class
class Source:
    """Data of a kind of its own, with a function beside its array."""

    def __init__(self, rows):
        self.rows = rows

    def tree_flatten(self):
        return (self.rows,), lambda: None

    @classmethod
    def tree_unflatten(cls, aux, leaves):
        return cls(*leaves)


def test_data_may_be_an_object_whose_leaves_are_arrays():
    def run(rows):
        data = Source(jnp.asarray(rows))
        return of(objective=lambda p, b: p[0].w.sum() * b.rows.sum(), data=data)

    a, same, b = run(np.ones(8)), run(np.ones(8)), run(np.zeros(8))
    assert differing(a, same) == []
    assert differing(a, b) == ["data"]


def test_of_the_data_nothing_is_copied():
    data = (np.zeros((1000, 10_000), np.float32), np.zeros((1000, 1), np.float32))
    model = fg.Model(lambda key: jnp.zeros(()), lambda params, x: params * x[:, :1])
    of(model=model, data=data)  # imports, caches
    tracemalloc.start()
    of(model=model, data=data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A quarter of the leaf: a trace takes about a megabyte.
    assert peak < data[0].nbytes / 4


def varied():
    """Return identities of runs whose programs hold functions, sets, loops, keys."""

    @jax.custom_vjp
    def twice(x):
        return 2 * x

    twice.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    table = jnp.arange(4.0)

    def loops(params, batch):
        noise = jax.random.normal(jax.random.key(3), (3,)) * jax.nn.silu(params[0].b)
        total, _ = jax.lax.scan(lambda c, t: (c + t * noise, None), noise, table)
        total = jax.lax.cond(total.sum() > 0, jnp.sin, lambda x: x * table[1], total)
        total = jax.checkpoint(jax.nn.logsumexp)(twice(total))
        return jax.lax.fori_loop(0, 3, lambda i, x: x * table[i], total)

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(0.1, 100)),
    )
    masked = optax.masked(optimizer, lambda p: jax.tree.map(lambda _: True, p))
    injected = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    return [
        of(),
        of(objective=loops),
        of(objective=jax.jit(loops), optimizer=injected),
        of(model=net(jax.nn.gelu), optimizer=masked),
    ]


@pytest.mark.exhaustive
def test_the_same_run_has_the_same_identity_in_another_process():
    here = varied()
    program = "import json; from test_run_identity import varied; print(json.dumps("
    result = subprocess.run(
        [sys.executable, "-c", f"{program}varied()))"],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout.splitlines()[-1]) == here
