"""A program that tests run as several processes, or as one: its runs, as digests.

    python hosts_program.py ADDRESS PROCESSES PROCESS WHAT...

ADDRESS is - where there is one process, and cluster where the environment says which
it is. Integers stay integers, so that all layouts of
processes and devices must print the same.
"""

import hashlib
import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import funcgrad as fg
from funcgrad import hosts
from funcgrad.devices import own_rows

STEPS = 40
SIGN = optax.sign_sgd(1.0)


def key():
    """Return the run's; made late, as JAX is not to be used before `join`."""
    return jax.random.key(3)


def problem(kind=np.float32):
    """Return an objective, parameters and 64 rows, all of small integers."""
    rng = np.random.default_rng(4)
    x, y = rng.integers(-2, 3, (64, 4)), rng.choice([-1, 1], (64, 1))
    model = fg.mlp([4, 8, 1], activation=jax.nn.relu, final_activation=fg.linear)

    def objective(params, batch):
        x, y = batch
        return jnp.sum(jax.nn.relu(1 - y * model.apply(params, x)))

    params = jax.tree.map(lambda p: jnp.round(8 * p), model.init(jax.random.key(0)))
    return objective, params, (x.astype(kind), y.astype(kind))


def placed(data, devices=None):
    mesh = fg.data_mesh(devices)
    return fg.rows(mesh, own_rows(mesh, data))


def digest(fit):
    """Return the step, and one word for all numbers of a run."""
    found = hashlib.sha256(fit.history.loss.tobytes())
    for leaf in jax.tree.leaves(hosts.gathered(fit.state)):
        found.update(np.asarray(leaf).tobytes())
    return f"{int(fit.state.step)} {found.hexdigest()[:16]}"


def slow(now):
    """Keep one process back, so that clocks differ."""
    if not hosts.is_first():
        time.sleep(0.02)


def run(what, devices=None, folder=None, process=0):
    """Return in a line what this run comes to."""
    objective, params, data = problem()
    rows = placed(data, devices)
    given = {"steps": STEPS, "progress": slow}
    if what == "full":
        return digest(fg.fit(objective, SIGN, params, rows, **given))
    given |= {"batch_size": 16, "key": key()}
    if what == "batches":
        return digest(fg.fit(objective, SIGN, params, rows, **given))
    if what == "until":
        given["steps"] = 10**6
        return digest(fg.fit(objective, SIGN, params, rows, until=60.0, **given))
    if what == "diverged":

        def breaks(params, batch):
            return jnp.where(params[0].w[0, 1] > -7, objective(params, batch), jnp.nan)

        try:
            fg.fit(breaks, SIGN, params, rows, **given)
        except fg.DivergedError as error:
            return f"{digest(error.fit)} {str(error)[:40]}"
    if what == "patience":
        run = fg.fit(
            objective, SIGN, params, rows, every=5, validation=data, patience=3, **given
        )
        return digest(run)
    if what in ("folder", "killed", "killed meanwhile", "frozen"):

        def dies(now):
            if process == 1 and now.done == 20:
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "killed meanwhile" and now.done == 20:
                time.sleep(30)  # and takes no part in what JAX would see fail

        def goes_on(now):
            print("look", flush=True)
            time.sleep(0.05)

        progress = {"folder": None, "frozen": goes_on}
        given["progress"] = progress.get(what, dies)
        given["steps"] = 10**6 if what == "frozen" else STEPS
        run = fg.fit(
            objective, SIGN, params, rows, every=10, folder=folder, resume=True, **given
        )
        return digest(run)
    raise AssertionError(what)


def seconds(process):
    """Return where a run ends that process 0's clock has ended."""
    objective, params, data = problem()
    rows = placed(data)
    given = {"steps": 10**6, "progress": slow, "seconds": 0.3 if process == 0 else 1e-9}
    return digest(fg.fit(objective, SIGN, params, rows, **given))


def preempted(process, folder, number):
    """Return where a run ends on all that a signal to one has ended."""
    objective, params, data = problem()

    def ask(now):
        if process == 1 and now.done > 5:
            os.kill(os.getpid(), number)

    try:
        fg.fit(
            objective, SIGN, params, placed(data), steps=10**6, progress=ask,
            folder=folder,
        )  # fmt: skip
    except (hosts.Preempted, KeyboardInterrupt) as error:
        return f"{type(error).__name__} {digest(error.fit)}"


