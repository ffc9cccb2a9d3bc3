"""What runs leave behind in a process levels off, however many there are.

Each kind of run has a process of its own, whose memory is looked at after Python and
the allocator gave back what nobody holds.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(sys.platform != "linux", reason="asks glibc, and Linux"),
]

MODEL, SGD, KEY = fg.mlp([3, 4, 4, 1]), optax.sgd(0.05), jax.random.key(0)
DATA = (np.ones((4, 3), np.float32), np.ones((4, 1), np.float32))
# So many programs are kept of earlier runs, funcgrad's own number or fewer where each
# takes seconds to compile.
KEPT = {"fit": 32, "train_many": 4}

# Before funcgrad is there, to make its caches keep {kept} programs, or all for None.
CACHES = """
import functools
lru_cache = functools.lru_cache
def of_another_size(maxsize=128, typed=False):
    if callable(maxsize) or maxsize not in (32, 64):
        return lru_cache(maxsize, typed)
    return lru_cache({kept}, typed)
functools.lru_cache = of_another_size
import funcgrad
functools.lru_cache = lru_cache
"""


def fit(objective):
    params = MODEL.init(KEY)
    fg.fit(objective, SGD, params, DATA, steps=10, progress=None)


def train_many(objective):
    rates = {"learning_rate": np.full(20, 0.05)}
    fg.train_many(objective, optax.sgd, MODEL.init, rates, DATA, steps=10, key=KEY)


def bare_jit(objective):
    jax.block_until_ready(jax.jit(objective)(MODEL.init(KEY), DATA))


def memory():
    """Return how many bytes this process holds, of those that somebody needs."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(run, times):
    """Return by how many bytes, and programs, a process grows with so many new runs."""
    before, programs = memory(), live_programs()
    for _ in range(times):
        loss = fg.objective(MODEL, fg.squared_error)
        run(lambda params, batch, loss=loss: loss(params, batch) * jnp.float32(0.5))
    return memory() - before, live_programs() - programs


def live_programs():
    return len(jax.devices()[0].client.live_executables())


def measure(name, last):
    """Print the growth by the programs that are kept, by the last runs, by bare jit."""
    run = {"fit": fit, "train_many": train_many}[name]
    for warm in (run, bare_jit):
        grown(warm, 1)
    filling, _ = grown(run, KEPT[name])
    # The allocator goes on for a while after the last cache is full.
    grown(run, KEPT[name])
    print(json.dumps([filling, *grown(run, last), grown(bare_jit, last)[0]]))


def in_a_process(name, last, kept):
    caches = CACHES.format(kept=kept)
    program = f"import jax, optax; {caches}\nimport test_memory as t; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}t.measure({name!r}, {last})"],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    filling, growth, programs, jits = json.loads(done.stdout.splitlines()[-1])
    # A leak keeps a program for each run; the rest is as much as one takes.
    return growth, programs, jits + filling / KEPT[name]


# Each `train_many` compiles for three seconds: docs/speed.md has the figures of 200.
@pytest.mark.parametrize(("name", "last"), [("fit", 100), ("train_many", 8)])
def test_the_last_of_many_runs_takes_no_memory(name, last, record_property):
    growth, programs, bound = in_a_process(name, last, KEPT[name])
    record_property(f"bytes by which {last} {name} grow", growth)
    assert programs == 0
    assert growth <= bound


@pytest.mark.parametrize("name", ["fit", "train_many"])
def test_a_cache_without_a_bound_is_seen(name):
    growth, programs, bound = in_a_process(name, 4, kept=None)
    assert programs >= 4
    assert growth > bound
