"""The C programs, of which the fastest build trains each net."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.contenders import (
    GPT_RATE,
    GPTS,
    PROBLEMS,
    Problem,
    gpt_c_numbers,
    run_c,
    run_gpt_c,
)

FOLDER = Path(__file__).parent
# Which are the fastest depends on the net and the compiler. On the smallest net, -O3
# unrolls loops too early, and wide vectors stay half empty.
FLAGS = (
    ("-O3",),
    ("-O3", "-fdisable-tree-cunrolli"),
    ("-O3", "-fdisable-tree-cunrolli", "-mprefer-vector-width=128"),
)
TANHS = ((), ("-DINLINE_TANH",))
# What mlp.c trains, and the steps of a race: a twentieth of a second or so.
RACES = {"seed": 500_000, "seed, Adam": 500_000, "moons": 20_000, "small": 3_000}
MICROGPT = "microgpt"
MICROGPT_BATCH = 16
MICROGPT_FLAGS = (("-O3",), ("-O2",), ("-O3", "-mprefer-vector-width=512"))


class Program(NamedTuple):
    """Where a program is, and the flags it was built with."""

    path: str
    flags: str


def compiled(source: str, flags: Sequence[str], program: Path) -> Program | None:
    """Build a program; None if there is no compiler, or it does not know the flags."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    command = [compiler, *flags, "-march=native", "-pthread", str(FOLDER / source)]
    done = subprocess.run([*command, "-o", str(program), "-lm"], capture_output=True)
    return None if done.returncode else Program(str(program), " ".join(flags))


def definitions(problem: Problem) -> list[str]:
    """Return a problem as the flags that mlp.c knows."""
    names = ("IN", "A", "B", "OUT")
    values = {**dict(zip(names, problem.sizes, strict=True)), "ROWS": problem.rows}
    divisor = 1 if problem.loss == "squared_error" else problem.rows * problem.sizes[-1]
    return [
        *(f"-D{name}={value}" for name, value in values.items()),
        f"-DDIVISOR={divisor}", f"-DRATE={problem.rate}f",
        *["-DHINGE"] * (problem.loss == "hinge"),
        *["-DADAM"] * (problem.optimizer == "adam"),
    ]  # fmt: skip


def microgpt_definitions() -> list[str]:
    """Return the net and its optimizer as the flags that microgpt.c knows."""
    vocab, _, _, _, heads = GPTS["micro"].values()
    # Optax's AdamW decays by 1e-4.
    return [
        f"-DVOCAB={vocab}", f"-DHEADS={heads}", f"-DROWS={MICROGPT_BATCH}", "-DADAM",
        f"-DRATE={GPT_RATE}f", "-DDECAY=1e-4f",
    ]  # fmt: skip


def microgpt_builds(folder: Path, quick: bool = False) -> list[Program]:
    """Return the builds of microgpt.c: all, or quickly one."""
    found = []
    for number, chosen in enumerate(MICROGPT_FLAGS[: 1 if quick else None]):
        flags, program = (*chosen, "-ffast-math"), folder / f"{MICROGPT}_{number}"
        built = compiled("microgpt.c", [*flags, *microgpt_definitions()], program)
        if built:
            found.append(built._replace(flags=" ".join(flags)))
    return found


def builds(name: str, folder: Path, quick: bool = False) -> list[Program]:
    """Return the builds of mlp.c for a problem: all, or quickly one."""
    tanhs = TANHS[:1] if PROBLEMS[name].loss == "hinge" else TANHS
    chosen = [(*flags, "-ffast-math", *tanh) for flags in FLAGS for tanh in tanhs]
    found = []
    for number, flags in enumerate(chosen[: 1 if quick else None]):
        program = folder / f"{name.replace(', ', '_')}_{number}"
        built = compiled("mlp.c", [*flags, *definitions(PROBLEMS[name])], program)
        if built:
            found.append(built._replace(flags=" ".join(flags)))
    return found


def fastest(
    programs: Sequence[Program], seconds_of: Callable[[Program], float]
) -> Program:
    """Let the programs run three times in turns; return that with the best time."""
    times = dict.fromkeys(programs, float("inf"))
    for _ in range(3):
        for program in programs:
            times[program] = min(times[program], seconds_of(program))
    return min(times, key=times.__getitem__)


def build(folder: Path, quick: bool = False) -> dict[str, Program]:
    """Return "limits" and the fastest program of each problem, of those there are."""
    found = {}
    limits = compiled("limits.c", ["-O3"], folder / "limits")
    if limits:
        found["limits"] = limits
    for name, steps in RACES.items():
        programs = builds(name, folder, quick)
        if programs:
            few = 1 if quick else steps
            found[name] = fastest(
                programs, lambda p, n=name, s=few: run_c(p.path, n, 1, s, 1)["seconds"]
            )
    programs = microgpt_builds(folder, quick)
    if programs:
        given = gpt_c_numbers(MICROGPT_BATCH, 1 if quick else 1000)
        found[MICROGPT] = fastest(
            programs, lambda program: run_gpt_c(program.path, *given, 1, 1)["seconds"]
        )
    return found
