"""Pictures of the results: one of all that is measured, and one of steps alone."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.results import Row, readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(rows: Iterable[Row], title: str) -> "Figure":
    """Return a figure with a panel for each case, one for growth, one for compiling."""
    from matplotlib.figure import Figure

    ran = [row for row in rows if not math.isnan(row.median)]
    limits = [row for row in ran if row.kind == "limit"]
    nets = [row for row in ran if row.kind != "limit"]
    grown = [row for row in nets if row.item == "growth" and row.multiply_adds]
    compiled = [row for row in nets if row.peak_memory]
    bars = [row for row in nets if row.item != "growth"]
    cases = dict.fromkeys((row.item, row.case) for row in bars)
    panels = len(cases) + bool(grown) + bool(compiled)
    columns = min(3, max(panels, 1))
    lines = max(-(-panels // columns), 1)
    figure = Figure(figsize=(6 * columns, 3.6 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[panels:]:
        axis.remove()
    for axis, case in zip(axes, cases, strict=False):
        draw_bars(axis, [row for row in bars if (row.item, row.case) == case])
    if grown:
        draw_growth(axes[len(cases)], grown, limits)
    if compiled:
        draw_compiling(axes[panels - 1], compiled)
    for axis in axes[:panels]:
        axis.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=8)
    return figure


def draw_bars(axis: Any, rows: Sequence[Row]) -> None:
    """Draw the contenders of a case, funcgrad's in colour, the first on top."""
    rows = rows[::-1]
    times = [row.median for row in rows]
    colours = ["tab:orange" if row.kind == "funcgrad" else "0.6" for row in rows]
    bars = axis.barh([row.contender for row in rows], times, color=colours)
    axis.bar_label(
        bars, [readable(seconds) for seconds in times], padding=2, fontsize=7
    )
    axis.margins(x=0.25)
    if max(times) > 10 * min(times):
        axis.set_xscale("log")
    axis.set_title(f"{rows[0].item}: {rows[0].case}", fontsize=9)
    axis.set_xlabel(f"seconds per {rows[0].unit}", fontsize=7)


# Who is in the picture of the steps: the name, its colour and its place.
STEPS = {
    "PyTorch eager": ("PyTorch", "0.45", "center"),
    "funcgrad train": ("funcgrad", "tab:orange", "bottom"),
    "best C": ("C by hand", "tab:blue", "top"),
}


def picture_of_steps(rows: Iterable[Row]) -> "Figure":
    """Return a figure of a step's time against its size: funcgrad, C and PyTorch."""
    from matplotlib.figure import Figure

    nets = [row for row in rows if row.net and row.contender in STEPS and row.times]
    nets = sorted(nets, key=lambda row: row.multiply_adds or 0)
    times = {name: times_of(nets, name) for name in STEPS}
    ratios = {
        size: seconds / times["funcgrad train"][size]
        for size, seconds in times["PyTorch eager"].items()
        if size in times["funcgrad train"]
    }
    figure = Figure(figsize=(11.5, 6.5), layout="constrained")
    axis = figure.subplots()
    axis.set(xscale="log", yscale="log")
    for contender, (name, colour, place) in STEPS.items():
        if times[contender]:
            sizes, seconds = zip(*times[contender].items(), strict=True)
            axis.plot(sizes, seconds, "o-", color=colour, lw=4, ms=11)
            axis.annotate(
                name, (sizes[0], seconds[0]), (-14, 0), textcoords="offset points",
                color=colour, fontsize=20, weight="bold", ha="right", va=place,
            )  # fmt: skip
    for size, ratio in ratios.items():
        ends = [times[name][size] for name in ("funcgrad train", "PyTorch eager")]
        arrow = {"arrowstyle": "<->", "color": "0.45", "shrinkA": 9, "shrinkB": 9}
        axis.annotate("", (size, ends[0]), (size, ends[1]), arrowprops=arrow)
        axis.annotate(
            f"{rounded(ratio)} x", (size, math.sqrt(ends[0] * ends[1])), (8, 0),
            textcoords="offset points", fontsize=17, va="center",
        )  # fmt: skip
    names = {row.multiply_adds or 0: row.net.replace(", ", "\n") for row in nets}
    axis.set_xticks(list(names), list(names.values()))
    axis.minorticks_off()
    axis.set_xlabel("the net, placed by the multiply-adds of its step", fontsize=14)
    axis.yaxis.set_major_formatter(lambda seconds, _: readable(seconds))
    axis.tick_params(axis="x", labelsize=12.5)
    axis.tick_params(axis="y", labelsize=14)
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if names:
        axis.set_xlim(min(names) / 25, max(names) * 3)
        axis.margins(y=0.08)
    title = "A training step"
    if ratios:
        title += f": up to {rounded(max(ratios.values()))} times as fast as in PyTorch"
    axis.set_title(title, fontsize=20, loc="left", weight="bold", pad=14)
    return figure


def times_of(nets: Iterable[Row], contender: str) -> dict[float, float]:
    """Return {multiply-adds: seconds} of the steps of a contender."""
    return {
        row.multiply_adds or 0: row.median for row in nets if row.contender == contender
    }


def rounded(ratio: float) -> str:
    """Return a ratio with two digits that count."""
    return f"{float(f'{ratio:.2g}'):,g}"


def curves_of(rows: Iterable[Row]) -> dict[str, list[Row]]:
    curves: dict[str, list[Row]] = {}
    for row in rows:
        curves.setdefault(row.case, []).append(row)
    return curves


def draw_growth(axis: Any, rows: Sequence[Row], limits: Sequence[Row]) -> None:
    """Draw time against work on log-log axes, and the limit as a line."""
    for name, curve in curves_of(rows).items():
        work, times = [r.multiply_adds for r in curve], [r.median for r in curve]
        axis.loglog(work, times, "o-", label=name, ms=3)
    peak = max((row.multiply_adds_per_second or 0 for row in limits), default=0)
    if peak:
        works = [row.multiply_adds or 0 for row in rows]
        ends = [min(works), max(works)]
        times = [work / peak for work in ends]
        axis.loglog(ends, times, "k--", lw=1, label="the limit: multiply-adds")
    axis.legend(fontsize=7)
    axis.set_title("growth: time per step", fontsize=9)
    axis.set_xlabel("multiply-adds of a step", fontsize=7)
    axis.set_ylabel("seconds per step", fontsize=7)


def draw_compiling(axis: Any, rows: Sequence[Row]) -> None:
    """Draw seconds and gigabytes against the steps of the run."""
    for name, curve in curves_of(rows).items():
        steps = [row.steps for row in curve]
        (line,) = axis.semilogx(
            steps, [row.median for row in curve], "o-", ms=3, label=f"{name}: seconds"
        )
        memory = [(row.peak_memory or 0) / 1e9 for row in curve]
        axis.semilogx(
            steps, memory, "s--", ms=3, color=line.get_color(),
            label=f"{name}: gigabytes",
        )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7)
    axis.set_title("growth: compiling, and memory at its peak", fontsize=9)
    axis.set_xlabel("steps of the run", fontsize=7)
