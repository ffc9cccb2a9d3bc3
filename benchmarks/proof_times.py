"""Time the gradient proof of three networks: `python benchmarks/proof_times.py`.

For each it prints the best of some rounds, compilation by JAX included. What the times
are on some machine is in docs/speed.md; no test depends on them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import funcgrad as fg
from funcgrad.testing import assert_gradients


class Check(NamedTuple):
    """A function of parameters and a batch, at the numbers to prove its gradient at."""

    objective: Callable[..., Any]
    params: Any
    batch: Any


def seed_network() -> Check:
    """Return 3-4-4-1 on 4 rows."""
    model = fg.mlp([3, 4, 4, 1])
    x = jax.random.normal(jax.random.key(1), (4, 3))
    batch = x, jnp.array([[1.0], [-1.0], [-1.0], [1.0]])
    objective = fg.objective(model, fg.squared_error)
    return Check(objective, model.init(jax.random.key(0)), batch)


def moons_network() -> Check:
    """Return 2-16-16-1, of 337 parameters, on 100 rows."""
    model = fg.mlp([2, 16, 16, 1], activation=jax.nn.relu, final_activation=lambda x: x)
    x = jax.random.normal(jax.random.key(1), (100, 2))
    objective = fg.objective(model, fg.hinge)
    return Check(objective, model.init(jax.random.key(0)), (x, jnp.sign(x[:, :1])))


def image_network() -> Check:
    """Return 784-128-10 on one row."""
    model = fg.mlp([784, 128, 10], final_activation=lambda x: x)
    x = jnp.asarray(np.random.RandomState(0).rand(1, 784), jnp.float32)
    objective = fg.objective(model, fg.cross_entropy)
    return Check(objective, model.init(jax.random.key(0)), (x, jnp.array([0])))


CHECKS: dict[str, Callable[[], Check]] = {
    "3-4-4-1 on 4 rows": seed_network,
    "2-16-16-1 on 100 rows": moons_network,
    "784-128-10 on one row": image_network,
}


def seconds(check: Check, rounds: int) -> float:
    """Return the best time of some rounds, since others may share the machine."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        assert_gradients(*check)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name, make in CHECKS.items():
        print(f"proof of {name:22} {seconds(make(), rounds):6.2f} s", flush=True)


if __name__ == "__main__":
    main()
