"""Processes that take turns: a worker is a contender in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import Case, Contender

PROGRAM = Path(__file__).parent / "contenders.py"


class Turns(NamedTuple):
    """What a contender did in its turns, or why it did not."""

    times: list[float]  # seconds per unit, one a round
    figures: dict[str, float]  # medians over the turns
    versions: dict[str, str]  # of Python and the libraries in its process
    interpreter: str  # where it is not the one that runs the benchmarks
    absent: str  # what it needs; "" if it is there
    failed: str  # how it broke; "" if it did not


class Worker:
    """A contender in its own process, waiting for its turn."""

    def __init__(
        self, contender: Contender, interpreters: Mapping[str, str] | None = None
    ):
        self.interpreter = (interpreters or {}).get(contender.peer, "")
        self.times: list[float] = []
        self.figures: list[dict[str, float]] = []
        # A file, since nobody reads while the process runs, and a full pipe stops it.
        self.stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        command = [
            self.interpreter or sys.executable, str(PROGRAM),
            contender.function, json.dumps(contender.arguments),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr,
            text=True, env={**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent)},
        )  # fmt: skip
        self.last = self.answer()
        self.versions: dict[str, str] = self.last.get("versions", {})

    @property
    def ready(self) -> bool:
        return not {"absent", "failed"} & self.last.keys()

    def turn(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died since it said that it was ready; its answer says of what
        self.last = self.answer()
        if self.ready:
            self.times.append(self.last.pop("seconds_per_unit"))
            self.figures.append(self.last)

    def answer(self) -> dict[str, Any]:
        """Read a line of the protocol, or what a process that died said last."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.stderr.seek(0)
        said = self.stderr.read().strip().splitlines()
        return {"failed": said[-1] if said else f"exit code {code}"}

    def end(self) -> Turns:
        try:
            self.process.communicate()
        finally:
            self.stderr.close()
        absent, failed = (self.last.get(how, "") for how in ("absent", "failed"))
        figures = {
            name: statistics.median(turn[name] for turn in self.figures)
            for name in (self.figures[-1] if self.figures else ())
        }
        return Turns(
            self.times, figures, self.versions, self.interpreter, absent, failed
        )


def take_turns(
    contenders: Mapping[str, Contender],
    rounds: int,
    interpreters: Mapping[str, str] | None = None,
) -> dict[str, Turns]:
    """Start all, and let those that are ready do a run each, round by round."""
    workers: dict[str, Worker] = {}
    try:
        for name, contender in contenders.items():
            workers[name] = Worker(contender, interpreters)
        for _ in range(rounds):
            for worker in workers.values():
                if worker.ready:
                    worker.turn()
    finally:
        done = {name: worker.end() for name, worker in workers.items()}
    return done


def measure(
    case: Case, rounds: int, interpreters: Mapping[str, str] | None = None
) -> dict[str, Turns]:
    """Measure the contenders of a case, in turns or one after the other."""
    if case.together:
        return take_turns(case.contenders, rounds, interpreters)
    done: dict[str, Turns] = {}
    for name, contender in case.contenders.items():
        done |= take_turns({name: contender}, rounds, interpreters)
    return done
