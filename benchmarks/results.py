"""What came out: rows of numbers, their statistics, and how they are told and written.

Every number is a field of `Row`; prose is made of them last, and never read back.
"""

import csv
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import Case, Contender, cores
from benchmarks.roofline import Work, limit
from benchmarks.workers import Turns

NAN = float("nan")
HEADER = [
    "case", "contender", "median", "minimum", "per", "ratio", "times C", "of limit",
    "rounds", "note",
]  # fmt: skip


class Row(NamedTuple):
    """What one contender of a case did; times are seconds per unit, nan if none is."""

    item: str
    case: str
    contender: str
    kind: str
    unit: str
    times: tuple[float, ...]
    rounds: int
    median: float
    minimum: float
    ratio: float  # to whom, the item decides; nan if to nobody
    absent: str  # what it needs; "" if it is there
    failed: str  # how it broke; "" if it did not
    interpreter: str  # "" for the one that runs the benchmarks
    versions: Mapping[str, str]
    work: Work  # of a unit
    multiply_adds: float | None = None  # of a unit
    multiply_adds_per_second: float | None = None
    limit: float | None = None  # seconds that the work of a unit takes at least
    share_of_limit: float | None = None  # the limit over the median; 1 is the best
    times_c: float | None = None  # the median over that of the case's fastest C
    rows_per_second: float | None = None
    share_of_peak: float | None = None  # of the best matmul of the same case
    flags: str = ""  # of the C compiler
    net: str = ""  # what the picture of the steps calls it
    steps: int | None = None  # of a run, where they are what grows
    peak_memory: float | None = None  # bytes
    cpu: float | None = None  # seconds of all cores, per unit


class Machine(NamedTuple):
    """What the benchmarks ran on, and how busy it was."""

    model: str
    cores: int
    system: str
    load: float | None


class Run(NamedTuple):
    """What all rows have in common."""

    date: str
    machine: Machine
    versions: Mapping[str, str]
    rounds: int
    quick: bool


def rows_of(
    case: Case, turns: Mapping[str, Turns], seconds: Mapping[str, float] | None = None
) -> list[Row]:
    """Return a row for each contender of a case, the absent ones too.

    `seconds` are those of an operation, of each kind of work, as `seconds_of` has them.
    """
    rows = [
        row_of(case, name, contender, turns[name], seconds or {})
        for name, contender in case.contenders.items()
    ]
    rows = with_times_c(with_share_of_peak(rows))
    return with_ratio_to_best(rows) if case.item == "growth" else with_ratio(rows)


def row_of(
    case: Case, name: str, contender: Contender, done: Turns,
    seconds: Mapping[str, float],
) -> Row:  # fmt: skip
    median = statistics.median(done.times) if done.times else NAN
    work, ran = contender.work or {}, bool(done.times)
    is_limit = contender.kind == "limit"
    has_rows = case.rows and ran and not is_limit
    products = work.get("multiply-add")
    least = limit(work, seconds) if work and seconds and not is_limit else None
    return Row(
        case.item, case.name, name, contender.kind,
        next(iter(work)) if is_limit else case.unit,
        tuple(done.times), len(done.times), median, min(done.times, default=NAN), NAN,
        done.absent, done.failed, done.interpreter, done.versions, work,
        multiply_adds=products,
        multiply_adds_per_second=products / median if products and ran else None,
        limit=least,
        share_of_limit=least / median if least and ran else None,
        rows_per_second=case.rows / median if has_rows else None,
        steps=contender.steps,
        peak_memory=done.figures.get("peak_memory"),
        cpu=done.figures.get("cpu_seconds_per_unit"),
        flags=contender.flags,
        net=case.net,
    )  # fmt: skip


def seconds_of(rows: Iterable[Row]) -> dict[str, float]:
    """Return the seconds of an operation of each kind, as the best turn had them."""
    seconds: dict[str, float] = {}
    for row in rows:
        if row.kind == "limit" and row.times:
            seconds[row.unit] = min(row.minimum, seconds.get(row.unit, math.inf))
    return seconds


def with_times_c(rows: list[Row]) -> list[Row]:
    """Compare medians with that of the fastest C, where a case has it."""
    best = min((row.median for row in rows if row.kind == "C" and row.times), default=0)
    return [
        row._replace(times_c=row.median / best)
        if best and row.kind != "limit" and row.times
        else row
        for row in rows
    ]


def with_share_of_peak(rows: list[Row]) -> list[Row]:
    """Compare multiply-adds per second with the limit's, where a case has one."""
    limits = [row for row in rows if row.kind == "limit"]
    peak = max((row.multiply_adds_per_second or 0 for row in limits), default=0)
    return [
        row._replace(share_of_peak=row.multiply_adds_per_second / peak)
        if row.kind != "limit" and row.multiply_adds_per_second and peak
        else row
        for row in rows
    ]


def with_ratio(rows: list[Row]) -> list[Row]:
    """Compare medians with that of the contender named first; limits with nobody."""
    first = rows[0].median
    return [
        row if row.kind == "limit" else row._replace(ratio=row.median / first)
        for row in rows
    ]


