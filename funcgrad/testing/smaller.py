"""A program and its gradient with fewer rows, where each row is treated like the rest.

An axis of the arguments may be shortened where the primal program does the same at
every place along it, and the gradient does so too or adds up along it. What holds for
a few rows then holds for any number of them: a rule that is wrong in a batch is wrong
in some row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from funcgrad.jaxprs import dot_dimensions, opened
from funcgrad.testing.control import (
    CALLS,
    CUSTOM_CALLS,
    call,
    called,
    traced_through,
)
from funcgrad.testing.program import Program
from funcgrad.testing.rules.elementwise import ELEMENTWISE

# Beside those in the table of rules: each element by itself, whatever its type.
_ALIKE = {
    *ELEMENTWISE, "abs", "and", "ceil", "clamp", "convert_element_type", "eq", "floor",
    "ge", "gt", "integer_pow", "is_finite", "le", "lt", "max", "min", "ne", "not", "or",
    "reduce_precision", "rem", "round", "select_n", "sign", "stop_gradient", "xor",
}  # fmt: skip
_RESHAPES = ("expand_dims", "reshape", "squeeze")

# The parameter that holds the shape of what a primitive makes.
_SHAPES = {"broadcast_in_dim": "shape", "iota": "shape", "reshape": "new_sizes"}

Axis = tuple[int, int]  # of a variable, by its id


def smaller(program: Program, most: int) -> Program | None:
    """Return the program with at most so many places along each axis that allows it.

    None is returned where no axis is shortened.
    """
    primal, _ = opened(program.primal)
    gradient, _ = opened(program.gradient)
    axes = _Axes(most)
    for a, b in zip(primal.invars, gradient.invars, strict=True):
        axes.join(a, b)
    for a, b in zip(primal.invars, gradient.outvars, strict=False):
        axes.join(a, b)
    weights = list(zip(primal.outvars, program.cotangents, strict=True))
    axes.relate(program.primal, weights, adds_up=False)
    axes.relate(program.gradient, weights, adds_up=True)
    if not any(axes.shortens(v) for v in primal.invars):
        return None
    n = len(program.variables)
    variables, constants = primal.invars[:n], primal.invars[n:]
    picked = [
        [axes.pick(v, x) for v, x in zip(some, values, strict=True)]
        for some, values in (
            (variables, program.variables),
            (constants, program.constants),
        )
    ]
    inputs = [x for some in picked for x in some]
    made = jax.make_jaxpr(lambda *x: _run(axes, program.gradient, x))(*inputs)
    return program._replace(
        primal=jax.make_jaxpr(lambda *x: _run(axes, program.primal, x))(*inputs),
        gradient=made,
        bound=made,
        variables=picked[0],
        constants=picked[1],
        cotangents=[axes.pick(v, w) for v, w in weights],
    )


class _Axes:
    """Which axes of all variables are one, and which of them keep their lengths."""

    def __init__(self, most: int):
        self.most = most
        self._next: dict[Axis, Axis] = {}
        self._kept: set[Axis] = set()
        self._alive: list[Any] = []  # so that no id is given twice

    def _root(self, axis: Axis) -> Axis:
        while axis in self._next:
            axis = self._next[axis]
        return axis

    def keep(self, atom: Any, *which: int) -> None:
        """Let these axes of a variable keep their lengths; without any, all."""
        self._alive.append(atom)
        self._kept |= {self._root((id(atom), i)) for i in which or _axes(atom)}

    def pair(self, a: Any, i: int, b: Any, k: int) -> None:
        """Make one of an axis of a and one of b; where lengths differ, keep both."""
        self._alive += [a, b]
        if a.aval.shape[i] != b.aval.shape[k]:
            self.keep(a, i)
            self.keep(b, k)
            return
        one, other = self._root((id(a), i)), self._root((id(b), k))
        if one != other:
            self._next[one] = other
            if one in self._kept:
                self._kept.add(other)

    def join(self, a: Any, b: Any) -> None:
        """Make one of the axes of a and b, in order; a scalar goes with anything."""
        if len(_axes(a)) == len(_axes(b)):
            for i in _axes(a):
                self.pair(a, i, b, i)
        elif _axes(a) and _axes(b):
            self.keep(a)
            self.keep(b)

    def shape(self, atom: Any) -> tuple[int, ...]:
        """Return what becomes of a variable's shape."""
        return tuple(
            n if self._root((id(atom), i)) in self._kept else min(n, self.most)
            for i, n in enumerate(atom.aval.shape)
        )

    def shortens(self, atom: Any) -> bool:
        return self.shape(atom) != tuple(atom.aval.shape)

    def pick(self, atom: Any, value: Any) -> Any:
        """Return the rows of an array that are left, from the first to the last."""
        for i, (n, m) in enumerate(zip(np.shape(value), self.shape(atom), strict=True)):
            if n != m:
                rows = np.linspace(0, n - 1, m).astype(int)
                value = value[(*[slice(None)] * i, rows)]
        return value

    def relate(
        self, program: Any, weights: Sequence[tuple[Any, Any]], *, adds_up: bool
    ) -> None:
        """Note what the equations of a program do to the axes.

        `weights` are outputs of the primal with their cotangents, which the gradient
        holds as constants. Other arrays that a program closes over keep their shapes.
        """
        jaxpr, consts = opened(program)
        held = list(zip(jaxpr.constvars, consts, strict=False))
        atoms = [x for e in jaxpr.eqns for x in e.invars] + list(jaxpr.outvars)
        held += [(x, x.val) for x in atoms if isinstance(x, core.Literal)]
        for atom, value in held:
            if _axes(atom):
                self._relate_constant(atom, value, weights)
        for eqn in jaxpr.eqns:
            if _is_call(eqn):
                inner, _ = opened(called(eqn))
                for outer, own in (
                    *zip(eqn.invars, inner.invars, strict=True),
                    *zip(eqn.outvars, inner.outvars, strict=True),
                ):
                    self.join(outer, own)
                self.relate(called(eqn), weights, adds_up=adds_up)
            else:
                self._relate_equation(eqn, adds_up)

    def _relate_constant(
        self, atom: Any, value: Any, weights: Sequence[tuple[Any, Any]]
    ) -> None:
        for out, weight in weights:
            if np.shape(value) == weight.shape and np.array_equal(
                np.asarray(value, np.float64), weight.astype(np.float64)
            ):
                self.join(atom, out)
                return
        self.keep(atom)

    def _relate_equation(self, eqn: Any, adds_up: bool) -> None:
        name, p = eqn.primitive.name, eqn.params
        operands, (out, *others) = eqn.invars, eqn.outvars
        if name in _ALIKE:
            for x in operands:
                for i in _axes(x):
                    if x.aval.shape[i] == out.aval.shape[i]:  # else 1, and repeated
                        self.pair(x, i, out, i)
        elif name == "broadcast_in_dim":
            (x, *_) = operands
            for i, k in enumerate(p["broadcast_dimensions"]):
                self.pair(x, i, out, k)
        elif name in _RESHAPES:
            self._reshape(operands[0], out)
        elif name == "transpose":
            for k, i in enumerate(p["permutation"]):
                self.pair(operands[0], i, out, k)
        elif name in ("reduce_sum", "reduce_max", "reduce_min") and not others:
            (x,) = operands
            left = [i for i in _axes(x) if i not in p["axes"]]
            for k, i in enumerate(left):
                self.pair(x, i, out, k)
            if p["axes"] and not (adds_up and name == "reduce_sum"):
                self.keep(x, *p["axes"])
        elif name == "dot_general":
            self._dot_general(eqn, adds_up)
        elif name in ("concatenate", "slice"):
            for x in operands:
                self.join(x, out)
            if name == "concatenate":
                self.keep(out, p["dimension"])
        elif name == "iota":
            self.keep(out, p["dimension"])
        else:
            for x in (*operands, *eqn.outvars):
                self.keep(x)

    def _reshape(self, x: Any, out: Any) -> None:
        """Pair axes that stay, from both ends; those between become others."""
        left = [i for i in _axes(x) if x.aval.shape[i] != 1]
        right = [k for k in _axes(out) if out.aval.shape[k] != 1]
        for end in (0, -1):
            while left and right:
                i, k = left[end], right[end]
                if x.aval.shape[i] != out.aval.shape[k]:
                    break
                self.pair(x, left.pop(end), out, right.pop(end))
        for atom, rest in ((x, left), (out, right)):
            if rest:
                self.keep(atom, *rest)

    def _dot_general(self, eqn: Any, adds_up: bool) -> None:
        (a, b), (out,) = eqn.invars, eqn.outvars
        (sum_a, sum_b), (batch_a, batch_b) = dot_dimensions(eqn)
        for i, k in zip(sum_a, sum_b, strict=True):
            self.pair(a, i, b, k)
            if not adds_up:
                self.keep(a, i)
        at = 0
        for i, k in zip(batch_a, batch_b, strict=True):
            self.pair(a, i, b, k)
            self.pair(a, i, out, at)
            at += 1
        for x, taken in ((a, (*sum_a, *batch_a)), (b, (*sum_b, *batch_b))):
            for i in _axes(x):
                if i not in taken:
                    self.pair(x, i, out, at)
                    at += 1


