"""A vmap with the mapped axis last: a CPU's vector lanes run over the members.

`jax.vmap` puts the mapped axis first. A tiny net's own axes are then the innermost, 1
to 4 numbers long, and a vector register of 8 or 16 stays half empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from funcgrad.fast.product import multiply_then_sum
from funcgrad.jaxprs import is_literal, scan_counts

# Of these, the output has the shape of the operands, entry by entry.
_NAMES = (
    "abs add add_any and ceil convert_element_type copy cos div eq erf exp exp2 expm1 "
    "floor ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not "
    "or pow rem round rsqrt select_n sign sin sqrt square stop_gradient sub tan "
    "tanh"
)
_ELEMENTWISE = frozenset(_NAMES.split())


class _Value(NamedTuple):
    """An array; if `mapped`, its last axis is that of the members."""

    array: Any
    mapped: bool


def vmap_last(
    f: Callable[..., Any], mapped: Sequence[bool], members: int
) -> Callable[..., Any]:
    """Return f mapped over the last axis of those arguments that are `mapped`.

    All leaves of the result have the members along their last axis. What has no rule
    here goes through `jax.vmap`, so that any function works.
    """

    def g(*arguments: Any) -> Any:
        own = [
            jax.tree.map(lambda a: jnp.asarray(a)[..., 0], a) if m else a
            for a, m in zip(arguments, mapped, strict=True)
        ]
        closed, shape = jax.make_jaxpr(f, return_shape=True)(*own)
        values = [
            _Value(leaf, m)
            for a, m in zip(arguments, mapped, strict=True)
            for leaf in jax.tree.leaves(a)
        ]
        outs = _walk(closed, values, members)
        arrays = [_spread(v, members) for v in outs]
        return jax.tree.unflatten(jax.tree.structure(shape), arrays)

    return g


def _walk(closed: Any, values: Sequence[_Value], members: int) -> list[_Value]:
    """Evaluate a jaxpr on values of which some are mapped."""
    jaxpr = closed.jaxpr
    constants = [_Value(c, False) for c in closed.consts]
    known = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *values], strict=True)
    )
    for equation in jaxpr.eqns:
        given = [
            _Value(v.val, False) if is_literal(v) else known[v] for v in equation.invars
        ]
        outs = _apply(equation, given, members)
        known |= dict(zip(equation.outvars, outs, strict=True))
    return [_Value(v.val, False) if is_literal(v) else known[v] for v in jaxpr.outvars]


def _apply(equation: Any, given: list[_Value], members: int) -> list[_Value]:
    """Evaluate one equation."""
    primitive, params = equation.primitive, equation.params
    name = primitive.name
    arrays = [v.array for v in given]

    def bind(*operands: Any, **changed: Any) -> list[_Value]:
        out = primitive.bind(*operands, **(params | changed))
        return [_Value(o, True) for o in (out if primitive.multiple_results else [out])]

    if name in ("jit", "pjit"):
        return _walk(params["jaxpr"], given, members)
    if name in ("custom_jvp_call", "custom_vjp_call"):  # derivatives are taken before
        return _walk(params["call_jaxpr"], given, members)
    counts = scan_counts(params) if name == "scan" else None
    if counts is not None:  # else jax.vmap below, which is right too but slower
        return _scan(params, counts, given, members)
    if not any(v.mapped for v in given):
        out = primitive.bind(*arrays, **params)
        return [
            _Value(o, False) for o in (out if primitive.multiple_results else [out])
        ]
    if name == "cond" and not given[0].mapped:
        return _cond(params, given, members)
    if name in _ELEMENTWISE:
        shape = equation.outvars[0].aval.shape
        return bind(*(_spread(v, members, shape) for v in given))
    if name in ("reduce_sum", "reduce_max", "reduce_min", "squeeze"):
        return bind(*arrays)  # its axes are counted from the first
    if name == "broadcast_in_dim" and len(arrays) == 1:
        dimensions = (*params["broadcast_dimensions"], len(params["shape"]))
        return bind(
            *arrays,
            shape=(*params["shape"], members),
            broadcast_dimensions=dimensions,
        )
    if name == "reshape" and params["dimensions"] is None and len(arrays) == 1:
        return bind(*arrays, new_sizes=(*params["new_sizes"], members))
    if name == "product":
        return [_Value(multiply_then_sum(*(_spread(v, members) for v in given)), True)]
    if name == "transpose":
        last = len(params["permutation"])
        return bind(*arrays, permutation=(*params["permutation"], last))

    def plain(*operands: Any) -> Any:
        return primitive.bind(*operands, **params)

    axes = tuple(-1 if v.mapped else None for v in given)
    out = jax.vmap(plain, axes, -1, axis_size=members)(*arrays)
    return [_Value(o, True) for o in (out if primitive.multiple_results else [out])]


def _scan(
    params: Any, counts: tuple[int, int], given: list[_Value], members: int
) -> list[_Value]:
    """Scan over the first axis while the members stay last; all that is carried is."""
    constants, carried = counts
    fixed, carry = given[:constants], given[constants : constants + carried]
    xs = given[constants + carried :]

    def body(carry: list[Any], xs_now: list[Any]) -> tuple[list[Any], list[Any]]:
        now = [_Value(c, True) for c in carry]
        rows = [_Value(x, v.mapped) for x, v in zip(xs_now, xs, strict=True)]
        outs = _walk(params["jaxpr"], [*fixed, *now, *rows], members)
        arrays = [_spread(v, members) for v in outs]
        return arrays[:carried], arrays[carried:]

    end, ys = lax.scan(
        body,
        [_spread(v, members) for v in carry],
        [v.array for v in xs],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [_Value(a, True) for a in (*end, *ys)]


def _cond(params: Any, given: list[_Value], members: int) -> list[_Value]:
    """Choose for all members alike; the platform's choice of a form is one such."""
    mapped = [v.mapped for v in given[1:]]

    def branch(closed: Any) -> Callable[..., list[Any]]:
        def run(*arrays: Any) -> list[Any]:
            values = [_Value(a, m) for a, m in zip(arrays, mapped, strict=True)]
            return [_spread(v, members) for v in _walk(closed, values, members)]

        return run

    branches = [branch(closed) for closed in params["branches"]]
    arrays = [v.array for v in given[1:]]
    platforms = params.get("branches_platforms")
    if platforms is None:
        outs = lax.switch(given[0].array, branches, *arrays)
    else:
        pairs = list(zip(platforms, branches, strict=True))
        chosen = {p: b for names, b in pairs for p in names or ()}
        default = branches[platforms.index(None)] if None in platforms else None
        outs = lax.platform_dependent(*arrays, default=default, **chosen)
    return [_Value(o, True) for o in outs]


def _spread(
    value: _Value, members: int, shape: tuple[int, ...] | None = None
) -> jax.Array:
    """Return the array for all members, in `shape` where it has fewer axes."""
    array = jnp.asarray(value.array)
    own = array.shape[:-1] if value.mapped else array.shape
    shape = own if shape is None else shape
    if value.mapped and own == shape:
        return array
    axes = list(range(len(own)))
    if value.mapped:
        axes.append(len(shape))
    return lax.broadcast_in_dim(array, (*shape, members), axes)
