"""Gradient checkers on nets of growing size, each check in a process of its own.

`python -m benchmarks.gradient_sizes NET CHECKER FAULT` is such a process: it answers in
a line of JSON. `benchmarks.gradient_checks` starts them and prints the table.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import funcgrad as fg
from benchmarks import gradient_checkers as checkers

LIMIT = 60.0  # seconds, of one check that goes element by element
ROUNDS = 3

# A slope that is wrong by 1 + 2^-20, and a broadcast whose gradient is not summed.
FAULTS = ("", "factor", "broadcast")


class Checker(NamedTuple):
    """A checker, the dtype that it is at its best in, and all that it can say."""

    judge: checkers.Checker
    dtype: str
    says: str


CHECKERS = {
    "funcgrad.testing": Checker(
        checkers.by_proof, "float32",
        "every element and leaf: a verdict, and the line of the rule to blame",
    ),
    "jax check_grads, float32": Checker(
        checkers.by_check_grads, "float32",
        "one random direction over all leaves: that the derivative along it is off",
    ),
    "jax check_grads, float64": Checker(
        checkers.by_check_grads, "float64", "the same, by float64"
    ),
    "torch gradcheck": Checker(
        partial(checkers.by_gradcheck, seconds=LIMIT), "float64",
        "every element: which leaf is off, and by how much",
    ),
    "torch gradcheck, fast": Checker(
        partial(checkers.by_fast_gradcheck, seconds=LIMIT), "float64",
        "one random direction a leaf: which leaf is off",
    ),
}  # fmt: skip


class Problem(NamedTuple):
    """f(params, batch), and where its gradient is judged."""

    f: Callable[..., Any]
    params: Any
    batch: Any


def planted(function: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """Return the function with a custom_vjp whose slope is wrong by a factor."""

    @jax.custom_vjp
    def activation(x: Any) -> Any:
        return function(x)

    def backward(x: Any, g: Any) -> tuple[Any]:
        return (jax.vjp(function, x)[1](g)[0] * factor,)

    activation.defvjp(lambda x: (function(x), x), backward)
    return activation


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def unsummed(b: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast a row; its gradient is the last row alone, not the sum of all."""
    return jnp.broadcast_to(b, shape)


unsummed.defvjp(
    lambda b, shape: (jnp.broadcast_to(b, shape), None),
    lambda shape, _, g: (g.reshape(-1, shape[-1])[-1],),
)


def parts(fault: str, activation: Any) -> tuple[Callable[..., Any], ...]:
    """Return the activation and the broadcast, one of which may have a fault."""
    slope = planted(activation, 1 + 2.0**-20) if fault == "factor" else activation
    return slope, unsummed if fault == "broadcast" else jnp.broadcast_to


def net(sizes: Sequence[int], rows: int, fault: str, dtype: str) -> Problem:
    """Return an MLP of tanh; the loss is cross_entropy, of one output the squares."""
    activation, broadcast = parts(fault, jnp.tanh)
    draw = np.random.RandomState(0)
    x = jnp.asarray(draw.standard_normal((rows, sizes[0])), dtype)
    classes = sizes[-1] > 1
    y = draw.randint(sizes[-1], size=rows) if classes else jnp.sign(x[:, :1])
    loss = fg.cross_entropy if classes else fg.mean_squared_error

    def f(params: Any, batch: Any) -> Any:
        x, y = batch
        *hidden, last = params
        for p in hidden:
            x = fg.layer(p, x, activation)
        last = last._replace(b=broadcast(last.b, (rows, sizes[-1])))
        return loss(fg.layer(last, x, fg.linear), y)

    return Problem(f, fg.mlp(sizes).init(jax.random.key(0), dtype), (x, y))


def nano_gpt(fault: str, dtype: str) -> Problem:
    """Return a GPT of nanoGPT's shape for Shakespeare on a CPU, on 12 x 64 tokens."""
    activation, broadcast = parts(fault, jax.nn.gelu)
    model = fg.gpt(
        65, context=64, width=128, layers=4, heads=4, activation=activation,
        norm=lambda gain, x: fg.layer_norm(broadcast(gain, x.shape), x),
    )  # fmt: skip
    rows = np.random.RandomState(0).randint(65, size=(12, 65))
    params = model.init(jax.random.key(0), dtype)
    return Problem(fg.next_token(model), params, rows)


NETS: dict[str, tuple[str, Callable[[str, str], Problem]]] = {
    "moons": ("2-16-16-1, 100 rows", partial(net, (2, 16, 16, 1), 100)),
    "images": ("784-512-512-10, 128 rows", partial(net, (784, 512, 512, 10), 128)),
    "gpt": ("nanoGPT, 12 x 64 tokens", nano_gpt),
}


