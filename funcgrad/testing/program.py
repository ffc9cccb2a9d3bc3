"""A function and its gradient as programs over flat leaves, with their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcgrad.jaxprs import is_float
from funcgrad.testing import size


class Program(NamedTuple):
    """A function and its gradient as jaxprs, with the numbers to run them on.

    `primal` maps (*variables, *constants) to the float outputs of f; `gradient` maps
    the same inputs to the derivatives with respect to the variables, or is None where
    `grad=` cannot be traced; `bound` is the program whose rounding is bounded.
    `scalars` are the single floats among the arguments that f got as they are: a
    program holds them like constants of its own. `is_small` says that exact numbers
    take no longer than the seconds that are given.
    """

    primal: Any
    gradient: Any
    bound: Any
    variables: list[np.ndarray]
    constants: list[Any]
    cotangents: list[np.ndarray]
    paths: list[str]
    values: list[np.ndarray]
    scalars: tuple[float, ...] = ()
    is_small: bool = False


def lifted_constants(program: Program, numbers: Any) -> list[Any]:
    """Return the constants; arrays become numbers where a walk first reads them."""
    return [
        numbers.lift(x) if is_float(x) and not x.ndim else x for x in program.constants
    ]


def trace(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    argnums: int | Sequence[int] = 0,
    grad: Callable[..., Any] | None = None,
    cotangents: Any = None,
    seconds: float = math.inf,
) -> Program:
    """Trace f and its gradient; see `check_gradients` for the arguments."""
    if not args:
        raise ValueError(
            "f is differentiated at arguments: pass them after it, as in (f, x)"
        )
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
    own = None
    if grad is not None:
        own = _picking(grad, chosen, argnums, given)
        values = own(*args)
    given, primal, judged = _traced(f, given, own)
    variables, constants = given.variables(), given.constants()
    shapes: list[Any] = [v.aval for v in primal.jaxpr.outvars]
    if not shapes:
        raise ValueError("f returns no floats, so it has no gradient")
    weights = _cotangents(shapes, cotangents)
    size.refuse_to_compile(primal, seconds)

    def gradient(variables: list[Any], constants: list[Any]) -> Any:
        _, pull = jax.vjp(lambda v: _float_outputs(f, given, v, constants), variables)
        return pull(
            [jnp.asarray(w, s.dtype) for w, s in zip(weights, shapes, strict=True)]
        )[0]

    bound = judged
    if bound is None:
        traced = jax.jit(gradient).trace(variables, constants)
        bound = traced.jaxpr
    # Compiled, a large program takes its time and memory even if it is then refused.
    is_small = size.is_small(primal, bound, seconds)
    if not is_small:
        size.refuse_if_too_large(primal, bound, seconds)
    if own is None:
        judged = bound
        values = traced.lower().compile()(variables, constants)
    return Program(
        primal=primal,
        gradient=judged,
        bound=bound,
        variables=[_constant(x) for x in variables],
        constants=[_constant(x) for x in constants],
        cotangents=weights,
        paths=[_path(path, len(chosen) > 1) for path in given.paths()],
        values=[np.asarray(x) for x in values],
        scalars=given.scalars(),
        is_small=is_small,
    )


class _Arguments(NamedTuple):
    """The leaves of f's arguments, and which are variables.

    Of the rest, those `travels` marks are arguments of what is traced, called constants
    here; f gets all others as they are, as from `jax.grad(f)(*args)`.
    """

    leaves: list[tuple[tuple[Any, ...], Any]]
    trees: list[Any]
    varies: list[bool]
    travels: list[bool]
    eager: bool = False

    @classmethod
    def of(cls, args: tuple[Any, ...], chosen: list[int]) -> _Arguments:
        leaves, trees = [], []
        for i, arg in enumerate(args):
            try:
                found, tree = jax.tree_util.tree_flatten_with_path(arg)
            except Exception:  # a dict whose keys have no order, say: no pytree
                if i in chosen:
                    raise
                found, tree = [((), arg)], jax.tree.structure(0)
            at = jax.tree_util.SequenceKey(i)
            leaves += [((at, *path), x) for path, x in found]
            trees.append(tree)
        varies = [
            path[0].idx in chosen and _is_number(x) and _is_type(x, jnp.floating)
            for path, x in leaves
        ]
        travels = [
            _is_array(x) and not v for (_, x), v in zip(leaves, varies, strict=True)
        ]
        return cls(leaves, trees, varies, travels)

    def choices(self) -> list[_Arguments]:
        """Return ways to hand over the constants, those that compile best first.

        All arrays travel; or NumPy's do not, or none does, for an f that needs their
        numbers. What f computes from these alone it gets as numbers too (`eager`).
        """
        arrays = [isinstance(x, jax.Array) for _, x in self.leaves]
        some = [t and a for t, a in zip(self.travels, arrays, strict=True)]
        none = [False] * len(self.leaves)
        return [
            self,
            self._replace(travels=some, eager=True),
            self._replace(travels=none, eager=True),
        ]

    def paths(self) -> list[tuple[Any, ...]]:
        """Return the paths of the variables."""
        return [p for (p, _), v in zip(self.leaves, self.varies, strict=True) if v]

    def variables(self) -> list[Any]:
        return [x for (_, x), v in zip(self.leaves, self.varies, strict=True) if v]

    def constants(self) -> list[Any]:
        return [x for (_, x), t in zip(self.leaves, self.travels, strict=True) if t]

    def scalars(self) -> tuple[float, ...]:
        """Return the single floats that go in as they are."""
        return tuple(
            float(x)
            for (_, x), v, t in zip(self.leaves, self.varies, self.travels, strict=True)
            if not v and not t and _is_number(x) and not np.ndim(x)
            and _is_type(x, jnp.floating)
        )  # fmt: skip

    def call(
        self, function: Callable[..., Any], variables: list[Any], constants: list[Any]
    ) -> Any:
        """Call a function of the arguments with these variables and constants."""
        v, c = iter(variables), iter(constants)
        flat = iter(
            next(v) if varies else next(c) if travels else x
            for varies, travels, (_, x) in zip(
                self.varies, self.travels, self.leaves, strict=True
            )
        )
        args = [
            jax.tree.unflatten(tree, [next(flat) for _ in range(tree.num_leaves)])
            for tree in self.trees
        ]
        with jax.ensure_compile_time_eval() if self.eager else nullcontext():
            return function(*args)


def _float_outputs(
    f: Callable[..., Any], given: _Arguments, variables: list[Any], constants: list[Any]
) -> list[Any]:
    """Return the float outputs of f, flat."""
    out = jax.tree.leaves(given.call(f, variables, constants))
    return [y for y in out if _is_type(y, jnp.inexact)]


def _traced(
    f: Callable[..., Any], given: _Arguments, own: Callable[..., Any] | None
) -> tuple[_Arguments, Any, Any]:
    """Return f and the caller's gradient as jaxprs, and how their arguments go in.

    The gradient is None where there is none, or where it is no JAX program.
    """
    choices = given.choices()
    attempts = [(choice, own) for choice in choices]
    if own is not None:
        attempts += [(choice, None) for choice in choices]
    for choice, gradient in attempts:
        inputs = choice.variables(), choice.constants()
        try:
            primal = jax.make_jaxpr(partial(_float_outputs, f, choice))(*inputs)
            if gradient is None:
                return choice, primal, None
            judged = jax.make_jaxpr(partial(choice.call, gradient))(*inputs)
            return choice, primal, judged
        except Exception as error:  # whatever foreign code raises on a tracer
            failed: Exception = error
    # What jax.grad cannot differentiate either raises here what it raises there.
    jax.vjp(lambda v: _float_outputs(f, choice, v, []), choice.variables())
    raise ValueError(
        "f decides in Python by numbers that depend on what is differentiated, so that "
        "it is no single program: write jnp.where or jax.lax.cond in place of `if`, "
        "jax.lax.while_loop in place of `while`, and jnp.where(x > 0, x, 0) in place "
        "of x[x > 0]"
    ) from failed


def _picking(
    grad: Callable[..., Any],
    chosen: list[int],
    argnums: int | Sequence[int],
    given: _Arguments,
) -> Callable[..., list[Any]]:
    """Return the caller's gradient as a function that returns a list, in our order."""
    wanted = [jax.tree_util.keystr(path) for path in given.paths()]

    def picked(*args: Any) -> list[Any]:
        result = grad(*args)
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

    return picked


def _is_array(x: Any) -> bool:
    """Return whether x is an array that JAX can take as an argument."""
    if isinstance(x, jax.Array):
        return True
    return isinstance(x, np.ndarray) and (
        x.dtype == np.bool_ or bool(jnp.issubdtype(x.dtype, np.number))
    )


def _is_number(x: Any) -> bool:
    if isinstance(x, np.generic):
        x = np.asarray(x)
    return isinstance(x, float) or _is_array(x)


def _is_type(x: Any, kind: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), kind))


def _constant(x: Any) -> Any:
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return x
    return np.asarray(x, jnp.result_type(x))


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