def unequal(process):
    """Yield what is said where process 1 has another run."""
    objective, params, data = problem()
    other = process == 1

    def fit(
        objective=objective, optimizer=SIGN, params=params, rows=None, steps=3, **given
    ):
        rows = placed(data) if rows is None else rows
        try:
            fg.fit(
                objective, optimizer, params, rows, steps=steps, progress=None, **given
            )
            return "it went on"
        except ValueError as error:
            return str(error)

    yield fit(optimizer=optax.sign_sgd(2.0 if other else 1.0))
    yield fit(lambda p, b: objective(p, b) + (1.0 if other else 2.0))
    yield fit(params=jax.tree.map(lambda p: p + other, params))
    yield fit(rows=placed(problem(np.int32 if other else np.float32)[2]))
    devices = np.array(jax.devices())
    mesh = Mesh(devices[::-1] if other else devices, ("data",))
    yield fit(rows=fg.rows(mesh, own_rows(mesh, data)))
    yield fit(params=cut_along(process, params))
    yield fit(steps=3 + other)
    yield fit(every=1 + other)
    yield fit(until=0.5 + other)
    yield fit(validation=data if other else None)
    yield fit(validation=(data[0] + other, data[1]))
    try:
        hosts.agree({"x": str(process)})
    except ValueError as error:
        yield str(error)


def unequal_members(process):
    """Yield what is said where process 1 has other members."""
    objective, params, data = problem()
    other = process == 1
    drawn = fg.Drawn(lambda key, rows: rows, data)
    is_drawn_otherwise = fg.Drawn(lambda key, rows: (-rows[0], rows[1]), data)
    x, y = data

    def sweep(
        objective=objective, make_optimizer=optax.sign_sgd, init=lambda key: params,
        rates=(1.0, 2.0, 3.0), data=data, score=lambda params: params[0].w[0, 0],
        every=1, steps=3, batch_size=16, seed=3, mesh=None,
    ):  # fmt: skip
        try:
            fg.sweep(
                objective, make_optimizer, init, {"learning_rate": np.array(rates)},
                data, score=score, every=every, steps=steps, batch_size=batch_size,
                key=jax.random.key(seed), mesh=mesh or fg.data_mesh(),
            )  # fmt: skip
            return "it went on"
        except ValueError as error:
            return str(error)

    yield sweep()
    yield sweep(rates=(1.0, 2.0 + other, 3.0))
    yield sweep(rates=(1.0, 2.0, 3.0, 4.0)[: 3 + other])
    yield sweep(data=(x, y + other))
    yield sweep(data=problem(np.int32 if other else np.float32)[2])
    yield sweep(seed=3 + other)
    yield sweep(steps=3 + other)
    yield sweep(batch_size=16 + 8 * other)
    yield sweep(every=1 + other)
    devices = np.array(jax.devices())
    yield sweep(mesh=Mesh(devices[::-1] if other else devices, ("data",)))
    yield sweep(init=lambda key: jax.tree.map(lambda p: p + other, params))
    yield sweep(make_optimizer=optax.sgd if other else optax.sign_sgd)
    yield sweep(lambda p, b: objective(p, b) + (1.0 if other else 2.0))
    yield sweep(score=lambda p: p[0].w[int(other), 0])
    yield sweep(data=is_drawn_otherwise if other else drawn, batch_size=None)
    yield sweep(data=(x + np.where(other, np.nan, 0), y))


def cut_along(axis, params):
    """Return them with the first matrix over all devices, along this axis."""
    w = np.asarray(params[0].w)
    spec = PartitionSpec(*[None] * axis, "data")
    whole = NamedSharding(fg.data_mesh(), spec)
    cut = jax.make_array_from_callback(w.shape, whole, lambda index: w[index])
    return [params[0]._replace(w=cut), *params[1:]]


def refused(process):
    """Yield what is said of data that cannot be."""
    objective, params, data = problem()
    mesh = fg.data_mesh()
    x, y = own_rows(mesh, data)
    x[13, 2] = np.nan if process == 1 else 0.0
    try:
        fg.fit(objective, SIGN, params, (x, y), steps=1, mesh=mesh)
    except ValueError as error:
        yield str(error)
    rates = {"learning_rate": np.ones(3)}
    try:
        fg.train_many(
            objective, optax.sign_sgd, lambda key: params, rates, placed(data), steps=1,
            key=key(), mesh=mesh,
        )  # fmt: skip
    except ValueError as error:
        yield str(error)


def tell(what, process, folder):
    """Print what this run comes to."""
    if what == "seconds":
        said = [seconds(process)]
    elif what in ("SIGTERM", "SIGINT"):
        said = [preempted(process, f"{folder}/{what}", getattr(signal, what))]
    elif what == "unequal":
        said = unequal(process)
    elif what == "unequal members":
        said = unequal_members(process)
    elif what == "refused":
        said = refused(process)
    else:
        said = [run(what, folder=folder, process=process)]
    for line in said:
        print(f"{what}: {line}", flush=True)


def main(address, processes, process, folder, heartbeat, *runs):
    if address == "cluster":
        hosts.join(seconds=40, heartbeat=int(heartbeat))
    elif address != "-":
        hosts.join(
            address, int(processes), int(process), seconds=40, heartbeat=int(heartbeat)
        )
    for what in runs:
        tell(what, int(process), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
