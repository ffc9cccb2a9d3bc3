"""The line that `funcgrad train` prints before it trains: the gradient, proven."""

import math
from typing import Any

import jax
import numpy as np

from funcgrad.model import Objective
from funcgrad.testing import check_gradients
from funcgrad.testing.size import rows_that_fit

# What the proof may take besides tracing, lest it be the longest part of a short run.
SECONDS = 0.2


def gradient_line(
    objective: Objective, params: Any, batch: tuple[np.ndarray, np.ndarray]
) -> str:
    """Prove `jax.grad(objective)` on as many rows of `batch` as take a moment.

    Returns one line with the figure, or the whole report if the verdict is not ok.
    """
    rows, seconds_for_one = rows_that_fit(objective, params, batch, SECONDS)
    if not rows:
        return (
            f"gradients: not proven, as one row would take about "
            f"{seconds_for_one:,.0f} s: funcgrad.testing.check_gradients can be asked"
        )
    report = check_gradients(objective, params, jax.tree.map(lambda a: a[:rows], batch))
    if not report.ok:
        return str(report)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    # Ulps alone would alarm: terms that cancel leave a tiny truth, with tiny ulps.
    shares = [leaf.ulps / leaf.bound for leaf in report.leaves if leaf.ulps]
    rounding = f"rounding at most {max(shares, default=0.0):.2%} of its bound"
    if any(math.isinf(leaf.bound) for leaf in report.leaves):
        rounding = "rounding without a bound, as a path is in doubt"
    return (
        f"gradients: all {count:,} proven on {rows:,} of {len(batch[0]):,} rows: rules "
        f"exact, {rounding}"
    )