def _axes(atom: Any) -> range:
    return range(len(getattr(atom.aval, "shape", ())))


def _is_call(eqn: Any) -> bool:
    name = eqn.primitive.name
    return CALLS.get(name) is call or name in CUSTOM_CALLS


def _run(axes: _Axes, program: Any, inputs: Sequence[Any]) -> list[Any]:
    """Evaluate a program on shorter arrays, as JAX traces it; calls are opened."""

    def held(atom: Any, value: Any) -> Any:
        aval: Any = atom.aval
        dtype = aval.dtype if isinstance(atom, core.Literal) else None
        return jnp.asarray(axes.pick(atom, value), dtype)

    return traced_through(
        program, inputs, _is_call, lambda eqn: _shorter(axes, eqn), held
    )


def _shorter(axes: _Axes, eqn: Any) -> dict[str, Any]:
    """Return an equation's parameters, for the shapes that its arrays have now."""
    (name, out), params = (eqn.primitive.name, eqn.outvars[0]), dict(eqn.params)
    if name in _SHAPES:
        params[_SHAPES[name]] = axes.shape(out)
    if name == "slice":
        sizes = zip(params["limit_indices"], eqn.invars[0].aval.shape,
                    axes.shape(eqn.invars[0]), strict=True)  # fmt: skip
        params["limit_indices"] = tuple(limit if m == n else m for limit, n, m in sizes)
    return params
