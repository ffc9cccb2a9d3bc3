"""One run on 1, 2, 4 and 8 devices; `tests/test_devices.py` makes 8 virtual ones."""

import logging
import re
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from integer_run import DATA, DRAWN, MODEL, OBJECTIVE, SIGNS, arrays_of, fit, train_many
from jax import export
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from problems import same_bits

import funcgrad as fg
from funcgrad.compiled_run import Run
from funcgrad.run_identity import identity
from funcgrad.testing import assert_gradients, check_gradients

KEY = jax.random.key(3)
NUMBERS = (1, 2, 4, 8)


def cut(data, rows):
    return jax.tree.map(lambda leaf: leaf[:rows], data)


def test_there_are_eight_devices():
    assert len(jax.devices()) == 8


# The same bits on any number of devices ----------------------------------------------


@pytest.mark.parametrize("rows", [40, 37])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_integers_are_the_same_on_one_device_and_on_eight(rows, batch_size):
    """`sign_sgd(1.0)` keeps them integers, and sums of such do not round."""
    data = cut(DATA, rows)
    numbers = NUMBERS if rows == 37 else (1, 8)
    runs = [fit(fg.data_mesh(n), data, batch_size) for n in numbers]
    assert all(same_bits(run, runs[0]) for run in runs)
    assert runs[0][1].max() < 2**24  # else they would be rounded
    if batch_size is None:
        assert same_bits(runs[0], fit(None, data, None))
    else:
        assert len(set(runs[0][1].tolist())) > 5


@pytest.mark.parametrize("batch_size", [None, 16])
def test_train_and_watch_on_placed_arrays_do_what_fit_does(batch_size):
    given = {"steps": 7, "batch_size": batch_size, "key": KEY}
    state = fg.init_state(MODEL.init(KEY), SIGNS)
    plain = fg.fit(OBJECTIVE, SIGNS, state, DATA, mesh=fg.data_mesh(1), **given)
    for n in (2, 8):
        mesh = fg.data_mesh(n)
        rows, start = fg.rows(mesh, DATA), fg.replicate(mesh, state)
        run = jax.jit(lambda s, d: fg.train(OBJECTIVE, SIGNS, s, d, **given))
        trained, losses = run(start, rows)
        *_, last = fg.watch(OBJECTIVE, SIGNS, state, rows, every=2, **given)
        assert same_bits(trained, plain.state)
        assert same_bits(losses, plain.history.loss)
        assert same_bits(last.state, plain.state)


def test_what_is_drawn_is_the_same_on_eight_devices():
    assert same_bits(fit(fg.data_mesh(8), DRAWN, None), fit(None, DRAWN, None))


def test_members_are_the_same_on_two_devices():
    assert same_bits(train_many(fg.data_mesh(2)), train_many(fg.data_mesh(1)))


def test_resuming_on_other_devices_is_the_run_that_was_not_cut(tmp_path):
    whole = fit(fg.data_mesh(4), DATA, 16, steps=9)
    for n, steps in ((8, 3), (2, 6), (1, 9)):
        again = fit(
            fg.data_mesh(n), DATA, 16, steps=steps, folder=tmp_path, resume=True
        )
    assert same_bits(again, whole)
    with pytest.raises(ValueError, match="whose strata is 5 5 5 5 5 5 5 5, where"):
        fit(None, DATA, 16, folder=tmp_path, resume=True)


# 37 rows on 8 devices ---------------------------------------------------------------


def real_rows(kind):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(37, 3)), rng.normal(size=(37, 1))
    data = (x, y) if kind == "even weights" else (x, y, rng.uniform(1, 2, 37))
    return jax.tree.map(np.float32, data)


def of_37_rows(model, loss):
    """Return f(params, scale, data, rows), whose slopes are loss and gradient of data.

    And their gradient as 8 devices compute it, of `rows` alone.
    """
    objective = fg.objective(model, loss)

    def f(params, scale, data, rows):
        return scale * objective(params, data)

    def on_eight(params, scale, data, rows):
        return jax.grad(f, (0, 1))(params, scale, rows.all_rows(), None)

    return f, jax.jit(on_eight)


