"""Run the benchmarks and write the table: `python -m benchmarks [--quick] [ITEM ...]`.

Contenders of a case take turns, round by round, each in its own process; the table has
medians over the rounds, and the ratio to the contender named first. Times of a machine
that does other things at once are too long, for all of them alike.
"""

import argparse
import csv
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders import SEED_SIZES

HERE = Path(__file__).parent
ITEMS = ("seed", "many", "moons", "wide", "growth")
# All are the program a C compiler makes of the same source; the fastest is the limit.
# Unrolling whole small loops too early is what costs -O3 its lead here.
C_FLAGS = {
    "C": ["-O3"],
    "C, -O2": ["-O2"],
    "C, loops kept": ["-O3", "-fdisable-tree-cunrolli"],
}


class Case(NamedTuple):
    """Contenders that take turns: name -> (function in contenders.py, arguments)."""

    item: str
    name: str
    unit: str
    contenders: dict[str, tuple[str, dict[str, Any]]]


class Row(NamedTuple):
    """One line of the table; times are seconds per unit."""

    item: str
    case: str
    contender: str
    median: float
    minimum: float
    unit: str
    ratio: float
    rounds: int
    note: str


class Worker:
    """A contender in its own process, waiting for its turn."""

    def __init__(self, interpreter: str, function: str, arguments: dict[str, Any]):
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        self.process = subprocess.Popen(
            [interpreter, HERE / "contenders.py", function, json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )  # fmt: skip
        self.hello = self._answer()

    def turn(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        tail = self.process.stderr.read().strip().splitlines()[-1:]
        return {"absent": f"failed: {' '.join(tail)[:160]}"}

    def end(self) -> None:
        self.process.communicate()


def build_c(folder: Path) -> dict[str, str]:
    """Return the programs that could be built, by name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    programs = {}
    for number, (name, flags) in enumerate(C_FLAGS.items()):
        program = folder / f"seed_net_{number}"
        command = [
            str(compiler), *flags, "-march=native", "-ffast-math", "-pthread",
            str(HERE / "seed_net.c"), "-o", str(program), "-lm",
        ]  # fmt: skip
        if compiler and subprocess.run(command, capture_output=True).returncode == 0:
            programs[name] = str(program)
    return programs


def cases(quick: bool, programs: dict[str, str]) -> Iterator[Case]:
    """Yield all cases but those of growth."""
    few = 20 if quick else 1000
    many = 1000 if quick else 1_000_000
    yield Case("seed", "[3, 4, 4, 1], 4 rows", "step", {
        "funcgrad train": ("seed_train", {"steps": many}),
        "funcgrad fit": ("seed_fit", {"steps": many}),
        **{
            name: ("seed_c", {"binary": program, "steps": many})
            for name, program in programs.items()
        },
        "jitted step, dispatched": ("seed_dispatched", {"steps": few}),
        "Equinox": ("seed_equinox", {"steps": few}),
        "Flax NNX": ("seed_nnx", {"steps": few}),
        "PyTorch eager": ("seed_torch", {"steps": few}),
        "PyTorch compiled": ("seed_torch", {"steps": few, "compiled": True}),
        "micrograd": ("seed_micrograd", {"steps": max(few // 10, 2)}),
    })  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    for members in (64,) if quick else (64, 1024, 8192):
        steps = 20 if quick else 2**22 // members
        small = {"members": members, "steps": max(steps // 20, 2)}
        c_runs: dict[str, tuple[str, dict[str, Any]]] = {}
        for name, program in programs.items():
            for label, threads in (("one core", 1), (f"{cores} cores", cores)):
                arguments = {"binary": program, "members": members, "steps": steps}
                c_runs[f"{name}, {label}"] = (
                    "many_c", {**arguments, "threads": threads},
                )  # fmt: skip
        yield Case("many", f"{members} nets", "net-step", {
            "funcgrad train_many": (
                "many_train_many", {"members": members, "steps": steps}
            ),
            **c_runs,
            "vmap of the plain form": ("many_vmap_plain", small),
            "PyTorch bmm": ("many_torch_bmm", small),
            "torch.func": ("many_torch_func", small),
        })  # fmt: skip
    moons = 5 if quick else 100
    yield Case("moons", f"{moons} steps, a process", "run", {
        "funcgrad, a script": ("moons_script", {"steps": moons}),
        "funcgrad train moons": ("moons_process", {"steps": moons}),
        "funcgrad, training alone": ("moons_training", {"steps": moons}),
        "scikit-learn": ("moons_sklearn", {"steps": moons}),
        "micrograd, 1 step scaled": ("moons_micrograd", {"steps": 1, "of": moons}),
    })  # fmt: skip
    rows = 256 if quick else 12_800
    for batch in (128,) if quick else (32, 128, 512):
        given = {"rows": rows, "batch": batch}
        yield Case("wide", f"784-512-512-10, Adam, batch {batch}", "row", {
            "funcgrad train": ("wide_train", given),
            "funcgrad fit": ("wide_fit", given),
            "Equinox": ("wide_equinox", given),
            "Flax NNX": ("wide_nnx", given),
            "PyTorch": ("wide_torch", {**given, "fused": False}),
            "PyTorch, fused Adam": ("wide_torch", {**given, "fused": True}),
            "peak: JAX matmul": ("peak_jax", {"size": 256 if quick else 2048}),
            "peak: PyTorch matmul": ("peak_torch", {"size": 256 if quick else 2048}),
        })  # fmt: skip


def growth_cases(quick: bool) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Yield (what grows, how far, multiply-adds of a step, arguments)."""
    small, seed = (16, 64, 64, 1), SEED_SIZES
    curves = {
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
        for how_far, sizes, batch, members in points[: 2 if quick else None]:
            pairs = list(itertools.pairwise(sizes))
            # Forward, and backward to the weights and, but for the first, the inputs.
            work = 3 * sum(a * b for a, b in pairs) - pairs[0][0] * pairs[0][1]
            work *= batch * members
            # Long enough, for members above all, that setting up hardly counts.
            most, seconds = (200_000, 0.1) if members == 1 else (20_000, 1)
            steps = max(8, min(most, int(seconds * 1e10 / (4 * work + 1500))))
            steps = 2 if quick else steps
            arguments = {"sizes": sizes, "batch": batch, "members": members}
            yield what, how_far, work, {**arguments, "steps": steps}


def interpreters(given: list[str]) -> dict[str, str]:
    """Return the interpreter for each function whose name starts with a peer's."""
    chosen = dict(pair.split("=", 1) for pair in given)
    unknown = set(chosen) - {"torch", "micrograd", "sklearn", "equinox", "nnx"}
    if unknown:
        sys.exit(
            f"--python knows torch, micrograd, sklearn, equinox, nnx; got {unknown}"
        )
    return chosen


def run_case(
    case: Case, rounds: int, peers: dict[str, str], versions: dict
) -> list[Row]:
    """Let the contenders take turns; return their rows, the absent ones named."""
    workers: dict[str, Worker] = {}
    times: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for name, (function, arguments) in case.contenders.items():
        interpreter = next(
            (p for peer, p in peers.items() if peer in function), sys.executable
        )
        worker = Worker(interpreter, function, arguments)
        if "absent" in worker.hello:
            notes[name] = f"absent: {worker.hello['absent']}"
            worker.end()
            continue
        workers[name], times[name] = worker, []
        own = {k: v for k, v in worker.hello["versions"].items() if k != "python"}
        versions.update({k: v for k, v in own.items() if k not in versions})
        if interpreter != sys.executable:
            found = worker.hello["versions"]
            notes[name] = ", ".join(f"{k} {v}" for k, v in found.items())
    for _ in range(rounds):
        for name, worker in workers.items():
            answer = worker.turn()
            if "absent" in answer:
                notes[name] = answer["absent"]
            else:
                times[name].append(answer["seconds_per_unit"])
    for worker in workers.values():
        worker.end()
    medians = {name: statistics.median(t) for name, t in times.items() if t}
    first = medians.get(next(iter(case.contenders)), float("nan"))
    rows = []
    for name in case.contenders:
        median = medians.get(name, float("nan"))
        minimum = min(times.get(name) or [float("nan")])
        rows.append(
            Row(
                case.item, case.name, name, median, minimum, case.unit, median / first,
                len(times.get(name, [])), notes.get(name, ""),
            )
        )  # fmt: skip
    return with_share_of_peak(rows) if case.item == "wide" else rows


def with_share_of_peak(rows: list[Row]) -> list[Row]:
    """Note rows per second, and the share of the best matmul of the same run."""
    flops_per_row = 2 * (2 * 784 * 512 + 3 * (512 * 512 + 512 * 10))
    peak = min((r.median for r in rows if r.contender.startswith("peak")), default=0)
    noted = []
    for row in rows:
        if row.contender.startswith("peak"):
            note = f"{1e-9 / row.median:.0f} GFLOP/s {row.note}"
            noted.append(row._replace(unit="operation", ratio=float("nan"), note=note))
        else:
            share = flops_per_row * peak / row.median
            note = f"{1 / row.median:,.0f} rows/s, {share:.0%} of peak {row.note}"
            noted.append(row._replace(note=note))
    return noted


def run_growth(quick: bool, rounds: int, versions: dict[str, str]) -> list[Row]:
    """Measure time against work, and what the machine's matmul could do at most.

    A ratio is to the best time per multiply-add of the same curve, from a million of
    them on.
    """

    def alone(name: str, contender: str, unit: str, *work: Any) -> Row:
        case = Case("growth", name, unit, {contender: work})
        return run_case(case, rounds, {}, versions)[0]

    size = 256 if quick else 2048
    peak = alone("limit", "peak: JAX matmul", "operation", "peak_jax", {"size": size})
    peak = peak._replace(note=f"{0.5e-9 / peak.median:.3g} G multiply-adds/s")
    rows = [peak._replace(ratio=float("nan"))]
    show(rows)
    every_case = growth_cases(quick)
    for what, curve in itertools.groupby(every_case, key=lambda case: case[0]):
        measured = []
        for _, how_far, work, arguments in curve:
            measured.append((work, alone(what, how_far, "step", "growth", arguments)))
        paces = [row.median / work for work, row in measured]
        large = [p for p, (work, _) in zip(paces, measured, strict=True) if work >= 1e6]
        best = min((p for p in large or paces if p == p), default=float("nan"))
        grown = [
            row._replace(
                ratio=pace / best,
                note=f"{work} multiply-adds, {1e-9 / pace:.3g} G/s {row.note}",
            )
            for pace, (work, row) in zip(paces, measured, strict=True)
        ]
        show(grown)
        rows += grown
    return rows


def run_compiling(quick: bool) -> list[Row]:
    """Measure what compiling takes, and memory at its peak, against steps."""
    rows = []
    for how in ("train", "fit"):
        for steps in (10, 100) if quick else (10, 10**3, 10**5, 10**6, 10**7):
            worker = Worker(sys.executable, "compiling", {"steps": steps, "how": how})
            answer = worker.turn()
            worker.end()
            note = f"peak memory {answer['peak_mb']:.0f} MB"
            rows.append(
                Row(
                    "growth", f"{steps:,} steps", f"{how}, compiling",
                    answer["compile_s"], answer["compile_s"], "compile", float("nan"),
                    1, note,
                )
            )  # fmt: skip
            show(rows[-1:])
    return rows


def readable(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "" if seconds != seconds else f"{seconds * 1e12:.3g} ps"


def cells(row: Row) -> list[str]:
    ratio = "" if row.ratio != row.ratio else f"{row.ratio:,.3g}"
    times = [readable(row.median), readable(row.minimum)]
    return [row.case, row.contender, *times, row.unit, ratio, str(row.rounds), row.note]


HEADER = ["case", "contender", "median", "minimum", "per", "ratio", "rounds", "note"]


def show(rows: list[Row]) -> None:
    for row in rows:
        case, contender, median, minimum, unit, ratio, _, note = cells(row)
        print(
            f"{case:34.34} {contender:26.26} {median:>9} {minimum:>9} /{unit:9} "
            f"{ratio:>9}  {note}",
            flush=True,
        )


def machine() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [
            line.split(":", 1)[1].strip() for line in lines if "model name" in line
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {cores} cores, {platform.system()}{load}"


def write(folder: Path, rows: list[Row], title: str) -> None:
    """Write the table as CSV, as Markdown, and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    lines = [title, ""]
    for item in dict.fromkeys(row.item for row in rows):
        lines += [f"## {item}", "", "| " + " | ".join(HEADER) + " |"]
        lines += ["|" + "---|" * len(HEADER)]
        lines += ["| " + " | ".join(cells(r)) + " |" for r in rows if r.item == item]
        lines.append("")
    (folder / "results.md").write_text("\n".join(lines))
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    matplotlib.use("agg")
    draw(folder / "results.png", rows, title)


def draw(path: Path, rows: list[Row], title: str) -> None:
    """Draw bars for the contenders of each case, and growth on log-log axes."""
    from matplotlib import pyplot as plt

    good = [row for row in rows if row.median == row.median]
    cases = dict.fromkeys((r.item, r.case) for r in good if r.item != "growth")
    grown = [row for row in good if row.item == "growth" and row.unit == "step"]
    compiled = [row for row in good if row.unit == "compile"]
    panels = len(cases) + bool(grown) + bool(compiled)
    columns = min(3, max(panels, 1))
    lines = -(-panels // columns)
    figure, axes = plt.subplots(
        max(lines, 1), columns, figsize=(6 * columns, 3.6 * max(lines, 1)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    flat = list(axes.flat)
    for axis, (item, case) in zip(flat, cases, strict=False):
        own = [r for r in good if (r.item, r.case) == (item, case)]
        own = [r for r in own if r.unit != "operation"][::-1]
        ours = ["tab:orange" if "funcgrad" in r.contender else "0.6" for r in own]
        bars = axis.barh(
            [r.contender for r in own], [r.median for r in own], color=ours
        )
        axis.bar_label(bars, [readable(r.median) for r in own], padding=2, fontsize=7)
        times = [r.median for r in own]
        axis.margins(x=0.25)
        if max(times) > 10 * min(times):
            axis.set_xscale("log")
        axis.tick_params(labelsize=7)
        axis.set_title(f"{item}: {case}", fontsize=9)
        axis.set_xlabel(f"seconds per {own[0].unit}", fontsize=7)
    if grown:
        axis = flat[len(cases)]
        for what in dict.fromkeys(row.case for row in grown):
            own = [row for row in grown if row.case == what]
            work = [int(row.note.split()[0]) for row in own]
            axis.loglog(work, [row.median for row in own], "o-", label=what, ms=3)
        peaks = [row.median for row in good if row.unit == "operation"]
        peak = min(peaks, default=float("nan"))
        ends = [int(row.note.split()[0]) for row in grown]
        ends = [min(ends), max(ends)]
        limit = [2 * peak * work for work in ends]
        axis.loglog(ends, limit, "k--", lw=1, label="the limit: matmul peak")
        axis.legend(fontsize=7)
        axis.tick_params(labelsize=7)
        axis.set_title("growth: time per step", fontsize=9)
        axis.set_xlabel("multiply-adds of a step", fontsize=7)
        axis.set_ylabel("seconds per step", fontsize=7)
    if compiled:
        axis = flat[panels - 1]
        for how in dict.fromkeys(row.contender for row in compiled):
            own = [row for row in compiled if row.contender == how]
            steps = [int(row.case.split()[0].replace(",", "")) for row in own]
            name = how.split(",")[0]
            memory = [float(row.note.split()[2]) / 1000 for row in own]
            line = axis.semilogx(
                steps, [row.median for row in own], "o-", ms=3, label=f"{name}: seconds"
            )
            axis.semilogx(
                steps, memory, "s--", ms=3, color=line[0].get_color(),
                label=f"{name}: gigabytes",
            )  # fmt: skip
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)
        axis.tick_params(labelsize=7)
        axis.set_title("growth: compiling, and memory at its peak", fontsize=9)
        axis.set_xlabel("steps of the run", fontsize=7)
    for axis in flat[panels:]:
        axis.remove()
    figure.suptitle(title, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(ITEMS))
    parser.add_argument(
        "--quick", action="store_true", help="tiny, to see that it runs"
    )
    parser.add_argument("--rounds", type=int, default=0, help="turns of each contender")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=INTERPRETER",
        help="run a peer, such as torch, under another interpreter",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    items = given.items or list(ITEMS)
    if not set(items) <= set(ITEMS):
        parser.error(f"items are {', '.join(ITEMS)}; got {' '.join(items)}")
    rounds = given.rounds or (1 if given.quick else 7)
    peers = interpreters(given.python)
    versions: dict[str, str] = {"python": platform.python_version()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        programs = build_c(Path(folder))
        if not programs:
            print("absent: a C compiler, and so the limit")
        for case in cases(given.quick, programs):
            if case.item in items:
                rows += run_case(case, rounds, peers, versions)
                show([row for row in rows if row[:2] == case[:2]])
    if "growth" in items:
        rows += run_growth(given.quick, rounds, versions)
        rows += run_compiling(given.quick)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    title = f"{time.strftime('%Y-%m-%d')}, {machine()}; {named}; {rounds} rounds"
    write(given.out, rows, title)
    print(f"\n{title}\nwritten: results.csv, results.md and results.png in {given.out}")


if __name__ == "__main__":
    main()
