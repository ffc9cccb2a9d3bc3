"""What JAX says of its programs, read alike under every version that is supported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def opened(program: Any) -> tuple[Any, Sequence[Any]]:
    """Return a jaxpr, closed or not, and the constants it closes over."""
    jaxpr = getattr(program, "jaxpr", program)
    return jaxpr, getattr(program, "consts", ()) or ()


def is_literal(atom: Any) -> bool:
    """Tell whether what an equation reads is a number that stands in the program."""
    return hasattr(atom, "val")


def inner_programs(eqn: Any) -> list[Any]:
    """Return the jaxprs that an equation's parameters hold."""
    found = []
    for value in eqn.params.values():
        several = value if isinstance(value, (tuple, list)) else (value,)
        found += [x for x in several if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
    return found


def dot_dimensions(eqn: Any) -> Any:
    """Return ((summed of a, of b), (batch of a, of b)): the axes of a dot of a and b.

    A `product`, which `fast.product` makes, is a dot of two matrices.
    """
    return eqn.params.get("dimension_numbers", (((1,), (0,)), ((), ())))


def work(eqn: Any) -> tuple[float, float]:
    """Return how many scalars an equation makes, and how many terms it multiplies."""
    made = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
    if eqn.primitive.name in ("dot_general", "product"):
        (summed, _), _ = dot_dimensions(eqn)
        shape = eqn.invars[0].aval.shape
        return made, made * math.prod(shape[i] for i in summed)
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        out = eqn.params["dimension_numbers"].rhs_spec[0]
        return made, made * math.prod(n for i, n in enumerate(kernel) if i != out)
    return made, 0.0


def count(program: Any) -> tuple[float, float]:
    """Return how many scalars a program makes, and how many terms it multiplies.

    Loops count as often as they run; a `while` loop counts once, since nobody knows.
    What a scatter holds is how two numbers meet, and no work.
    """
    jaxpr, _ = opened(program)
    scalars = terms = 0.0
    for eqn in jaxpr.eqns:
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        inner = [count(sub) for sub in inner_programs(eqn)]
        made, multiplied = work(eqn)
        scalars += max(times * sum(s for s, _ in inner), made)
        terms += times * sum(t for _, t in inner) + multiplied
    return scalars, terms


def result_dtype(eqn: Any) -> Any:
    """Return the type of the first result of an equation."""
    return eqn.outvars[0].aval.dtype


def is_float(aval: Any) -> bool:
    """Tell whether what an abstract value stands for are floats."""
    return bool(jnp.issubdtype(getattr(aval, "dtype", np.bool_), jnp.floating))


def is_float_array(aval: Any) -> bool:
    """Tell whether what an abstract value stands for are floats with axes."""
    return bool(getattr(aval, "shape", ())) and is_float(aval)


def is_complex(aval: Any) -> bool:
    """Tell whether what an abstract value stands for are complex numbers."""
    return bool(jnp.issubdtype(getattr(aval, "dtype", np.bool_), jnp.complexfloating))


def has_while(program: Any) -> bool:
    """Tell whether a program has a loop whose turns nobody knows before it runs."""
    jaxpr, _ = opened(program)
    return any(
        eqn.primitive.name == "while" or any(map(has_while, inner_programs(eqn)))
        for eqn in jaxpr.eqns
    )


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many operands of a scan are constants and how many are carried.

    The rest are the rows it runs over. A version of JAX that says it otherwise gets
    None, and the caller does without; a test shows when that happens.
    """
    if "num_consts" in params:  # JAX 0.9
        return params["num_consts"], params["num_carry"]
    if "ft_in" in params:  # JAX 0.12
        constants, carried, _ = params["ft_in"].unpack()
        return len(constants), len(carried)
    return None
