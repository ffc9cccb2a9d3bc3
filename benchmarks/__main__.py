"""Run the benchmarks and write the table: `python -m benchmarks [--quick] [ITEM ...]`.

Contenders of a case take turns, round by round, each in its own process; the table has
medians over the rounds, the ratio to the contender named first, that to the fastest C,
and the share of the limit: the least time that the machine, which is measured first,
could do the counted work in, over the median. Times of a machine that does other things
at once are too long, for all of them alike.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from benchmarks import cases, contenders, pictures, programs, results, workers


def interpreters(given: list[str]) -> dict[str, str]:
    """Return the interpreter for each peer; `given` are PEER=INTERPRETER."""
    chosen = {}
    for pair in given:
        peer, _, interpreter = pair.partition("=")
        if peer not in cases.PEERS:
            raise ValueError(f"--python knows {', '.join(cases.PEERS)}; got {peer}")
        if shutil.which(interpreter) is None:
            raise ValueError(f"--python {pair}: there is no such program")
        chosen[peer] = interpreter
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(cases.ITEMS))
    parser.add_argument(
        "--quick", action="store_true", help="tiny, to see that it runs"
    )
    parser.add_argument("--rounds", type=int, default=0, help="turns of each contender")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=INTERPRETER",
        help="run a peer, such as torch, under another interpreter",
    )  # fmt: skip
    given = parser.parse_args()
    items = given.items or list(cases.ITEMS)
    if not set(items) <= set(cases.ITEMS):
        parser.error(f"items are {', '.join(cases.ITEMS)}; got {' '.join(items)}")
    try:
        peers = interpreters(given.python)
    except ValueError as error:
        parser.error(str(error))
    rounds = given.rounds or (1 if given.quick else 7)
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        built = programs.build(Path(folder), given.quick)
        if not built:
            print("absent: a C compiler, and so C and most limits")
        print(results.terminal_line(results.HEADER))
        for case in cases.cases_of(items, given.quick, built):
            turns = workers.measure(case, case.rounds or rounds, peers)
            measured = results.rows_of(case, turns, results.seconds_of(rows))
            for row in measured:
                print(results.terminal_line(results.cells(row)), flush=True)
            rows += measured
    run = results.this_run(rows, rounds, given.quick)
    results.write(given.out, run, rows)
    written = ["results.json", "results.csv", "results.md"]
    if contenders.is_installed("matplotlib"):
        title = results.title(run)
        pictures.picture(rows, title).savefig(given.out / "results.png", dpi=110)
        pictures.picture_of_steps(rows).savefig(given.out / "steps.png", dpi=110)
        written += ["results.png", "steps.png"]
    else:
        print(f"no picture: {contenders.needs('matplotlib', extra='bench')}")
    print(f"\n{results.title(run)}\nwritten in {given.out}: {', '.join(written)}")


if __name__ == "__main__":
    main()