def with_ratio_to_best(rows: list[Row]) -> list[Row]:
    """Compare times per multiply-add with the best of the curve, the large being there.

    Large is a million of them, in a step; if none is that large, all are compared.
    """
    curve = [r for r in rows if r.kind != "limit" and r.multiply_adds_per_second]
    large = [row for row in curve if (row.multiply_adds or 0) >= 1e6]
    speeds = [row.multiply_adds_per_second or 0 for row in large or curve]
    best = max(speeds, default=NAN)
    return [
        row._replace(ratio=best / row.multiply_adds_per_second)
        if row.kind != "limit" and row.multiply_adds_per_second
        else row
        for row in rows
    ]


def note(row: Row) -> str:
    """Tell in words what the table has no column for."""
    parts = []
    speed = row.multiply_adds_per_second
    if row.kind == "limit":
        if speed:
            parts.append(
                f"{2e-9 * speed:.3g} GFLOP/s, {1e-9 * speed:.3g} G multiply-adds/s"
            )
        elif row.times:
            parts.append(f"{1e-9 / row.median:.3g} G/s")
    elif row.item == "growth" and row.multiply_adds:
        parts.append(f"{row.multiply_adds:,} multiply-adds")
        if speed:
            parts.append(f"{1e-9 * speed:.3g} G/s")
    if row.rows_per_second:
        parts.append(f"{row.rows_per_second:,.0f} rows/s")
    if row.share_of_peak:
        parts.append(f"{row.share_of_peak:.0%} of the matmul peak")
    if row.cpu:
        parts.append(f"CPU {readable(row.cpu)}")
    if row.peak_memory:
        parts.append(f"peak memory {row.peak_memory / 1e6:.0f} MB")
    if row.flags:
        parts.append(row.flags)
    if row.interpreter:
        parts += [f"{name} {version}" for name, version in row.versions.items()]
    if row.absent:
        parts.append(f"absent: {row.absent}")
    if row.failed:
        parts.append(f"failed: {row.failed:.160}")
    return ", ".join(parts)


def readable(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "" if math.isnan(seconds) else f"{seconds * 1e12:.3g} ps"


def cells(row: Row) -> list[str]:
    """Return the row's line in the table, under `HEADER`."""
    ratio = "" if math.isnan(row.ratio) else f"{row.ratio:,.3g}"
    times_c = "" if row.times_c is None else f"{row.times_c:,.3g}"
    share = "" if row.share_of_limit is None else f"{100 * row.share_of_limit:.3g} %"
    times = [readable(row.median), readable(row.minimum)]
    columns = [*times, row.unit, ratio, times_c, share, str(row.rounds)]
    return [row.case, row.contender, *columns, note(row)]


def terminal_line(columns: Sequence[str]) -> str:
    """Return a line in the terminal, of cells or of the header."""
    case, contender, median, minimum, unit, ratio, times_c, share, _, said = columns
    return (
        f"{case:34.34} {contender:32.32} {median:>9} {minimum:>9} /{unit:18} "
        f"{ratio:>9} {times_c:>9} {share:>9}  {said}"
    ).rstrip()


def this_machine() -> Machine:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        pairs = (line.partition(":") for line in info.read_text().splitlines())
        names = [value.strip() for key, _, value in pairs if "model name" in key]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Machine(model, cores(), platform.system(), load)


def versions_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return the version of each library, as the first row that has it says."""
    versions = {"python": platform.python_version()}
    for row in rows:
        for name, version in row.versions.items():
            versions.setdefault(name, version)
    return versions


def this_run(rows: Iterable[Row], rounds: int, quick: bool) -> Run:
    date = time.strftime("%Y-%m-%d")
    return Run(date, this_machine(), versions_of(rows), rounds, quick)


def title(run: Run) -> str:
    machine = f"{run.machine.model}, {run.machine.cores} cores, {run.machine.system}"
    if run.machine.load is not None:
        machine += f", load {run.machine.load:.1f}"
    named = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    rounds = f"{run.rounds} round{'s' * (run.rounds != 1)}"
    return f"{run.date}, {machine}; {named}; {rounds}"


def as_json(run: Run, rows: Iterable[Row]) -> str:
    """Return everything; a number that is not there is null."""

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    everything = {
        **run._asdict(),
        "machine": run.machine._asdict(),
        "rows": [
            {name: plain(value) for name, value in row._asdict().items()}
            for row in rows
        ],
    }
    return json.dumps(everything, indent=1, allow_nan=False) + "\n"


def as_markdown(run: Run, rows: Sequence[Row]) -> str:
    lines = [title(run), ""]
    for item in dict.fromkeys(row.item for row in rows):
        lines += [f"## {item}", "", "| " + " | ".join(HEADER) + " |"]
        lines += ["|" + "---|" * len(HEADER)]
        lines += ["| " + " | ".join(cells(r)) + " |" for r in rows if r.item == item]
        lines.append("")
    return "\n".join(lines)


def write(folder: Path, run: Run, rows: Sequence[Row]) -> None:
    """Write results.json, which has all, and the table as results.csv and results.md.

    The columns of the CSV are the fields of a row but for `times`, `work` and
    `versions`, and the note.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(as_json(run, rows))
    (folder / "results.md").write_text(as_markdown(run, rows))
    columns = [
        name for name in Row._fields if name not in ("times", "work", "versions")
    ]
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "note"])
        writer.writerows([*(getattr(r, c) for c in columns), note(r)] for r in rows)
