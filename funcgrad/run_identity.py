"""What a run is: all that decides its numbers, as short texts that can be compared.

A run goes on as if it had never stopped only where model, objective, optimizer, data,
random key and the versions below are those that it was begun with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

from funcgrad.batches import Drawn, batch_shapes, whole_batch
from funcgrad.checkpoint import checksum
from funcgrad.devices import held_here, over_processes
from funcgrad.jaxprs import inner_programs, is_literal, opened
from funcgrad.model import Objective
from funcgrad.strata import Strata
from funcgrad.training import State
from funcgrad.version import __version__

# Those of JAX's flags that change numbers without a trace in the program.
_FLAGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
)
_ADDRESS = re.compile("0x[0-9a-fA-F]+")


def identity(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    state: State,
    data: Any,
    batch_size: int | None,
    key: jax.Array | None,
) -> dict[str, str]:
    """Return {item: text} for all that decides what a run computes.

    An item stands before those that change with it: versions, platform and flags of
    JAX; `model`, the structure, shapes and dtypes of the parameters; `strata`, how many
    rows each of `Strata` has; `data`, the SHA-256 of structure, shapes, dtypes and
    numbers; `draw`, that of the program which draws `Drawn` data; `batch_size`; `key`;
    `objective`, the SHA-256 of its program with its gradient; `optimizer`, that of its
    update, in which a learning rate is a number, and of the structure of its state.

    `data` is any pytree of arrays, read in full: a second for a gigabyte or two. Names
    of functions that an objective jits are part of its program. The numbers in `state`
    are not looked at, so a learning rate that an optimizer keeps in its state is no
    part of its identity. Nor are the devices: those of a mesh, however many there are,
    and the processes that hold them find the same.
    """
    batch = batch_shapes(data, batch_size, key)
    # Shapes alone: where a program knows of a mesh, it may be another one.
    params, opt_state = jax.tree.map(_shape, (state.params, state.opt_state))
    update = program_digest(optimizer.update, params, opt_state, params)
    return {
        "funcgrad": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "optax": optax.__version__,
        "platform": _platform(state),
        **{flag: str(getattr(jax.config, flag)) for flag in _FLAGS},
        "model": structure_of(params),
        "strata": _strata(data),
        "data": numbers_digest(data),
        **_draws(data, key),
        "batch_size": str(batch_size),
        "key": _key(key),
        "objective": program_digest(jax.value_and_grad(objective), params, batch),
        "optimizer": _sha256(f"{structure_of(opt_state)}\n{update}"),
    }


def _strata(data: Any) -> str:
    return " ".join(map(str, data.counts)) if isinstance(data, Strata) else "None"


def _draws(data: Any, key: jax.Array | None) -> dict[str, str]:
    if not isinstance(data, Drawn):
        return {}

    def drawn(source: Any, key: jax.Array, step: jax.Array) -> Any:
        return whole_batch(replace(data, source=source), key)(step)

    shapes = jax.tree.map(_shape, (data.source, key))
    return {"draw": program_digest(drawn, *shapes, jnp.int32(0))}


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _platform(state: State) -> str:
    leaf = jax.tree.leaves(state)[0]
    if isinstance(leaf, jax.Array):
        return next(iter(leaf.devices())).platform
    return jax.default_backend()


def structure_of(tree: Any) -> str:
    """Return the structure of a tree, with the types and shapes of its leaves."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda t: t, tree))
    shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    return f"{_without_addresses(str(structure))} of {shapes}"


def program_digest(f: Callable[..., Any], *args: Any) -> str:
    """Return the SHA-256 of f's jaxpr as text, and of all the numbers in it."""
    program = jax.make_jaxpr(f)(*args)
    text = program.jaxpr.pretty_print(use_color=False)
    numbers = checksum(("", _on_host(value)) for value in _constants(program, set()))
    return _sha256(f"{_without_addresses(text)}\n{numbers}")


def _constants(program: Any, seen: set[int]) -> Iterator[Any]:
    """Yield what a program closes over, and the literals, which text may cut short."""
    jaxpr, constants = opened(program)
    yield from constants
    if id(jaxpr) in seen:  # one function called many times
        return
    seen.add(id(jaxpr))
    for atoms in (*(eqn.invars for eqn in jaxpr.eqns), jaxpr.outvars):
        yield from (atom.val for atom in atoms if is_literal(atom))
    for eqn in jaxpr.eqns:
        for inner in inner_programs(eqn):
            yield from _constants(inner, seen)


def _key(key: jax.Array | None) -> str:
    if key is None:
        return "None"
    return f"{jax.random.key_impl(key)} {_on_host(key).tolist()}"


def numbers_digest(data: Any) -> str:
    """Return the SHA-256 of the structure and all numbers of a tree."""
    if isinstance(data, Strata):
        return _numbers_of_strata(data)
    leaves, structure = jax.tree.flatten(data)
    name = _without_addresses(str(structure))
    return checksum((name, _on_host(leaf)) for leaf in leaves)


def _numbers_of_strata(data: Strata) -> str:
    """Return what `_numbers` does, from the strata that each process holds."""
    leaves, structure = jax.tree.flatten(data.rows)
    name = _without_addresses(str(structure))
    here = [held_here(leaf) for leaf in leaves]
    each = [
        checksum((name, leaf[stratum]) for leaf in here)
        for stratum in range(len(here[0]))
    ]
    numbers = np.array([list(bytes.fromhex(text)) for text in each], np.uint8)
    return _sha256(over_processes(numbers).tobytes().hex())


def _on_host(leaf: Any) -> np.ndarray:
    """Return a leaf as NumPy's; on a CPU nothing is copied."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _without_addresses(text: str) -> str:
    """Return `text` without where objects lie in memory, which each process decides."""
    return _ADDRESS.sub("0x", text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