class Row(NamedTuple):
    """What a checker does with a net: medians over `runs`, None where unknown."""

    net: str
    parameters: int
    checker: str
    runs: int
    cpu: float | None  # seconds of all cores, tracing and compiling included
    wall: float | None
    memory: int | None  # bytes that the process grew by, at its peak
    right: str  # what became of the right gradient
    # Of each fault: found, missed, stopped, "as right" where both are rejected.
    found: dict[str, str]
    said: dict[str, str]  # of each fault
    failed: str


def rows_of(net: str, names: Sequence[str], rounds: int) -> Iterator[Row]:
    """Let each checker judge the net's right gradient in turns, then the faults once.

    Who did not come to an end is asked no more. Where the right one is rejected, it
    says nothing that a fault is.
    """
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name, done in turns.items():
            if turn == 0 or done[0].get("accepted") is not None:
                done.append(ask(net, name, ""))
    for name, done in turns.items():
        wrong = {}
        if done[0].get("accepted") is not None:
            wrong = {fault: ask(net, name, fault) for fault in FAULTS if fault}
        yield row_of(net, name, done, wrong)


def row_of(
    net: str, name: str, turns: list[dict[str, Any]], wrong: dict[str, dict[str, Any]]
) -> Row:
    first = turns[0]
    failed = [d["failed"] for d in (*turns, *wrong.values()) if "failed" in d]
    ran = {fault: d for fault, d in wrong.items() if "failed" not in d}

    def median(figure: str) -> Any:
        values = [d[figure] for d in turns if d.get(figure) is not None]
        return statistics.median(values) if values else None

    def outcome(accepted: bool | None) -> str:
        if accepted is None:
            return "stopped"
        if accepted:
            return "missed"
        return "found" if first["accepted"] else "as right"

    verdict = {True: "accepted", False: "rejected", None: ""}[first.get("accepted")]
    return Row(
        NETS[net][0], first.get("parameters", 0), name, len(turns),
        median("cpu"), median("wall"), median("memory"),
        ", ".join(filter(None, (verdict, first.get("said")))),
        {fault: outcome(d["accepted"]) for fault, d in ran.items()},
        {fault: d["said"] for fault, d in ran.items()},
        failed[0] if failed else "",
    )  # fmt: skip


def ask(net: str, checker: str, fault: str) -> dict[str, Any]:
    """Return what a process of its own answers, or how it failed."""
    command = [sys.executable, "-m", "benchmarks.gradient_sizes", net, checker, fault]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        last = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": last[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def judged(net: str, checker: str, fault: str) -> dict[str, Any]:
    """Judge here, and measure."""
    judge, dtype, _ = CHECKERS[checker]
    with jax.enable_x64(dtype == "float64"):
        problem = NETS[net][1](fault, dtype)
        if checker.startswith("torch"):
            import torch  # noqa: F401  which takes time, and is no part of the check
        before = memory("VmRSS")
        cpu, wall = time.process_time(), time.perf_counter()
        accepted, said = judge(*problem)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        peak = memory("VmHWM")
    grown = None if before is None or peak is None else peak - before
    parameters = sum(leaf.size for leaf in jax.tree.leaves(problem.params))
    return {
        "parameters": parameters, "accepted": accepted, "said": said,
        "cpu": cpu, "wall": wall, "memory": grown,
    }  # fmt: skip


def memory(field: str) -> int | None:
    """Return bytes of this process by Linux's count, which elsewhere is not there."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(s for s in status.read_text().splitlines() if s.startswith(field))
    return int(line.split()[1]) * 1024


HEADER = (
    f"{'net':25} {'checker':25} {'CPU s':>7} {'wall s':>7} {'memory':>8}  "
    f"{'1 + 2^-20':10} {'broadcast':10} right gradient"
)


def terminal_line(row: Row) -> str:
    def number(value: float | None, scale: float = 1) -> str:
        return "" if value is None else f"{value / scale:.2f}"

    found = [row.found.get(fault, "") for fault in FAULTS if fault]
    grown = f"{number(row.memory, 1e9)} GB" if row.memory is not None else ""
    return (
        f"{row.net:25} {row.checker:25} {number(row.cpu):>7} {number(row.wall):>7} "
        f"{grown:>8}  {found[0]:10} {found[1]:10} "
        f"{f'failed: {row.failed}' if row.failed else row.right}"
    )


if __name__ == "__main__":
    print(json.dumps(judged(*sys.argv[1:])))
