"""A function and its gradient as programs over flat leaves, with their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Program(NamedTuple):
    """A function and its gradient as jaxprs, with the numbers to run them on.

    `primal` maps (*variables, *constants) to the float outputs of f; `gradient` maps
    the same inputs to the derivatives with respect to the variables, or is None where
    `grad=` cannot be traced; `bound` is the program whose rounding is bounded.
    """

    primal: Any
    gradient: Any
    bound: Any
    variables: list[np.ndarray]
    constants: list[Any]
    cotangents: list[np.ndarray]
    paths: list[str]
    values: list[np.ndarray]


def trace(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    argnums: int | Sequence[int] = 0,
    grad: Callable[..., Any] | None = None,
    cotangents: Any = None,
) -> Program:
    """Trace f and its gradient; see `check_gradients` for the arguments."""
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    if not all(-len(args) <= i < len(args) for i in chosen):
        raise ValueError(
            f"argnums must name some of the {len(args)} arguments, got {argnums}"
        )
    chosen = [i % len(args) for i in chosen]
    given = _Arguments.of(args, chosen)
    if not any(given.varies):
        raise ValueError(
            f"nothing to differentiate: argument {argnums} has no leaf of floats; pass "
            f"floats there, or name another argument with argnums"
        )
    variables, constants = given.variables(), given.constants()

    def float_outputs(variables: list[Any], constants: list[Any]) -> list[Any]:
        out = jax.tree.leaves(f(*given.joined(variables, constants)))
        return [y for y in out if _is_type(y, jnp.inexact)]

    primal = jax.make_jaxpr(float_outputs)(variables, constants)
    shapes: list[Any] = [v.aval for v in primal.jaxpr.outvars]
    if not shapes:
        raise ValueError("f returns no floats, so it has no gradient")
    weights = _cotangents(shapes, cotangents)

    def gradient(variables: list[Any], constants: list[Any]) -> Any:
        _, pull = jax.vjp(lambda v: float_outputs(v, constants), variables)
        return pull(
            [jnp.asarray(w, s.dtype) for w, s in zip(weights, shapes, strict=True)]
        )[0]

    traced = jax.jit(gradient).trace(variables, constants)
    bound: Any = traced.jaxpr
    judged: Any = bound
    if grad is None:
        values = traced.lower().compile()(variables, constants)
    else:
        values, judged = _given_gradient(grad, args, chosen, argnums, given)
        bound = bound if judged is None else judged
    return Program(
        primal=primal,
        gradient=judged,
        bound=bound,
        variables=[_constant(x) for x in variables],
        constants=[_constant(x) for x in constants],
        cotangents=weights,
        paths=[_path(path, len(chosen) > 1) for path in given.paths()],
        values=[np.asarray(x) for x in values],
    )


class _Arguments(NamedTuple):
    """The leaves of f's arguments: variables, constants, and what is no array."""

    leaves: list[tuple[tuple[Any, ...], Any]]
    tree: Any
    varies: list[bool]
    is_array: list[bool]

    @classmethod
    def of(cls, args: tuple[Any, ...], chosen: list[int]) -> _Arguments:
        leaves, tree = jax.tree_util.tree_flatten_with_path(args)
        is_array = [_is_array(x) for _, x in leaves]
        varies = [
            a and path[0].idx in chosen and _is_type(x, jnp.floating)
            for a, (path, x) in zip(is_array, leaves, strict=True)
        ]
        return cls(leaves, tree, varies, is_array)

    def paths(self) -> list[tuple[Any, ...]]:
        """Return the paths of the variables."""
        return [p for (p, _), v in zip(self.leaves, self.varies, strict=True) if v]

    def variables(self) -> list[Any]:
        return [x for (_, x), v in zip(self.leaves, self.varies, strict=True) if v]

    def constants(self) -> list[Any]:
        return [
            x
            for (_, x), v, a in zip(
                self.leaves, self.varies, self.is_array, strict=True
            )
            if a and not v
        ]

    def joined(self, variables: list[Any], constants: list[Any]) -> Any:
        """Return arguments for f that hold these variables and constants."""
        v, c = iter(variables), iter(constants)
        flat = [
            next(v) if varies else next(c) if array else x
            for varies, array, (_, x) in zip(
                self.varies, self.is_array, self.leaves, strict=True
            )
        ]
        return jax.tree.unflatten(self.tree, flat)


def _given_gradient(
    grad: Callable[..., Any],
    args: tuple[Any, ...],
    chosen: list[int],
    argnums: int | Sequence[int],
    given: _Arguments,
) -> tuple[list[Any], Any]:
    """Return the numbers of the caller's gradient, and its jaxpr if there is one."""
    wanted = [jax.tree_util.keystr(path) for path in given.paths()]

    def pick(result: Any) -> list[Any]:
        results = [result] if isinstance(argnums, int) else list(result)
        found = {
            jax.tree_util.keystr((jax.tree_util.SequenceKey(i), *path)): x
            for i, r in zip(chosen, results, strict=True)
            for path, x in jax.tree_util.tree_flatten_with_path(r)[0]
        }
        missing = [path for path in wanted if path not in found]
        if missing:
            raise ValueError(
                f"grad= must return what jax.grad(f, argnums={argnums}) would: there "
                f"is nothing at {missing[0]}"
            )
        for path, leaf in zip(wanted, given.variables(), strict=True):
            if np.shape(found[path]) != np.shape(leaf):
                raise ValueError(
                    f"grad= must return shape {np.shape(leaf)} at {path}, got "
                    f"{np.shape(found[path])}"
                )
        return [found[path] for path in wanted]

    values = pick(grad(*args))

    def traced(variables: list[Any], constants: list[Any]) -> list[Any]:
        return pick(grad(*given.joined(variables, constants)))

    try:
        return values, jax.make_jaxpr(traced)(given.variables(), given.constants())
    except Exception:  # whatever foreign code raises on a tracer: it is no JAX program
        return values, None


def _is_array(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic, bool, int, float))


def _is_type(x: Any, kind: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), kind))


def _constant(x: Any) -> Any:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return x
    return np.asarray(jnp.asarray(x))


def _path(path: tuple[Any, ...], several: bool) -> str:
    inside = jax.tree_util.keystr(path[1:])
    return f"argument {path[0].idx}{inside}" if several or not inside else inside


def _cotangents(shapes: list[Any], given: Any) -> list[np.ndarray]:
    """Return the weights of the outputs: 1 for a scalar function, else integers.

    They are not uniform, since uniform ones hide a missing normalisation, and small
    enough to be exact in every float type.
    """
    if given is not None:
        weights = [np.asarray(w) for w in jax.tree.leaves(given)]
        if [w.shape for w in weights] != [s.shape for s in shapes]:
            raise ValueError(
                f"cotangents must have the shapes of f's outputs, "
                f"{[s.shape for s in shapes]}, got {[w.shape for w in weights]}"
            )
        return [
            np.asarray(w).astype(s.dtype) for w, s in zip(weights, shapes, strict=True)
        ]
    if len(shapes) == 1 and shapes[0].shape == ():
        return [np.ones((), shapes[0].dtype)]
    return integer_weights(shapes)


def integer_weights(shapes: list[Any]) -> list[np.ndarray]:
    """Return integers between -5 and 6, none of them 0, in the given shapes."""
    out, start = [], 0
    for s in shapes:
        n = start + np.arange(int(np.prod(s.shape)))
        weights_here = ((7 * n + 3 * (n // 5)) % 11 - 5).astype(np.float64)
        weights_here[weights_here == 0] = 6
        out.append(weights_here.reshape(s.shape).astype(s.dtype))
        start += len(n)
    return out
