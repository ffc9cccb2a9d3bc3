"""Calls, branches and loops: followed alike by every walk, whatever its numbers.

A walk has the methods `enter`, which runs a program that an equation calls; `settled`,
native numbers that decide where it goes; `row` and `stacked`, which take an array apart
along its first axis and put it together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from funcgrad.jaxprs import opened, scan_counts


class Place(NamedTuple):
    """An equation, and the calls and loops that it is inside of, outermost first."""

    eqn: Any
    callers: tuple[Any, ...] = ()


class Uncovered(NotImplementedError):
    """Raised at an equation that the proof has no exact rule for.

    A rule says `why`; the walk says at which `place`.
    """

    def __init__(self, why: str = ""):
        self.why = why
        self.place: Any = None
        super().__init__(why)


def called(eqn: Any) -> Any:
    """Return the program that a call calls; of a custom rule, the primal one."""
    program = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return eqn.params["fun_jaxpr"] if program is None else program


def name_within_jax(eqn: Any) -> str | None:
    """Return the name of a function of JAX's own that has a rule of its own."""
    program, _ = opened(eqn.params["call_jaxpr"])
    source = program.debug_info.func_src_info.replace("\\", "/")
    return program.debug_info.func_name if "/jax/_src/" in source else None


def traced_through(
    program: Any,
    inputs: Sequence[Any],
    opens: Callable[[Any], bool],
    params_of: Callable[[Any], dict[str, Any]],
    held: Callable[[Any, Any], Any] = lambda atom, value: value,
) -> list[Any]:
    """Evaluate a program as JAX traces it, with some of its equations changed.

    Calls that `opens(eqn)` are followed, all else is bound with `params_of(eqn)`. What
    the program holds, constants and literals, is `held(atom, value)`.
    """
    jaxpr, consts = opened(program)
    env = {v: held(v, c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    env.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        is_literal = isinstance(atom, core.Literal)
        return held(atom, atom.val) if is_literal else env[atom]

    for eqn in jaxpr.eqns:
        operands = [read(x) for x in eqn.invars]
        if opens(eqn):
            outputs = traced_through(called(eqn), operands, opens, params_of, held)
        else:
            params = dict(eqn.primitive.get_bind_params(params_of(eqn)))
            made = eqn.primitive.bind(*operands, **params)
            outputs = made if eqn.primitive.multiple_results else [made]
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(x) for x in jaxpr.outvars]


def call(walk: Any, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
    return walk.enter(eqn, called(eqn), inputs, used)


def _cond(walk: Any, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
    branches = eqn.params["branches"]
    index = int(walk.settled(eqn, inputs[0]))
    which = int(np.clip(index, 0, len(branches) - 1))
    return walk.enter(eqn, branches[which], inputs[1:], used)


def _while(walk: Any, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
    p = eqn.params
    n_test, n_body = p["cond_nconsts"], p["body_nconsts"]
    test, body = inputs[:n_test], inputs[n_test : n_test + n_body]
    carry = inputs[n_test + n_body :]
    while True:
        (going_on,) = walk.enter(eqn, p["cond_jaxpr"], [*test, *carry])
        if not bool(walk.settled(eqn, going_on)):
            return carry
        carry = walk.enter(eqn, p["body_jaxpr"], [*body, *carry])


def _scan(walk: Any, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
    p = eqn.params
    counts = scan_counts(p)
    if counts is None:
        raise Uncovered("this JAX says in its own way what a scan carries")
    n_consts, n_carry = counts
    consts, carry = inputs[:n_consts], inputs[n_consts : n_consts + n_carry]
    xs, length = inputs[n_consts + n_carry :], p["length"]
    rows: list[Any] = [None] * length
    for i in range(length)[:: -1 if p["reverse"] else 1]:
        row = [walk.row(x, i) for x in xs]
        out = walk.enter(eqn, p["jaxpr"], [*consts, *carry, *row])
        carry, rows[i] = out[:n_carry], out[n_carry:]
    if not length:
        empty = [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars[n_carry:]]
        return [*carry, *empty]
    return [*carry, *(walk.stacked(column) for column in zip(*rows, strict=True))]


CALLS: dict[str, Callable[..., list[Any]]] = {
    "checkpoint": call,
    "closed_call": call,
    "cond": _cond,
    "core_call": call,
    "jit": call,
    "pjit": call,
    "remat": call,
    "remat2": call,
    "scan": _scan,
    "while": _while,
}

# What hands its arguments on as they are: an array of floats need be no numbers yet.
HANDED_ON = frozenset(name for name, follow in CALLS.items() if follow is call)

CUSTOM_CALLS = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
