"""Integers, booleans and random keys: JAX itself computes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.testing.numbers.objects import Doubtful
from funcgrad.testing.rules.elementwise import COMPARISONS
from funcgrad.testing.rules.positions import FAST_MOVES, MOVES

_NUMPY: dict[str, Callable[..., Any]] = {
    **COMPARISONS,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.bitwise_not,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
}


def native(eqn: Any, inputs: list[Any]) -> list[Any]:
    """Run an equation without real numbers as JAX runs it, keeping track of doubt."""
    plain = [x.value if isinstance(x, Doubtful) else x for x in inputs]
    outputs = run_native(eqn, plain)
    if not any(isinstance(x, Doubtful) for x in inputs):
        return outputs
    shapes = {np.shape(x) for x in plain}
    if eqn.primitive.name in MOVES:
        masks = [
            x.open.astype(np.int32) if isinstance(x, Doubtful) else _no_doubt(x)
            for x in inputs
        ]
        moved = run_native(eqn, masks, integer=True)
        return [
            Doubtful(o, np.asarray(m) != 0) for o, m in zip(outputs, moved, strict=True)
        ]
    if len(outputs) == 1 and {np.shape(outputs[0])} == shapes:
        opens = [x.open for x in inputs if isinstance(x, Doubtful)]
        return [Doubtful(outputs[0], reduce(np.logical_or, opens))]
    return [Doubtful(o, np.ones(np.shape(o), bool)) for o in outputs]


def _no_doubt(x: Any) -> Any:
    return np.zeros(np.shape(x), np.int32)


def run_native(eqn: Any, inputs: list[Any], *, integer: bool = False) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in _NUMPY and all(_is_whole(x) for x in inputs):
        return [np.asarray(_NUMPY[name](*inputs))]
    if name in FAST_MOVES and all(isinstance(x, np.ndarray) for x in inputs):
        out = FAST_MOVES[name](eqn, *inputs)
        return out if isinstance(out, list) else [out]
    if integer and "fill_value" in params:
        params = {**params, "fill_value": -1}
    out = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(params))
    out = out if eqn.primitive.multiple_results else [out]
    return [x if is_key(x) else np.asarray(x) for x in out]


def _is_whole(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "biu"


def is_key(x: Any) -> bool:
    """Tell whether x is an array of random keys."""
    dtype = getattr(x, "dtype", np.bool_)
    return bool(jnp.issubdtype(dtype, jax.dtypes.extended))
