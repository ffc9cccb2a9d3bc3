"""What is measured: the items, their cases, and the contenders of each case."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.contenders import GPTS, PROBLEMS, SEED_SIZES, WIDE
from benchmarks.programs import MICROGPT, MICROGPT_BATCH, Program
from benchmarks.roofline import Work, share, work_of

# Libraries that may live under another interpreter.
PEERS = ("torch", "micrograd", "sklearn", "equinox", "nnx")


class Contender(NamedTuple):
    """A function of contenders.py with its arguments, and what is known beforehand."""

    function: str
    arguments: dict[str, Any]
    kind: str = "other"  # "funcgrad", "C", "other", or "limit": what the machine can do
    peer: str = ""  # one of PEERS
    work: Work | None = None  # of a unit
    steps: int | None = None  # of a run, where they are what grows
    flags: str = ""  # of the C compiler


class Case(NamedTuple):
    """Contenders, by name, that are compared with each other."""

    item: str
    name: str
    unit: str  # of a limit, its work says it
    contenders: dict[str, Contender]
    together: bool = True  # they take turns; or else one ends before the next begins
    rounds: int | None = None  # None: as many as are asked for
    rows: int | None = None  # of a unit, where rows per second are what is asked for
    net: str = ""  # what the picture of the steps calls it; "" if it is not there


Programs = Mapping[str, Program]


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ours(function: str, **arguments: Any) -> Contender:
    return Contender(function, arguments, kind="funcgrad")


def other(function: str, *, peer: str = "", **arguments: Any) -> Contender:
    return Contender(function, arguments, peer=peer)


def best_c(
    programs: Programs, function: str, problem: str, **arguments: Any
) -> Contender | None:
    """Return the fastest program for a problem, or None if there is none."""
    if problem not in programs:
        return None
    path, flags = programs[problem]
    arguments = {"program": path, "problem": problem, **arguments}
    return Contender(function, arguments, "C", flags=flags)


def doing(
    work: Work, contenders: Mapping[str, Contender | None]
) -> dict[str, Contender]:
    """Return the contenders that there are, each with this work."""
    return {name: c._replace(work=work) for name, c in contenders.items() if c}


def work_of_problem(problem: str) -> Work:
    sizes, rows, loss, optimizer, _, batch = PROBLEMS[problem]
    return work_of(sizes, batch or rows, tanh=loss != "hinge", adam=optimizer == "adam")


def peak(function: str, *, peer: str = "", size: int) -> Contender:
    return Contender(function, {"size": size}, "limit", peer, {"multiply-add": 1})


def limits_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    """Yield what the machine can do; its best times make the limits of all cases."""
    every = f"{cores()} cores"
    found = {"matmul, JAX": peak("peak_jax", size=256 if quick else 2048)}
    if "limits" in programs:
        # So many take a tenth of a second or more.
        for name, kind, count, threads in (
            ("multiply-adds, one core", "multiply-add", 20_000_000_000, 1),
            (f"multiply-adds, {every}", "multiply-add", 20_000_000_000, cores()),
            (f"tanh, {every}", "tanh", 1_000_000_000, cores()),
            (f"8 MB read and written, {every}", "byte", 20_000_000_000, cores()),
            (f"256 MB, {every}", "byte-of-memory", 20_000_000_000, cores()),
            ("an addition after another", "dependent-addition", 200_000_000, 1),
            ("a tanh after another", "dependent-tanh", 20_000_000, 1),
            ("a root, a division after another", "dependent-root", 20_000_000, 1),
        ):
            arguments = {
                "program": programs["limits"].path, "what": kind,
                "count": count // 100 if quick else count, "threads": threads,
            }  # fmt: skip
            found[name] = Contender("limit_c", arguments, "limit", work={kind: 1})
    # However few rounds are asked for, a limit is the best of several.
    rounds = None if quick else 9
    yield Case("limits", "this machine", "operation", found, rounds=rounds)


def seed_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    few = 20 if quick else 1000
    many = 1000 if quick else 1_000_000
    name, net = "[3, 4, 4, 1], 4 rows", "3-4-4-1, 4 rows"
    case = steps_case("seed", name, "seed", many, few, programs, net)
    slow: dict[str, Any] = {"problem": "seed", "steps": few}
    more = doing(work_of_problem("seed"), {
        "jitted step, dispatched": other("step_dispatched", **slow),
        "Flax NNX": other("step_nnx", peer="nnx", **slow),
        "PyTorch compiled": other("step_torch", peer="torch", compiled=True, **slow),
        "micrograd": other(
            "seed_micrograd", peer="micrograd", steps=max(few // 10, 2)
        ),
    })  # fmt: skip
    yield case._replace(contenders={**case.contenders, **more})
    yield steps_case("seed", f"{name}, Adam", "seed, Adam", many, few, programs)


def steps_case(
    item: str, name: str, problem: str, many: int, few: int, programs: Programs,
    net: str = "",
) -> Case:  # fmt: skip
    """Return the case of a step of a problem, of which slow contenders do `few`."""
    full: dict[str, Any] = {"problem": problem, "steps": many}
    slow = {**full, "steps": few}
    return Case(item, name, "step", doing(work_of_problem(problem), {
        "funcgrad train": ours("step_train", **full),
        "funcgrad fit": ours("step_fit", **full),
        "best C": best_c(programs, "step_c", **full),
        "Equinox": other("step_equinox", peer="equinox", **slow),
        "PyTorch eager": other("step_torch", peer="torch", **slow),
    }), net=net)  # fmt: skip


def small_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    """Yield nets a little larger than the seed's, and one that draws its batches."""
    few = 20 if quick else 1000
    yield steps_case(
        "small", "[2, 16, 16, 1], 100 rows", "moons", 50 if quick else 30_000, few,
        programs, "2-16-16-1, 100 rows",
    )  # fmt: skip
    yield steps_case(
        "small", "[16, 64, 64, 1], 32 rows", "small", 50 if quick else 20_000, few,
        programs, "16-64-64-1, 32 rows",
    )  # fmt: skip
    steps = 50 if quick else 100_000
    work = work_of_problem("moons, batches")
    yield Case("small", "[2, 16, 16, 1], 32 of 10,000 rows", "step", doing(work, {
        "funcgrad train": ours("step_train", problem="moons, batches", steps=steps),
        "funcgrad fit": ours("step_fit", problem="moons, batches", steps=steps),
        "train, always the same 32": ours(
            "step_train", problem="moons, a batch", steps=steps
        ),
    }))  # fmt: skip


