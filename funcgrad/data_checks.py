"""One look at the data before a run is compiled, on the host and at all rows.

Inside a compiled run a value cannot be looked at: labels that no loss is made for, such
as 0 and 1 for the hinge, would be trained on in silence. What is looked for is told by
the objective itself: it is traced once, on shapes alone, and each loss of funcgrad
notes which values it cannot take. Only labels that reach a loss as they are in the
data are known again; what an objective makes of them first, or hands to a vmap or a
jit of its own, is its own affair.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.batches import Drawn
from funcgrad.losses import ValueCheck, noted_checks
from funcgrad.model import Objective, Params


def check_data(
    objective: Objective, params: Params, data: Any, batch: Any, name: str = "data"
) -> None:
    """Raise where a value in `data` is not finite, or none that a loss can take.

    `params` and `batch` say by shapes what the objective is given. Leaves that are
    traced, or partly on other hosts, are passed over, and so are the labels of
    `Drawn` data. The look costs a trace of the objective, once for each of its shapes,
    and one pass over each leaf that has a rule.
    """
    leaves = jax.tree_util.tree_leaves_with_path(data)
    (params_leaves, params_tree), (batch_leaves, tree) = (
        jax.tree.flatten(jax.tree.map(_shape, given)) for given in (params, batch)
    )
    checks = _checks(
        objective, params_tree, tuple(params_leaves), tree, tuple(batch_leaves)
    )
    for number, check in () if isinstance(data, Drawn) else checks:
        # The weights of rows in strata are made on the way.
        if number < len(leaves) and _can_be_read(leaves[number][1]):
            check(leaves[number][1])
    for path, leaf in leaves:
        if _can_be_read(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact):
            _check_finite(f"{name}{jax.tree_util.keystr(path)}", leaf)


@lru_cache(maxsize=64)
def _checks(
    objective: Objective,
    params_tree: Any,
    params_leaves: tuple[jax.ShapeDtypeStruct, ...],
    tree: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
) -> list[tuple[int, ValueCheck]]:
    """Return (number of a leaf of the data, what its values must pass) pairs."""
    found: list[tuple[int, ValueCheck]] = []
    if isinstance(objective, jax.stages.Wrapped):  # jit hides the leaves behind others
        objective = getattr(objective, "__wrapped__", objective)

    def traced(params: Params, batch: Any) -> jax.Array:
        with noted_checks() as noted:
            loss = objective(params, batch)
        found.extend(
            (number, check)
            for values, check in noted
            for number, leaf in enumerate(jax.tree.leaves(batch))
            if leaf is values
        )
        return loss

    jax.eval_shape(
        traced,
        jax.tree.unflatten(params_tree, params_leaves),
        jax.tree.unflatten(tree, leaves),
    )
    return found


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return jax.ShapeDtypeStruct(jnp.shape(leaf), dtype)


def _can_be_read(leaf: Any) -> bool:
    return not isinstance(leaf, jax.core.Tracer) and leaf.is_fully_addressable


def _check_finite(name: str, leaf: jax.Array) -> None:
    """Raise where an entry is NaN or infinite; on a CPU nothing is copied."""
    on_cpu = all(device.platform == "cpu" for device in leaf.devices())
    values: Any = np.asarray(leaf) if on_cpu else leaf
    fine = np.isfinite(values) if on_cpu else jnp.isfinite(values)
    if not fine.all():
        where = tuple(np.argwhere(~np.asarray(fine))[0].tolist())
        raise ValueError(
            f"data must be finite, got {values[where]} at {name}{list(where)}: leave "
            f"such rows out, or put a number there and mark in another leaf of the "
            f"data what counts, as a slope through NaN is NaN even where it is masked"
        )
