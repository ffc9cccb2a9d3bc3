"""Rows in strata: several devices share the batches, and no row leaves its device.

A gather by an order of all rows would move each batch to every device, all of which
would then compute all of it. So the rows lie in a fixed number of strata, each on one
device as a whole and shuffled within itself, and a batch takes as many rows from each.
The number of strata decides on the batches, and that of devices does not.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from funcgrad.arguments import Array
from funcgrad.errors import InputError
from funcgrad.permutation import permutation


@partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["counts"])
@dataclass(frozen=True)
class Strata:
    """Rows in strata, of which every batch takes as many, as `devices.rows` lays them.

    Each stratum is on one device as a whole, and shuffled within itself, so that no row
    of a batch leaves its device. Where the rows do not fill all strata alike, the
    places left at their ends hold copies of rows, which count for nothing: batches
    never have them, and where a step sees all rows they have the weight 0.

    rows: a pytree whose leaves have the shape (strata, places, ...).
    counts: how many places of each stratum are rows.
    """

    rows: Any
    counts: tuple[int, ...]

    @property
    def places(self) -> int:
        """The places of a stratum."""
        return jax.tree.leaves(self.rows)[0].shape[1]

    def all_rows(self) -> Any:
        """Return the batch of all rows; weights leave out what is none."""
        batch = jax.tree.map(_joined, self.rows)
        if set(self.counts) == {self.places}:
            return batch
        # Made here, and not kept with the rows, it is known when the program is
        # compiled: its sum costs no message between the devices.
        is_row = _joined(jnp.arange(self.places) < jnp.array(self.counts)[:, None])
        kind = type(batch).__name__
        if isinstance(batch, (tuple, list)):
            kind = f"{kind} of {len(batch)}"
            if len(batch) == 2:
                return *batch, is_row.astype(jnp.float32)
            if len(batch) == 3 and hasattr(batch[2], "ndim"):
                x, target, weights = batch
                is_row = is_row.reshape(-1, *[1] * (weights.ndim - 1))
                return x, target, jnp.where(is_row, weights, 0)
        raise InputError(
            f"of {sum(self.counts)} rows need weights, as they do not fill "
            f"{len(self.counts)} strata alike, got {kind}: pass (x, target) or (x, "
            f"target, weights), a batch_size, or a multiple of {len(self.counts)} rows",
            "data",
        )

    def take(self, places: Array) -> Any:
        """Return the batch of these places of each stratum, (strata, n)."""
        chosen = jax.vmap(lambda rows, places: rows[places])
        return jax.tree.map(lambda leaf: _joined(chosen(leaf, places)), self.rows)


def _joined(leaf: jax.Array) -> jax.Array:
    return leaf.reshape(-1, *leaf.shape[2:])


class ShuffleWithin(NamedTuple):
    """The order of the rows in each stratum and epoch, cut into batches.

    Rows that do not fill a batch sit that epoch out. `counts` are those of `Strata`.
    """

    key: jax.Array
    counts: tuple[int, ...]
    places: int
    batch_size: int

    @property
    def per_epoch(self) -> int:
        """The number of batches, and so of steps, in an epoch."""
        return min(self.counts) * len(self.counts) // self.batch_size

    def order(self, epoch: jax.Array) -> jax.Array:
        """Return which places each batch holds, (per_epoch, strata, of a stratum)."""
        epoch_key, strata = jax.random.fold_in(self.key, epoch), len(self.counts)
        are_alike = set(self.counts) == {self.places}

        def of_stratum(stratum: jax.Array, count: jax.Array) -> jax.Array:
            key = jax.random.fold_in(epoch_key, stratum)
            return permutation(key, self.places, None if are_alike else count)

        order = jax.vmap(of_stratum)(jnp.arange(strata), jnp.array(self.counts))
        each = self.batch_size // strata
        used = order[:, : self.per_epoch * each].reshape(strata, self.per_epoch, each)
        return jnp.moveaxis(used, 1, 0)
