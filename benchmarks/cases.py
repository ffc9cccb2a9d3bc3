"""What is measured: the items, their cases, and the contenders of each case."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders import SEED_SIZES, WIDE

C_SOURCE = Path(__file__).parent / "seed_net.c"
# All are the program a C compiler makes of the same source; the fastest is the limit.
# Unrolling whole small loops too early is what costs -O3 its lead here.
C_FLAGS = {
    "C": ["-O3"],
    "C, -O2": ["-O2"],
    "C, loops kept": ["-O3", "-fdisable-tree-cunrolli"],
}
# Libraries that may live under another interpreter.
PEERS = ("torch", "micrograd", "sklearn", "equinox", "nnx")


class Contender(NamedTuple):
    """A function of contenders.py with its arguments, and what is known beforehand."""

    function: str
    arguments: dict[str, Any]
    kind: str = "other"  # "funcgrad", "other", or "limit": what the machine can do
    peer: str = ""  # one of PEERS
    multiply_adds: float | None = None  # of a unit
    steps: int | None = None  # of a run, where they are what grows


class Case(NamedTuple):
    """Contenders, by name, that are compared with each other."""

    item: str
    name: str
    unit: str
    contenders: dict[str, Contender]
    together: bool = True  # they take turns; or else one ends before the next begins
    rounds: int | None = None  # None: as many as are asked for


def build_c(folder: Path) -> dict[str, str]:
    """Return the programs that could be built, by name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    programs = {}
    for number, (name, flags) in enumerate(C_FLAGS.items()):
        program = folder / f"seed_net_{number}"
        command = [
            str(compiler), *flags, "-march=native", "-ffast-math", "-pthread",
            str(C_SOURCE), "-o", str(program), "-lm",
        ]  # fmt: skip
        if compiler and subprocess.run(command, capture_output=True).returncode == 0:
            programs[name] = str(program)
    return programs


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def row_multiply_adds(sizes: Iterable[int]) -> int:
    """Count those of a step, for one row of the batch.

    There are the ways forward, back to the weights and, but for the first layer, back
    to the inputs.
    """
    pairs = list(itertools.pairwise(sizes))
    return 3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1]


def ours(function: str, **arguments: Any) -> Contender:
    return Contender(function, arguments, kind="funcgrad")


def other(function: str, *, peer: str = "", **arguments: Any) -> Contender:
    return Contender(function, arguments, peer=peer)


def limit(function: str, *, peer: str = "", size: int) -> Contender:
    """Return a product of matrices; an operation on floats is half a multiply-add."""
    return Contender(function, {"size": size}, "limit", peer, multiply_adds=0.5)