@pytest.mark.parametrize("kind", ["even weights", "own weights"])
@pytest.mark.parametrize("loss", [fg.mean_squared_error, fg.squared_error])
def test_the_loss_and_gradient_of_37_rows_are_proven_on_8_devices(loss, kind):
    """The proof: rules exact, and what 8 devices add up within its rounding bound."""
    model, data = fg.mlp([3, 2, 1]), real_rows(kind)
    f, on_eight = of_37_rows(model, loss)
    rows = fg.rows(fg.data_mesh(8), data)
    assert rows.places * len(rows.counts) == 40
    args = (model.init(KEY), jnp.float32(1), data, rows)
    # Of weights of one's own the sum has to be added up before.
    messages = 2 if (loss, kind) == (fg.mean_squared_error, "own weights") else 1
    assert collectives(on_eight.lower(*args).compile()) == {"all-reduce": messages}
    assert_gradients(f, *args, argnums=(0, 1), grad=on_eight)


def test_that_proof_can_fail():
    """A row too many, or of another weight, is no rounding."""
    model, data = fg.mlp([3, 2, 1]), real_rows("even weights")
    f, on_eight = of_37_rows(model, fg.squared_error)
    rows = fg.rows(fg.data_mesh(8), data)
    wrong = replace(rows, counts=(5,) * 6 + (4,) * 2)
    args = (model.init(KEY), jnp.float32(1), data, wrong)
    report = check_gradients(f, *args, argnums=(0, 1), grad=on_eight)
    assert report.verdict == "rule", report


def test_batches_of_uneven_rows_take_any_tree_and_all_rows_want_weights():
    mesh = fg.data_mesh(8)

    def objective(w, batch):
        return jnp.sum((w - batch["x"]) ** 2)

    data = {"x": np.arange(37.0)}
    given = {"steps": 2, "mesh": mesh, "progress": None}
    fg.fit(objective, optax.sgd(0.1), 1.0, data, batch_size=8, key=KEY, **given)
    with pytest.raises(
        ValueError, match=r"data of 37 rows need weights.*got dict: pass \(x, target\)"
    ):
        fg.fit(objective, optax.sgd(0.1), 1.0, data, **given)


# What the devices tell each other ----------------------------------------------------