def many_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    for members in (64,) if quick else (64, 1024, 8192):
        steps = 20 if quick else 2**22 // members
        full: dict[str, Any] = {"members": members, "steps": steps}
        small = {**full, "steps": max(steps // 20, 2)}
        work = share(work_of(SEED_SIZES, 4, nets=members), members)
        yield Case("many", f"{members} nets", "net-step", doing(work, {
            "funcgrad train_many": ours("many_train_many", **full),
            "best C, one core": best_c(programs, "many_c", "seed", threads=1, **full),
            f"best C, {cores()} cores": best_c(
                programs, "many_c", "seed", threads=cores(), **full
            ),
            "vmap of the plain form": other("many_vmap_plain", **small),
            "PyTorch bmm": other("many_torch_bmm", peer="torch", **small),
            "torch.func": other("many_torch_func", peer="torch", **small),
        }))  # fmt: skip


def moons_cases(quick: bool, programs: Programs) -> Iterator[Case]:
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


def wide_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    rows = 256 if quick else 12_800
    size = 256 if quick else 2048
    for batch in (128,) if quick else (32, 128, 512):
        given: dict[str, Any] = {"rows": rows, "batch": batch}
        nets = doing(work_of(WIDE, batch, tanh=False, adam=True), {
            "funcgrad train": ours("wide_train", **given),
            "funcgrad fit": ours("wide_fit", **given),
            "Equinox": other("wide_equinox", peer="equinox", **given),
            "Flax NNX": other("wide_nnx", peer="nnx", **given),
            "PyTorch eager": other("wide_torch", peer="torch", fused=False, **given),
            "PyTorch, fused Adam": other(
                "wide_torch", peer="torch", fused=True, **given
            ),
        })  # fmt: skip
        peaks = {
            "peak: JAX matmul": peak("peak_jax", size=size),
            "peak: PyTorch matmul": peak("peak_torch", peer="torch", size=size),
        }
        yield Case(
            "wide", f"784-512-512-10, Adam, batch {batch}", "step", {**nets, **peaks},
            rows=batch, net="784-512-512-10, 128 rows" if batch == 128 else "",
        )  # fmt: skip


def gpt_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    """Yield nanoGPT's and microgpt's training, and tokens that are sampled."""
    for size, name, batch, steps in (
        ("nano", "nanoGPT on a CPU, batch 12, AdamW", 12, 1 if quick else 40),
        ("micro", "microgpt, batch 16, AdamW", MICROGPT_BATCH, 2 if quick else 2000),
    ):
        given: dict[str, Any] = {"size": size, "batch": batch, "steps": steps}
        is_micro = size == "micro"
        slow = {**given, "steps": max(steps // 10, 2)} if is_micro else given
        unit, many = ("sample", batch) if is_micro else ("step", 1)
        yield Case("gpt", name, unit, doing(share(gpt_work(size, batch), many), {
            "funcgrad train": ours("gpt_train", **given),
            "funcgrad fit": ours("gpt_fit", **given),
            "best C": gpt_c(programs, **given) if is_micro else None,
            "PyTorch, fused AdamW": other("gpt_torch", peer="torch", **slow),
            "PyTorch compiled": other(
                "gpt_torch", peer="torch", compiled=True, **slow
            ),
        }))  # fmt: skip
    members = {
        "size": "micro", "batch": MICROGPT_BATCH, "steps": 2 if quick else 200,
        "members": 64,
    }  # fmt: skip
    yield Case("gpt", "64 microgpts, batch 16", "sample", doing(
        share(gpt_work("micro", MICROGPT_BATCH), MICROGPT_BATCH), {
            "funcgrad train_many": ours("gpt_train_many", **members),
            "best C, one core": gpt_c(programs, threads=1, **members),
            f"best C, {cores()} cores": gpt_c(programs, threads=cores(), **members),
        },
    ))  # fmt: skip
    for rows in (1, 16):
        length = 8 if quick else 600
        yield Case("gpt", f"nanoGPT, a token of each of {rows}", "token", {
            "funcgrad sample": ours("gpt_sample", size="nano", rows=rows, length=length)
        })  # fmt: skip


def gpt_c(programs: Programs, **arguments: Any) -> Contender | None:
    """Return the fastest build of microgpt.c, or None if there is none."""
    if MICROGPT not in programs:
        return None
    path, flags = programs[MICROGPT]
    return Contender("gpt_c", {"program": path, **arguments}, "C", flags=flags)


def gpt_work(size: str, batch: int) -> Work:
    """Count the multiply-adds of a step: the products of each token, three times."""
    vocab, context, width, layers, _ = GPTS[size].values()
    attention = (context + 1) * width  # of q k^T and of what they weigh, on average
    token = layers * (12 * width**2 + attention) + vocab * width
    return {"multiply-add": 3 * batch * context * token}


def devices_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    """Yield runs on one device and on two virtual ones, on one core and on all."""
    steps, rows = (2, 64) if quick else (100, 512)
    how = {
        "one device, one core": {"devices": 1, "cores": 1},
        f"one device, {cores()} cores": {"devices": 1, "cores": cores()},
        f"2 devices, {cores()} cores": {"devices": 2, "cores": cores()},
    }
    yield Case("devices", f"784-512-512-10, batch {rows}: strong scaling", "step", {
        name: ours("devices_fit", batch=rows, steps=steps, **given)
        for name, given in how.items()
    }, rows=rows)  # fmt: skip
    yield Case("devices", f"the same, {rows // 2} rows a device: weak scaling", "row", {
        name: ours(
            "devices_fit", batch=rows // 2 * given["devices"], steps=steps, by_row=True,
            **given,
        )
        for name, given in how.items()
    })  # fmt: skip
    members = 64 if quick else 1024
    many = {"members": members, "steps": 20 if quick else 32_768}
    yield Case("devices", f"{members} nets", "net-step", {
        name: ours("devices_train_many", **many, **given)
        for name, given in how.items()
    })  # fmt: skip


def growth_cases(quick: bool, programs: Programs) -> Iterator[Case]:
    """Yield the curves of time against work, and those of compiling."""
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
            work = work_of(sizes, batch, nets=members)
            # Long enough, for members above all, that setting up hardly counts.
            most, seconds = (200_000, 0.1) if members == 1 else (20_000, 1)
            expected = (4 * work["multiply-add"] + 1500) / 1e10
            steps = 2 if quick else max(8, min(most, int(seconds / expected)))
            net = {"sizes": sizes, "batch": batch, "members": members}
            curve[how_far] = ours("growth", **net, steps=steps)._replace(work=work)
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


ITEMS: dict[str, Callable[[bool, Programs], Iterator[Case]]] = {
    "limits": limits_cases,
    "seed": seed_cases,
    "small": small_cases,
    "many": many_cases,
    "moons": moons_cases,
    "wide": wide_cases,
    "gpt": gpt_cases,
    "devices": devices_cases,
    "growth": growth_cases,
}


def cases_of(items: Iterable[str], quick: bool, programs: Programs) -> Iterator[Case]:
    """Yield the limits, and the cases of these items in the order of the table."""
    for item in ITEMS:
        if item in {"limits", *items}:
            yield from ITEMS[item](quick, programs)
