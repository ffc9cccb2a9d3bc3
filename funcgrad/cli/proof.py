"""What `funcgrad train` does before it trains: the gradient, proven."""

import math
from typing import Any, NamedTuple

import jax

from funcgrad.model import Objective
from funcgrad.testing import check_gradients
from funcgrad.testing.size import rows_that_fit

# What the proof may take besides tracing, lest it be the longest part of a short run.
SECONDS = 0.2


class Proof(NamedTuple):
    """What the proof of a gradient has found.

    verdict: the report's, "ok" or what is wrong; None where one row takes too long.
    proven, rows, batch_rows: parameters, the rows that it was done on, and all of them.
    rounding: the worst, as a share of its bound; infinite where a path is in doubt, and
        NaN where nothing is proven.
    text: all of it in a line, and the whole report if the verdict is not ok.
    """

    verdict: str | None
    proven: int
    rows: int
    batch_rows: int
    rounding: float
    text: str


def prove(
    objective: Objective, params: Any, batch: Any, seconds: float | None = None
) -> Proof:
    """Prove `jax.grad(objective)` on as many rows as take a moment, or so long.

    `batch` is any pytree of arrays that have its rows first.
    """
    batch_rows = len(jax.tree.leaves(batch)[0])
    rows, seconds_for_one = rows_that_fit(
        objective, params, batch, SECONDS if seconds is None else seconds
    )
    if not rows:
        text = (
            f"gradients: not proven, as one row would take about "
            f"{seconds_for_one:,.0f} s: funcgrad.testing.check_gradients can be asked"
        )
        return Proof(None, 0, 0, batch_rows, math.nan, text)
    report = check_gradients(objective, params, jax.tree.map(lambda a: a[:rows], batch))
    if not report.ok:
        return Proof(report.verdict, 0, rows, batch_rows, math.nan, str(report))
    # Ulps alone would alarm: terms that cancel leave a tiny truth, with tiny ulps.
    shares = [leaf.ulps / leaf.bound for leaf in report.leaves if leaf.ulps]
    share = max(shares, default=0.0)
    rounding = f"rounding at most {share:.2%} of its bound"
    if any(math.isinf(leaf.bound) for leaf in report.leaves):
        share = math.inf
        rounding = "rounding without a bound, as a path is in doubt"
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    text = (
        f"gradients: all {count:,} proven on {rows:,} of {batch_rows:,} rows: rules "
        f"exact, {rounding}"
    )
    return Proof(report.verdict, count, rows, batch_rows, share, text)
