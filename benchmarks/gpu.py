"""One table of a GPU beside the CPU: `python -m benchmarks.gpu [--quick]`.

It needs no network and no peers. Each contender of the table runs in processes of its
own, on the CPU and on whatever else JAX finds; times are medians of a few turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmarks.workers import PROGRAM

ROUNDS = 5


def measures(quick: bool) -> dict[str, tuple[str, dict[str, object]]]:
    """Return {what one unit is: (function of contenders.py, its arguments)}."""
    few = 10 if quick else 1000
    rows = 512 if quick else 12_800
    found: dict[str, tuple[str, dict[str, object]]] = {
        "step of [3, 4, 4, 1] on 4 rows": (
            "step_train", {"problem": "seed", "steps": 10 * few}
        ),
        "step of [16, 64, 64, 1] on 32 rows": (
            "step_train", {"problem": "small", "steps": few}
        ),
    }  # fmt: skip
    for batch in (128,) if quick else (128, 512, 4096):
        given: dict[str, object] = {"rows": rows, "batch": batch}
        found[f"step of 784-512-512-10, batch {batch}"] = "wide_train", given
    for members in (64,) if quick else (1024, 8192, 65536):
        given = {"members": members, "steps": max(2, 256 * few // members)}
        found[f"net-step, {members:,} nets at once"] = "many_train_many", given
    if not quick:
        given = {"size": "nano", "batch": 12, "steps": 20}
        found["step of nanoGPT on a CPU, batch 12"] = "gpt_train", given
    return found


def seconds(function: str, arguments: dict[str, object], platform: str) -> float | str:
    """Return the median seconds of a unit on a platform, or why there is none."""
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent)}
    if platform:
        environment["JAX_PLATFORMS"] = platform
    done = subprocess.run(
        [sys.executable, str(PROGRAM), function, json.dumps(arguments)],
        input="go\n" * ROUNDS, capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    times = [a["seconds_per_unit"] for a in answers if "seconds_per_unit" in a]
    if len(times) == ROUNDS:
        return statistics.median(times)
    last = answers[-1] if answers else {"failed": f"exit code {done.returncode}"}
    return str(last.get("failed") or last.get("absent") or "no answer")


def row(what: str, cpu: float | str, other: float | str) -> str:
    """Return a line of the table, in microseconds."""
    cells = [
        f"{time * 1e6:.3f}" if isinstance(time, float) else time
        for time in (cpu, other)
    ]
    both = isinstance(cpu, float) and isinstance(other, float)
    ratio = f"{cpu / other:.2f}" if both else ""
    return f"| {what} | {' | '.join(cells)} | {ratio} |"


def accelerator() -> str:
    """Return what JAX computes on here by default; "" if that is the CPU."""
    program = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    platform, kind = done.stdout.strip().split(" ", 1)
    return "" if platform == "cpu" else kind


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny, to see it run")
    quick = parser.parse_args().quick
    name = accelerator()
    print(f"| us | CPU | {name or 'no GPU found'} | CPU / GPU |\n|---|---|---|---|")
    for what, (function, arguments) in measures(quick).items():
        cpu = seconds(function, arguments, "cpu")
        other = seconds(function, arguments, "") if name else "-"
        print(row(what, cpu, other), flush=True)


if __name__ == "__main__":
    main()
