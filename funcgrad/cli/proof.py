"""What `funcgrad train` does before it trains: the gradient, proven."""

import math
from typing import Any, NamedTuple

import jax

from funcgrad.model import Objective
from funcgrad.testing.check import judged
from funcgrad.testing.program import trace
from funcgrad.testing.size import EXACT, FIELDS, rows_that_fit

# What the proof may take besides tracing, lest it be the longest part of a short run:
# with exact numbers, and in finite fields where those cannot take all rows.
EXACT_SECONDS, SECONDS = 0.2, 1.0


class Proof(NamedTuple):
    """What the proof of a gradient has found.

    verdict: the report's, "ok" or what is wrong; None where one row takes too long.
    proven, rows, batch_rows: parameters, the rows that it was done on, and all of them.
    miss: how probably a wrong rule passes; 0 where all numbers were exact.
    rounding: the worst, as a share of its bound; infinite where a path is in doubt, and
        NaN where nothing is proven.
    text: all of it in a line, and the whole report if the verdict is not ok.
    """

    verdict: str | None
    proven: int
    rows: int
    batch_rows: int
    miss: float
    rounding: float
    text: str


def prove(objective: Objective, params: Any, batch: Any) -> Proof:
    """Prove `jax.grad(objective)` on all rows, or as many as take a second.

    `batch` is any pytree of arrays that have its rows first.
    """
    batch_rows = len(jax.tree.leaves(batch)[0])
    limits = (EXACT, EXACT_SECONDS), (FIELDS, SECONDS)
    (rows, _), in_fields = rows_that_fit(objective, params, batch, *limits)
    exactly = rows == batch_rows
    if not exactly:
        rows, seconds_for_one = in_fields
    if not rows:
        text = (
            f"gradients: not proven, as one row would take about "
            f"{seconds_for_one:,.0f} s: funcgrad.testing.check_gradients can be asked"
        )
        return Proof(None, 0, 0, batch_rows, 1.0, math.nan, text)
    part = jax.tree.map(lambda a: a[:rows], batch)
    program = trace(objective, (params, part), 0, None, None)
    report = judged(program, given=False, exactly=exactly)
    miss = report.miss
    if not report.ok:
        return Proof(report.verdict, 0, rows, batch_rows, miss, math.nan, str(report))
    # Ulps alone would alarm: terms that cancel leave a tiny truth, with tiny ulps.
    shares = [leaf.ulps / leaf.bound for leaf in report.leaves if leaf.ulps]
    share = max(shares, default=0.0)
    rounding = f"rounding at most {100 * share:.2g}% of its bound"
    if any(math.isinf(leaf.bound) for leaf in report.leaves):
        share = math.inf
        rounding = "rounding without a bound, as a path is in doubt"
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    rules = "rules exact" if miss == 0 else f"rules in finite fields ({_odds(miss)})"
    text = (
        f"gradients: all {count:,} proven on {rows:,} of {batch_rows:,} rows: {rules}, "
        f"{rounding}"
    )
    return Proof(report.verdict, count, rows, batch_rows, miss, share, text)


def _odds(miss: float) -> str:
    return f"a wrong one passes once in 2^{-math.log2(miss):.0f}"
