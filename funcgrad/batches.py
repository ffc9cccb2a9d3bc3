"""What a step sees: a function of (key, step) alone.

`data` is any pytree whose leaves share a leading axis of rows, and a batch is the same
pytree with fewer rows. Nothing here looks inside either. Or data is `Drawn`, and a
batch is whatever was drawn; or it is `Strata`, of which each device holds some.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from funcgrad.arguments import check_key, whole_number
from funcgrad.errors import InputError
from funcgrad.model import Params
from funcgrad.permutation import permutation
from funcgrad.strata import ShuffleWithin, Strata

_MOST_SHAPES_TOLD = 8


@partial(jax.tree_util.register_dataclass, data_fields=["source"], meta_fields=["draw"])
@dataclass(frozen=True)
class Drawn:
    """Data of which each step draws its own batch, in place of rows.

    draw: `draw(key, source) -> batch`, pure; step s gets the key `fold_in(key, s)` of
        the run's. It is traced into the run.
    source: any pytree of arrays to draw from, such as rows to augment. It travels as an
        argument: it is neither copied nor a constant of what is compiled.

    >>> import jax, funcgrad as fg
    >>> def draw(key, limit):
    ...     x = jax.random.uniform(key, (32, 1), maxval=limit)
    ...     return x, jnp.sin(x)
    >>> endless = fg.Drawn(draw, jnp.float32(6.0))
    """

    draw: Callable[[jax.Array, Any], Any]
    source: Any


class Shuffle(NamedTuple):
    """The order of the rows in each epoch, cut into batches.

    Rows that do not fill a batch sit that epoch out.
    """

    key: jax.Array
    rows: int
    batch_size: int

    @property
    def per_epoch(self) -> int:
        """The number of batches, and so of steps, in an epoch."""
        return self.rows // self.batch_size

    def order(self, epoch: jax.Array) -> jax.Array:
        """Return which rows each batch of the epoch holds, (per_epoch, batch_size)."""
        order = permutation(jax.random.fold_in(self.key, epoch), self.rows)
        used = order[: self.per_epoch * self.batch_size]
        return used.reshape(self.per_epoch, self.batch_size)


def whole_batch(data: Any, key: jax.Array | None) -> Callable[[jax.Array], Any]:
    """Return f(step) -> batch where there is no `batch_size`: all rows, or a draw."""
    if isinstance(data, Strata):
        batch = data.all_rows()
        return lambda step: batch
    if not isinstance(data, Drawn):
        return lambda step: data
    if key is None:
        raise ValueError(
            "data that is drawn needs a key, got none: pass key=jax.random.key(0)"
        )
    check_key("data that is drawn", key)
    return lambda step: _drawn_over_devices(
        data.draw(jax.random.fold_in(key, step), data.source), (key, data.source)
    )


def _drawn_over_devices(batch: Any, source: Any) -> Any:
    """Return the batch, of whose rows each device draws its own.

    The devices are those of the mesh that the source is on, if it is on one.
    """
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(source)]
    mesh = next((mesh for mesh in meshes if not mesh.empty), None)
    if mesh is None:
        return batch
    over_devices = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def cut(leaf: jax.Array) -> jax.Array:
        if leaf.ndim == 0 or leaf.shape[0] % mesh.size:
            return leaf
        return lax.with_sharding_constraint(leaf, over_devices)

    return jax.tree.map(cut, batch)


def shuffle(
    data: Any, batch_size: int, key: jax.Array | None
) -> Shuffle | ShuffleWithin:
    """Return the order of the rows, or say what is wrong with the arguments."""
    if isinstance(data, Drawn):
        raise ValueError(
            f"data that is drawn comes in batches of its own, got batch_size="
            f"{batch_size!r} too: leave it out"
        )
    rows = count_rows(data)
    if isinstance(data, Strata):
        rows = min(data.counts) * len(data.counts)
    size = whole_number(batch_size)
    if size is None or not 1 <= size <= rows:
        raise ValueError(
            f"batch_size must be a whole number from 1 to the {rows} rows of the data, "
            f"got {batch_size!r}"
        )
    if key is None:
        raise ValueError(
            "batch_size needs a key to shuffle by, got none: pass key=jax.random.key(0)"
        )
    check_key("batch_size", key)
    if not isinstance(data, Strata):
        return Shuffle(key, rows, size)
    strata = len(data.counts)
    if size % strata:
        raise InputError(
            f"must be a multiple of the {strata} strata that the rows lie in, got "
            f"{size}: pass {max(1, size // strata) * strata}",
            "batch_size",
        )
    return ShuffleWithin(key, data.counts, data.places, size)


def take(data: Any, rows: jax.Array | np.ndarray) -> Any:
    """Return the batch of these rows, or of these places of each stratum."""
    if isinstance(data, Strata):
        return data.take(rows)
    return jax.tree.map(lambda leaf: leaf[rows], data)


def batch_shapes(data: Any, batch_size: int | None, key: jax.Array | None) -> Any:
    """Return the shapes of what a step sees, or say what is wrong."""
    if batch_size is not None:
        rows = shuffle(data, batch_size, key).batch_size
    elif isinstance(data, Drawn):
        see = whole_batch(data, key)
        return jax.eval_shape(lambda: see(jnp.int32(0)))
    elif isinstance(data, Strata):
        return jax.eval_shape(Strata.all_rows, data)
    else:
        rows = count_rows(data)
    tree, row_axes = (data.rows, 2) if isinstance(data, Strata) else (data, 1)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[row_axes:]), leaf.dtype),
        tree,
    )


def batch_rows(batch: Any) -> int:
    """Return how many rows a batch has; what was drawn may differ from leaf to leaf."""
    return max(
        (leaf.shape[0] for leaf in jax.tree.leaves(batch) if leaf.ndim), default=1
    )


def work_of_a_step(params: Params, batch: Any) -> int:
    """Return a measure of it: the numbers in `params`, times the rows of the batch."""
    return batch_rows(batch) * sum(leaf.size for leaf in jax.tree.leaves(params))


def as_arrays(name: str, tree: Any) -> Any:
    """Return `tree` with arrays of JAX's as leaves, or say which leaf is none.

    A list is a tree of its entries, as everywhere in JAX: one of numbers would be data
    of as many leaves without rows.
    """
    check_arrays(name, tree)
    return jax.tree.map(jnp.asarray, tree)


def check_arrays(name: str, tree: Any) -> None:
    """Raise where a leaf is no array of numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        where = f"{name}{jax.tree_util.keystr(path)}"
        kind = getattr(getattr(leaf, "dtype", None), "kind", "V")
        if isinstance(leaf, (bool, int, float, complex, np.generic)):
            raise ValueError(
                f"{name} needs arrays, got the number {leaf!r} at {where}: make an "
                f"array of each list of numbers, with jnp.asarray"
            )
        if isinstance(leaf, (str, bytes)) or kind in "OSUMm":
            raise ValueError(
                f"{name} needs arrays of numbers, got "
                f"{getattr(leaf, 'dtype', type(leaf).__name__)} at {where}: leave it "
                f"out, or turn it into numbers first"
            )


def count_rows(data: Any) -> int:
    """Return how many rows the data has, or say which leaf differs."""
    if isinstance(data, Strata):
        return sum(data.counts)
    return count("rows", "data", data)


def count(what: str, name: str, tree: Any) -> int:
    """Return how many `what` all leaves share, or say which leaf differs."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    counts = {leaf.shape[0] if leaf.shape else 0 for _, leaf in leaves}
    if len(counts) != 1 or 0 in counts:
        told = leaves[:_MOST_SHAPES_TOLD]
        shapes = {jax.tree_util.keystr(path): leaf.shape for path, leaf in told}
        more = len(leaves) - len(told)
        raise ValueError(
            f"{name} needs arrays with the same number of {what}, at least one, along "
            f"their first axis, got shapes {shapes}"
            f"{f' and {more} more' if more else ''}"
        )
    return counts.pop()
