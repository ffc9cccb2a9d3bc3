"""How good parameters are on rows that training does not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jax

from funcgrad.batches import count_rows
from funcgrad.model import Params

# More are scored in parts, so that memory is bounded.
MOST_ROWS = 4096

Metric = Callable[[Params, Any], jax.Array]
"""f(params, rows) -> scalar."""


def scores(
    metrics: Mapping[str, Metric], params: Params, rows: Any
) -> dict[str, float]:
    """Return each metric on all rows.

    More than 4,096 rows are scored in parts of so many, whose values are averaged by
    their rows: right for all that is a mean over rows, as losses are.
    """
    total = count_rows(rows)
    sums = dict.fromkeys(metrics, 0.0)
    for start in range(0, total, MOST_ROWS):
        part = jax.tree.map(lambda leaf: leaf[start : start + MOST_ROWS], rows)  # noqa: B023
        for name, metric in metrics.items():
            value = float(_compiled(metric)(params, part))
            sums[name] += value * min(MOST_ROWS, total - start)
    return {name: value / total for name, value in sums.items()}


@lru_cache(maxsize=64)
def _compiled(metric: Metric) -> Callable[..., jax.Array]:
    return jax.jit(metric)