def seed_cases(quick: bool, programs: dict[str, str]) -> Iterator[Case]:
    few = 20 if quick else 1000
    many = 1000 if quick else 1_000_000
    yield Case("seed", "[3, 4, 4, 1], 4 rows", "step", {
        "funcgrad train": ours("seed_train", steps=many),
        "funcgrad fit": ours("seed_fit", steps=many),
        **{
            name: other("seed_c", binary=program, steps=many)
            for name, program in programs.items()
        },
        "jitted step, dispatched": other("seed_dispatched", steps=few),
        "Equinox": other("seed_equinox", peer="equinox", steps=few),
        "Flax NNX": other("seed_nnx", peer="nnx", steps=few),
        "PyTorch eager": other("seed_torch", peer="torch", steps=few),
        "PyTorch compiled": other(
            "seed_torch", peer="torch", steps=few, compiled=True
        ),
        "micrograd": other(
            "seed_micrograd", peer="micrograd", steps=max(few // 10, 2)
        ),
    })  # fmt: skip


def many_cases(quick: bool, programs: dict[str, str]) -> Iterator[Case]:
    threads_of = {"one core": 1, f"{cores()} cores": cores()}
    for members in (64,) if quick else (64, 1024, 8192):
        steps = 20 if quick else 2**22 // members
        full: dict[str, Any] = {"members": members, "steps": steps}
        small = {**full, "steps": max(steps // 20, 2)}
        yield Case("many", f"{members} nets", "net-step", {
            "funcgrad train_many": ours("many_train_many", **full),
            **{
                f"{name}, {label}": other(
                    "many_c", binary=program, threads=threads, **full
                )
                for name, program in programs.items()
                for label, threads in threads_of.items()
            },
            "vmap of the plain form": other("many_vmap_plain", **small),
            "PyTorch bmm": other("many_torch_bmm", peer="torch", **small),
            "torch.func": other("many_torch_func", peer="torch", **small),
        })  # fmt: skip


def moons_cases(quick: bool, programs: dict[str, str]) -> Iterator[Case]:
    steps = 5 if quick else 100
    yield Case("moons", f"{steps} steps, a process", "run", {
        "funcgrad, a script": ours("moons_script", steps=steps),
        "funcgrad train moons": ours("moons_process", steps=steps),
        "funcgrad, training alone": ours("moons_training", steps=steps),
        "scikit-learn": other("moons_sklearn", peer="sklearn", steps=steps),
        "micrograd, 1 step scaled": other(
            "moons_micrograd", peer="micrograd", steps=1, of=steps
        ),
    })  # fmt: skip


def wide_cases(quick: bool, programs: dict[str, str]) -> Iterator[Case]:
    rows = 256 if quick else 12_800
    size = 256 if quick else 2048
    for batch in (128,) if quick else (32, 128, 512):
        given = {"rows": rows, "batch": batch}
        nets = {
            "funcgrad train": ours("wide_train", **given),
            "funcgrad fit": ours("wide_fit", **given),
            "Equinox": other("wide_equinox", peer="equinox", **given),
            "Flax NNX": other("wide_nnx", peer="nnx", **given),
            "PyTorch": other("wide_torch", peer="torch", fused=False, **given),
            "PyTorch, fused Adam": other(
                "wide_torch", peer="torch", fused=True, **given
            ),
        }
        work = row_multiply_adds(WIDE)
        yield Case("wide", f"784-512-512-10, Adam, batch {batch}", "row", {
            **{name: net._replace(multiply_adds=work) for name, net in nets.items()},
            "peak: JAX matmul": limit("peak_jax", size=size),
            "peak: PyTorch matmul": limit("peak_torch", peer="torch", size=size),
        })  # fmt: skip


def growth_cases(quick: bool, programs: dict[str, str]) -> Iterator[Case]:
    """Yield the limit, the curves of time against work, and those of compiling."""
    size = 256 if quick else 2048
    peak = {"peak: JAX matmul": limit("peak_jax", size=size)}
    yield Case("growth", "limit", "operation", peak)
    small, seed = (16, 64, 64, 1), SEED_SIZES
    curves: dict[str, list[tuple[str, tuple[int, ...], int, int]]] = {
        "width, 32 rows": [
            (f"{n} neurons", (n, n, n), 32, 1) for n in (4, 16, 64, 256, 1024, 2048)
        ],
        "depth of 16s, 32 rows": [
            (f"{n} layers", (16,) * (n + 1), 32, 1) for n in (2, 8, 32, 128)
        ],
        "depth of 256s, 32 rows": [
            (f"{n} layers", (256,) * (n + 1), 32, 1) for n in (2, 8, 32, 128)
        ],
        "batch of 16-64-64-1": [
            (f"{n:,} rows", small, n, 1) for n in (2, 16, 128, 1024, 8192, 65536)
        ],
        "members of 3-4-4-1, 4 rows": [
            (f"{n:,} nets", seed, 4, n) for n in (16, 128, 1024, 8192, 65536)
        ],
        "members of 16-64-64-1, 32 rows": [
            (f"{n:,} nets", small, 32, n) for n in (4, 32, 256, 2048)
        ],
    }
    for what, points in curves.items():
        curve = {}
        for how_far, sizes, batch, members in points[: 2 if quick else None]:
            work = row_multiply_adds(sizes) * batch * members
            # Long enough, for members above all, that setting up hardly counts.
            most, seconds = (200_000, 0.1) if members == 1 else (20_000, 1)
            steps = max(8, min(most, int(seconds * 1e10 / (4 * work + 1500))))
            steps = 2 if quick else steps
            net = {"sizes": sizes, "batch": batch, "members": members}
            curve[how_far] = ours("growth", **net, steps=steps)._replace(
                multiply_adds=work
            )
        yield Case("growth", what, "step", curve, together=False)
    for how in ("train", "fit"):
        lengths = (10, 100) if quick else (10, 10**3, 10**5, 10**6, 10**7)
        runs = {
            f"{steps:,} steps": ours("compiling", how=how, steps=steps)._replace(
                steps=steps
            )
            for steps in lengths
        }
        name = f"compiling {how}"
        yield Case("growth", name, "compile", runs, together=False, rounds=1)


ITEMS: dict[str, Callable[[bool, dict[str, str]], Iterator[Case]]] = {
    "seed": seed_cases,
    "many": many_cases,
    "moons": moons_cases,
    "wide": wide_cases,
    "growth": growth_cases,
}


def cases_of(
    items: Iterable[str], quick: bool, programs: dict[str, str]
) -> Iterator[Case]:
    """Yield the cases of these items, in the order of the table."""
    for item in ITEMS:
        if item in items:
            yield from ITEMS[item](quick, programs)
