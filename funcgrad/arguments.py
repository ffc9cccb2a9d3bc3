"""What an argument must be: a whole number, a random key, a function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
"""An array of either library, with its shape and dtype."""


def whole_number(value: Any) -> int | None:
    """Return a whole number of Python's or NumPy's as an int, and None for all else.

    True and False are no numbers here.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    return None


def at_least(least: int, name: str, value: Any) -> int:
    """Return `value` as an int, or say that it is no whole number of that size."""
    number = whole_number(value)
    if number is None or number < least:
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}"
        )
    return number


def check_key(name: str, key: Any) -> None:
    """Raise unless `key` is one random key, typed or raw; `name` asks for it."""
    dtype = getattr(key, "dtype", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if (is_typed and key.ndim == 0) or (dtype == np.uint32 and key.ndim == 1):
        return
    given = repr(key) if dtype is None else f"{dtype} of shape {key.shape}"
    raise ValueError(
        f"{name} needs one random key, got {given}: pass jax.random.key(0)"
    )


def check_function(name: str, f: Any, example: str) -> None:
    """Raise unless `f` can be called."""
    if not callable(f):
        raise ValueError(f"{name} must be a function, such as {example}, got {f!r}")


def check_parameter(name: str, leaf: Any, shape: tuple[int, ...], kind: Any) -> None:
    """Raise unless a parameter has this shape, and numbers of this kind, as floats."""
    given = getattr(leaf, "shape", None)
    if given != shape:
        raise ValueError(
            f"the parameter {name} must be an array of shape {shape}, got "
            f"{type(leaf).__name__ if given is None else given}: pass those that the "
            f"model's own init made"
        )
    if not jnp.issubdtype(leaf.dtype, kind):
        raise ValueError(
            f"the parameter {name} must hold floats, got {leaf.dtype}: convert it, for "
            f"example with .astype(jnp.float32)"
        )


def hashable(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return `f`, wrapped where it has no hash: what is compiled is found by it.

    The wrapped one is equal to itself alone, so that every call compiles anew.
    """
    return f if has_hash(f) else partial(f)


def has_hash(value: Any) -> bool:
    """Return whether `value` can be looked up."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
