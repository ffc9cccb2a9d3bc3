"""Where arrays lie: on one device, or over a mesh of them, on one host or on many.

JAX's own machinery moves the numbers. Rows lie over the devices, parameters on each of
them, and a compiled step then adds the gradients up; or parameters lie over the devices
too, where one cannot hold them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from funcgrad.arguments import at_least
from funcgrad.batches import Drawn, check_arrays, count_rows
from funcgrad.errors import InputError
from funcgrad.strata import Strata

Placement = tuple[Any, tuple[Any, ...]] | None
"""A tree and its leaves, as `pinned` returns them."""

# Devices to the number of 1, 2, 4 and 8 hold as many of them each.
_STRATA = 8
# A smaller leaf costs more to gather than to keep: 64 KB of float32.
_FEWEST_NUMBERS_OVER_DEVICES = 16_384


def data_mesh(n: int | None = None) -> Mesh:
    """Return the mesh of the first `n` devices, or of all, along an axis "data".

    Those of all processes count. Its axis is an Auto one: the compiler decides how what
    is computed from placed arrays is placed.
    """
    devices = jax.devices()
    number = len(devices) if n is None else at_least(1, "n", n)
    several = jax.process_count() > 1
    if number > len(devices) or (several and number < len(devices)):
        raise InputError(
            f"must be {'' if several else 'at most '}the {len(devices)} devices that "
            f"JAX sees{' in all processes' if several else ''}, got {number}: leave it "
            f"out to take all; JAX_NUM_CPU_DEVICES={number} makes as many of a CPU",
            "n",
        )
    return Mesh(np.array(devices[:number]), ("data",), axis_types=(AxisType.Auto,))


def rows(mesh: Mesh, local: Any, *, strata: int | None = None) -> Strata:
    """Return the rows that all processes hold, over the devices of `mesh`.

    `local` is any pytree of arrays whose leaves share a leading axis of rows, those of
    this process: all there are, where there is one; `own_rows` cuts its own from all.
    The result is data for `train`, `fit` and `watch`, and for `train_many` where there
    is one process.

    The rows keep their order in 8 strata, `np.array_split(local, 8)` on one process, as
    many on each device. With a `batch_size`, a multiple of that, a batch has as many
    rows of each. So it is the same run on 1, 2, 4 and 8 devices; on others the number
    of strata is the least common multiple of 8 and theirs, and a run that is to go on
    elsewhere needs the same `strata` there, any multiple of both numbers of devices.

    Where the rows do not fill all strata alike, none is left out: a step that sees all
    rows takes their mean or sum by weights that are 0 for what fills up, so `local`
    must be (x, target) or (x, target, weights), and the objective is given (x, target,
    weights) as by `funcgrad.objective`. In batches each row has its turn, and sits an
    epoch out where it fills none, as without a mesh.
    """
    check_mesh(mesh)
    check_arrays("data", local)
    here, total = _strata_here(mesh, strata)
    count = count_rows(local)
    own = np.full(here, count // here) + (np.arange(here) < count % here)
    counts = over_processes(own)
    places = int(counts.max())
    # What fills a stratum up is its last row: a number that every loss can take.
    last = np.cumsum(own) - 1
    first = last + 1 - own
    chosen = np.clip(
        first[:, None] + np.arange(places), 0, np.maximum(last, 0)[:, None]
    )
    over_devices = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def place(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        leaf = leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
        shape = (total, places, *leaf.shape[1:])
        return jax.make_array_from_process_local_data(over_devices, leaf[chosen], shape)

    return Strata(jax.tree.map(place, local), tuple(counts.tolist()))


def own_rows(mesh: Mesh, data: Any, *, strata: int | None = None) -> Any:
    """Return those of all rows that this process is to hold, for `rows`.

    Every process has all of `data`, as where each reads the same file. The run is then
    the same for any number of processes.
    """
    here, total = _strata_here(mesh, strata)
    count = count_rows(data)
    ends = np.cumsum(
        np.full(total, count // total) + (np.arange(total) < count % total)
    )
    first = jax.process_index() * here
    own = slice(ends[first - 1] if first else 0, ends[first + here - 1])
    return jax.tree.map(lambda leaf: leaf[own], data)


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Return `tree` with all of each leaf on every device of `mesh`.

    Every process has the same `tree`.
    """
    check_mesh(mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: _placed(leaf, everywhere), tree)


def shard(mesh: Mesh, tree: Any) -> Any:
    """Return `tree` with each large leaf cut over the devices of `mesh`.

    For parameters and optimizer state that outgrow one device: `shard(mesh,
    init_state(params, optimizer))`. A leaf of 16,384 numbers or more is cut along the
    longest of its axes that the number of devices divides; all others are on every
    device. Nothing else changes: the compiled step moves what it needs.
    """
    check_mesh(mesh)

    def place(leaf: Any) -> jax.Array:
        shape = jnp.shape(leaf)
        axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
        spec = PartitionSpec()
        if axes and math.prod(shape) >= _FEWEST_NUMBERS_OVER_DEVICES:
            longest = max(axes, key=lambda axis: (shape[axis], axis))
            spec = PartitionSpec(*[None] * longest, mesh.axis_names)
        return _placed(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, tree)