def collectives(compiled):
    """Return {kind: how many} of a compiled program's messages between devices."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    return Counter(re.findall(rf" ({kinds})(?:-start)?\(", compiled.as_text()))


def numbers_reduced(compiled):
    """Return how many float32 numbers the one all-reduce of a program adds up."""
    (shapes,) = re.findall(r"= (.*) all-reduce(?:-start)?\(", compiled.as_text())
    sizes = re.findall(r"f32\[([\d,]*)\]", shapes)
    return sum(int(np.prod([int(n) for n in size.split(",") if n])) for size in sizes)


def compiled_train(data, sizes, batch_size, steps):
    model, optimizer = fg.mlp(sizes), optax.adam(1e-2)
    objective = fg.objective(model, fg.mean_squared_error)
    mesh = fg.data_mesh(8)
    state = fg.replicate(mesh, fg.init_state(model.init(KEY), optimizer))
    run = jax.jit(
        lambda s, d: fg.train(
            objective, optimizer, s, d, steps=steps, batch_size=batch_size, key=KEY
        )
    )
    return run.lower(state, data).compile(), state.params


# The smallest has loops for products on one device, the widest dots on any.
@pytest.mark.parametrize("sizes", [[3, 4, 1], [3, 32, 32, 1], [3, 64, 64, 1]])
@pytest.mark.parametrize(("rows", "batch_size"), [(64, None), (61, None), (61, 16)])
def test_a_step_adds_up_the_gradient_and_the_loss_and_nothing_else(
    sizes, rows, batch_size
):
    data = fg.rows(fg.data_mesh(8), (np.ones((rows, 3)), np.ones((rows, 1))))
    # Whole epochs: what is left of one is a loop of its own, with a step of its own.
    compiled, params = compiled_train(data, sizes, batch_size, steps=6)
    assert collectives(compiled) == {"all-reduce": 1}
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 4 * numbers_reduced(compiled) == 4 * numbers + 4


@pytest.mark.parametrize("kind", ["rows", "batches", "drawn"])
def test_a_chunk_of_fit_does_so_too(kind):
    mesh, optimizer = fg.data_mesh(8), optax.adam(1e-2)
    model = fg.mlp([3, 32, 1])
    data = (np.ones((64, 3), np.float32), np.ones((64, 1), np.float32))
    placed, batch_size = fg.rows(mesh, data), 16 if kind == "batches" else None
    if kind == "drawn":
        placed = fg.Drawn(draw_noise, fg.replicate(mesh, arrays_of(data)))
    state = fg.replicate(mesh, fg.init_state(model.init(KEY), optimizer))
    objective = fg.objective(model, fg.mean_squared_error)
    run = Run(objective, optimizer, state, placed, batch_size, KEY)
    compiled = run.chunk.lower(state, run.losses, run.data, run.key, 5).compile()
    assert collectives(compiled) == {"all-reduce": 1}


def draw_noise(key, source):
    rows = jax.random.randint(key, (32,), 0, 64)
    x, y = jax.tree.map(lambda leaf: leaf[rows], source)
    return x + jax.random.normal(key, x.shape), y


def test_an_order_of_all_rows_is_what_the_count_is_there_to_find():
    mesh = fg.data_mesh(8)
    over_devices = NamedSharding(mesh, PartitionSpec("data"))
    data = jax.device_put((np.ones((64, 3)), np.ones((64, 1))), over_devices)
    compiled, params = compiled_train(data, [3, 32, 1], 16, steps=8)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    is_right = collectives(compiled) == {"all-reduce": 1}
    assert not (is_right and numbers_reduced(compiled) == numbers + 1)


# A state over the devices -------------------------------------------------------------


def bytes_of(tree, device):
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


def test_a_sharded_state_takes_less_than_a_third_and_is_compiled_once(caplog):
    mesh, adam = fg.data_mesh(8), optax.adam(1e-3)
    model = fg.mlp([128, 512, 512, 1], final_activation=fg.linear)
    objective = fg.objective(model, fg.mean_squared_error)
    state = fg.init_state(model.init(KEY), adam)
    data = (np.ones((64, 128), np.float32), np.ones((64, 1), np.float32))
    sharded = fg.shard(mesh, state)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        looks = fg.watch(objective, adam, sharded, data, steps=6, every=2, mesh=mesh)
        after = [now.state for now in looks]
    compiled = [r for r in caplog.messages if re.match(r"Compiling \S*run_chunk", r)]
    assert len(compiled) == 1
    assert len(after) == 3
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    for device in jax.devices():
        assert bytes_of(after[-1], device) < whole / 3
    places = [[leaf.sharding for leaf in jax.tree.leaves(s)] for s in (sharded, *after)]
    assert all(place == places[0] for place in places)


def test_a_sharded_state_trains_the_same_integers_and_is_saved_and_read(tmp_path):
    mesh = fg.data_mesh(8)
    model = fg.mlp([2, 128, 128, 1], activation=fg.linear, initializer=small_integers)
    objective = fg.objective(model, fg.squared_error)
    state = fg.init_state(model.init(KEY), SIGNS)
    sharded = fg.shard(mesh, state)
    hidden = sharded.params[1].w
    assert hidden.sharding.spec == PartitionSpec(None, "data")
    assert sharded.params[0].w.sharding.spec == PartitionSpec()
    data = cut(DATA, 8)
    one = fg.fit(objective, SIGNS, state, data, steps=2, progress=None)
    eight = fg.fit(objective, SIGNS, sharded, data, steps=2, progress=None, mesh=mesh)
    assert one.history.loss.max() < 2**24
    assert same_bits((one.state, one.history.loss), (eight.state, eight.history.loss))
    fg.save(tmp_path / "state", eight.state)
    again = fg.load(tmp_path / "state", sharded)
    assert same_bits(again, one.state)
    assert again.params[1].w.sharding == hidden.sharding


def small_integers(key, shape, dtype):
    """Return -1, 0 and 1, most of them 0."""
    drawn = jax.random.randint(key, shape, -8, 9)
    return jnp.where(abs(drawn) > 1, 0, drawn).astype(dtype)


# What a run is ------------------------------------------------------------------------


def test_a_run_is_the_same_on_any_number_of_devices():
    state = fg.init_state(MODEL.init(KEY), SIGNS)

    def of(n, data=DATA, **strata):
        mesh = fg.data_mesh(n)
        return identity(
            OBJECTIVE, SIGNS, fg.replicate(mesh, state), fg.rows(mesh, data, **strata),
            16, KEY,
        )  # fmt: skip

    first = of(1)
    assert first["strata"] == "5 5 5 5 5 5 5 5"
    assert all(of(n) == first for n in NUMBERS)
    last = (np.arange(40) == 39)[:, None]
    changed = jax.tree.map(lambda leaf: leaf + last, DATA)
    for other, items in (
        (of(1, strata=16), {"strata", "data"}),
        (of(8, changed), {"data"}),
    ):
        assert {name for name in first if first[name] != other[name]} == items


def test_what_is_drawn_is_the_same_run_with_a_mesh_and_without():
    state, data = fg.init_state(MODEL.init(KEY), SIGNS), arrays_of(DATA)
    mesh = fg.data_mesh(8)
    alone = identity(OBJECTIVE, SIGNS, state, fg.Drawn(draw_noise, data), None, KEY)
    placed = fg.Drawn(draw_noise, fg.replicate(mesh, data))
    over = identity(
        OBJECTIVE, SIGNS, fg.replicate(mesh, state), placed, None,
        fg.replicate(mesh, KEY),
    )  # fmt: skip
    assert alone == over


# Other platforms ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rows", "batches", "sharded"])
def test_a_step_over_devices_lowers_for_all_platforms(kind):
    mesh, adam = fg.data_mesh(8), optax.adam(1e-2)
    model = fg.mlp([3, 128, 128, 1])
    objective = fg.objective(model, fg.squared_error)
    state = fg.init_state(model.init(KEY), adam)
    state = (fg.shard if kind == "sharded" else fg.replicate)(mesh, state)
    data = fg.rows(mesh, (np.ones((64, 3), np.float32), np.ones((64, 1), np.float32)))
    run = jax.jit(
        lambda s, d: fg.train(
            objective, adam, s, d, steps=4, key=KEY,
            batch_size=16 if kind == "batches" else None,
        )
    )  # fmt: skip
    exported = export.export(run, platforms=["cpu", "cuda", "tpu"])(state, data)
    assert exported.nr_devices == 8
    assert same_bits(exported.call(state, data), run(state, data))


# Bad input ---------------------------------------------------------------------------


def test_what_a_mesh_refuses():
    with pytest.raises(ValueError, match=r"n must be at most the 8 devices.*got 9"):
        fg.data_mesh(9)
    explicit = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Explicit,))
    for f in (fg.rows, fg.replicate, fg.shard):
        with pytest.raises(ValueError, match="mesh must be a mesh whose axes are Auto"):
            f(explicit, DATA)
        with pytest.raises(ValueError, match=r"got int: make it with data_mesh"):
            f(8, DATA)
    with pytest.raises(ValueError, match=r"multiple of the 8 devices.*got 4: pass 8"):
        fg.rows(fg.data_mesh(8), DATA, strata=4)


def test_what_batches_of_strata_refuse():
    given = {"steps": 1, "mesh": fg.data_mesh(8), "key": KEY, "progress": None}
    params = MODEL.init(KEY)
    with pytest.raises(ValueError, match=r"of the 8 strata.*got 20: pass 16"):
        fg.fit(OBJECTIVE, SIGNS, params, DATA, batch_size=20, **given)
    with pytest.raises(ValueError, match="from 1 to the 32 rows"):
        fg.fit(OBJECTIVE, SIGNS, params, cut(DATA, 37), batch_size=40, **given)
    rows = fg.rows(fg.data_mesh(8), DATA)
    with pytest.raises(ValueError, match="validation must be rows as they are"):
        fg.fit(OBJECTIVE, SIGNS, params, rows, validation=rows, **given)


def test_strata_on_devices_that_do_not_divide_eight():
    rows = fg.rows(fg.data_mesh(3), DATA)
    assert len(rows.counts) == 24 and sum(rows.counts) == 40
    assert same_bits(fit(fg.data_mesh(3), DATA, None), fit(fg.data_mesh(1), DATA, None))


def test_validation_is_scored_beside_the_state():
    run = fg.fit(
        OBJECTIVE, SIGNS, MODEL.init(KEY), DATA, steps=2, every=1, validation=DATA,
        mesh=fg.data_mesh(8), progress=None,
    )  # fmt: skip
    assert run.history.loss[1] == run.history.looks["validation_loss"][0]
