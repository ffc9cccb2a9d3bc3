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
from jax.interpreters.partial_eval import dce_jaxpr

from funcgrad.batches import Drawn
from funcgrad.devices import held_here
from funcgrad.errors import InputError
from funcgrad.losses import ValueCheck, noted_checks
from funcgrad.model import Objective, Params
from funcgrad.strata import Strata


def check_data(
    objective: Objective, params: Params, data: Any, batch: Any, name: str = "data"
) -> None:
    """Raise where a value in `data` is not finite, or none that a loss can take.

    `params` and `batch` say by shapes what the objective is given. Leaves that are
    traced, or partly on other hosts, are passed over, and so are the labels of
    `Drawn` data; of rows in strata each process looks at its own, and names a row by
    its number in what `rows` was given. The look costs a trace of the objective, once
    for each of its shapes, and one pass over each leaf that has a rule.
    """
    check_weights(objective, params, data, batch)
    rows = data.rows if isinstance(data, Strata) else data
    leaves = [
        (f"{name}{jax.tree_util.keystr(path)}", _held(leaf, isinstance(data, Strata)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(rows)
    ]
    (params_leaves, params_tree), (batch_leaves, tree) = (
        jax.tree.flatten(jax.tree.map(_shape, given)) for given in (params, batch)
    )
    checks = _checks(
        objective, params_tree, tuple(params_leaves), tree, tuple(batch_leaves)
    )
    for number, check in () if isinstance(data, Drawn) else checks:
        # The weights of rows in strata are made on the way.
        if number < len(leaves) and leaves[number][1] is not None:
            check(leaves[number][1])
    counts = _counts_held(data) if isinstance(data, Strata) else None
    for where, leaf in leaves:
        if leaf is not None and jnp.issubdtype(leaf.dtype, jnp.inexact):
            _check_finite(where, leaf, counts)


def check_weights(objective: Objective, params: Params, data: Any, batch: Any) -> None:
    """Raise where a batch has weights that `data` has not, and nobody heeds them.

    Those of rows that fill no strata alike: an objective of one's own that leaves them
    out would count some of the rows twice.
    """
    if not isinstance(data, Strata):
        return
    if len(jax.tree.leaves(batch)) == len(jax.tree.leaves(data)):
        return
    params, batch = jax.tree.map(_shape, (params, batch))
    cause: Exception | None = None
    what = "one that leaves them out"
    try:
        program = jax.make_jaxpr(objective)(params, batch).jaxpr
    except Exception as error:
        try:
            jax.eval_shape(objective, params, batch[:2])
        except Exception:
            return  # it has nothing to do with the weights, and is raised in its place
        cause, what = error, f"{type(error).__name__}: {error}"
    else:
        # What a jit, a loop or a branch within it leaves out is found too.
        _, is_used = dce_jaxpr(program, [True] * len(program.outvars))
        if is_used[-1]:
            return
    raise InputError(
        f"must take (x, target, weights), as {sum(data.counts)} rows do not fill "
        f"{len(data.counts)} strata alike, got {what}: weigh each row, or pass a "
        f"batch_size, or a multiple of {len(data.counts)} rows",
        "objective",
    ) from cause


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


def _held(leaf: Any, is_in_strata: bool) -> Any:
    """Return what can be read of a leaf here, None if nothing can."""
    if isinstance(leaf, jax.core.Tracer):
        return None
    if leaf.is_fully_addressable:
        return leaf
    return held_here(leaf) if is_in_strata else None


def _counts_held(data: Strata) -> tuple[int, ...]:
    """Return how many rows each stratum has of those that this process holds."""
    leaf = jax.tree.leaves(data.rows)[0]
    if isinstance(leaf, jax.core.Tracer) or leaf.is_fully_addressable:
        return data.counts
    first = min(shard.index[0].start for shard in leaf.addressable_shards)
    return data.counts[first:]


def _check_finite(name: str, leaf: Any, counts: tuple[int, ...] | None) -> None:
    """Raise where an entry is NaN or infinite; on a CPU nothing is copied."""
    on_cpu = isinstance(leaf, np.ndarray) or all(
        device.platform == "cpu" for device in leaf.devices()
    )
    values: Any = np.asarray(leaf) if on_cpu else leaf
    fine = np.isfinite(values) if on_cpu else jnp.isfinite(values)
    if not fine.all():
        where = tuple(np.argwhere(~np.asarray(fine))[0].tolist())
        value = values[where]
        if counts is not None:
            stratum, place, *rest = where
            where = (sum(counts[:stratum]) + place, *rest)
        raise InputError(
            f"data must be finite, got {value} at {name}{list(where)}: leave "
            f"such rows out, or put a number there and mark in another leaf of the "
            f"data what counts, as a slope through NaN is NaN even where it is masked"
        )