def on_mesh(mesh: Mesh | None, state: Any, data: Any) -> tuple[Any, Any]:
    """Return a run's state and data on `mesh`, or on that of data that is on one.

    Leaves of the state that are on a mesh stay where they are; all others are
    replicated, and so is what data is drawn from. Without a mesh nothing is touched.
    """
    mesh = mesh_of(data) if mesh is None else mesh
    if mesh is None:
        return state, data
    if isinstance(data, Strata):
        pass
    elif isinstance(data, Drawn):
        data = replicate(mesh, data)
    else:
        data = rows(mesh, data)

    state = jax.tree.map(
        lambda leaf: replicate(mesh, leaf) if mesh_of(leaf) is None else leaf, state
    )
    return state, data


def mesh_of(tree: Any) -> Mesh | None:
    """Return the mesh that the first such leaf is on, None if none is on any."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
            return sharding.mesh
    return None


def beside(mesh: Mesh | None, tree: Any) -> Any:
    """Return `tree` on every device of `mesh`, if there is one."""
    return tree if mesh is None else replicate(mesh, tree)


def pinned(mesh: Mesh | None, state: Any) -> Placement:
    """Return the tree and leaves of where `state` lies, and of a number on all devices.

    A step leaves (state, loss) there if it is told so; None if there is no mesh.
    """
    if mesh is None:
        return None
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    leaves, tree = jax.tree.flatten((places, NamedSharding(mesh, PartitionSpec())))
    return tree, tuple(leaves)


def check_mesh(mesh: Any) -> None:
    """Raise unless `mesh` is one whose axes are all Auto."""
    if not isinstance(mesh, Mesh):
        given = type(mesh).__name__
    elif set(mesh.axis_types) != {AxisType.Auto}:
        given = f"one of axes {', '.join(str(kind) for kind in mesh.axis_types)}"
    else:
        return
    raise InputError(
        f"must be a mesh whose axes are Auto, got {given}: make it with data_mesh(), "
        f"or with axis_types=(jax.sharding.AxisType.Auto,)",
        "mesh",
    )


def check_whole(name: str, tree: Any) -> None:
    """Raise where a leaf lies on other processes too."""
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.core.Tracer) and not leaf.is_fully_addressable:
            raise InputError(
                f"must be whole on every process, which trains some of the members on "
                f"all rows, got arrays that lie on {jax.process_count()} processes: "
                f"pass them as they were before rows(), replicate() or shard()",
                name,
            )


def over_processes(array: np.ndarray) -> np.ndarray:
    """Return the arrays of all processes, of one shape, joined along the first axis."""
    if jax.process_count() == 1:
        return array
    # Here, as most runs never need what takes long to import.
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def held_here(array: jax.Array) -> np.ndarray:
    """Return those entries along the first axis that this process holds."""
    if array.is_fully_addressable:
        return np.asarray(array)
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def own_part(mesh: Mesh, tree: Any, n: int) -> Any:
    """Return those of `n` entries along each leaf's first axis that are this process's.

    All processes have as many: the last entry is there again where they do not fill the
    last part, as arrays of other sizes cannot be gathered.
    """
    check_mesh(mesh)
    each = -(-n // jax.process_count())
    first = jax.process_index() * each
    chosen = np.minimum(np.arange(first, first + each), n - 1)
    return jax.tree.map(lambda leaf: leaf[chosen], tree)


def in_words(mesh: Mesh) -> str:
    """Return the axes of `mesh`, and its devices by their numbers, in order."""
    return (
        f"{dict(mesh.shape)} of devices {[device.id for device in mesh.devices.flat]}"
    )


def own_devices(mesh: Mesh) -> list[Any]:
    """Return the devices of `mesh` that are this process's."""
    own = jax.process_index()
    return [device for device in mesh.devices.flat if device.process_index == own]


def _strata_here(mesh: Mesh, strata: int | None) -> tuple[int, int]:
    """Return how many strata this process holds, and how many there are."""
    total = math.lcm(_STRATA, mesh.size) if strata is None else strata
    if at_least(1, "strata", total) % mesh.size:
        raise InputError(
            f"must be a multiple of the {mesh.size} devices of the mesh, got {strata}: "
            f"pass {math.lcm(total, mesh.size)}, wherever the run is to go on",
            "strata",
        )
    return total * len(own_devices(mesh)) // mesh.size, total


def _placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Return a leaf that all processes have, with this sharding."""
    is_global = not getattr(leaf, "is_fully_addressable", True)
    if sharding.is_fully_addressable or is_global:
        return jax.device_put(leaf, sharding)
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _placed(
            jax.random.key_data(leaf), NamedSharding(sharding.mesh, PartitionSpec())
        )
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
