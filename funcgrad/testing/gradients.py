"""Check a gradient without a tolerance: rules exactly, rounding within a derived bound.

    float(g) - truth  =  [ float(g) - exact(g) ]  +  [ exact(g) - truth ]
                              rounding                      rule

`g` is the program of the gradient, `truth` the derivative of the primal program by the
scalar engine. The rule part is free of rounding, so it must be 0; the rounding part
must lie within a bound that follows from the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from funcgrad.testing import culprit, size, ties
from funcgrad.testing.arithmetic import Exact, Rounded, Truth, each, infinite
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.report import GradientReport, LeafReport, worst
from funcgrad.testing.walk import Hook, Uncovered, walk
from reference import Value

# Bits to begin with, and to give up at. 256 bits are 77 digits.
FIRST_PRECISION, LAST_PRECISION = 256, 8192

# A ball that holds 0 is taken for 0 where its radius is below this part of the number:
# 10^-44 of an ulp of float64, so nothing that a float could show hides in it.
NEGLIGIBLE = 2.0**-200


class Program(NamedTuple):
    """A function and its gradient as jaxprs over flat leaves, with their inputs.

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


def check_gradients(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    grad: Callable[..., Any] | None = None,
    cotangents: Any = None,
    seconds: float = 300.0,
) -> GradientReport:
    """Return whether jax.grad(f), as compiled here, is the derivative of f at `args`.

    Every float leaf of the arguments in `argnums` is differentiated; all else is held
    constant. Where f is no scalar function, its outputs are weighted with `cotangents`,
    by default small integers that are not uniform. `grad` is judged instead of
    `jax.grad(f)`: it takes `args` and returns what `jax.grad(f, argnums)` would; for
    functions that are no scalars, a vector-Jacobian product with the cotangents.

    No argument is a tolerance: the verdict is one of ok, rule, compiler, kink, pole and
    uncovered (see `GradientReport`). A program whose check would take longer than
    `seconds` raises ValueError before it starts, with an estimate.
    """
    flint()
    program = _trace(f, args, argnums, grad, cotangents)
    size.refuse_if_too_large(program.primal, program.bound, seconds)
    try:
        return _judge(program, given=grad is not None)
    except Uncovered as missing:
        return culprit.uncovered(missing, program)


def assert_gradients(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] = 0,
    grad: Callable[..., Any] | None = None,
    cotangents: Any = None,
    seconds: float = 300.0,
) -> None:
    """Raise AssertionError with the report unless `check_gradients` says ok."""
    __tracebackhide__ = True
    report = check_gradients(
        f, *args, argnums=argnums, grad=grad, cotangents=cotangents, seconds=seconds
    )
    if not report.ok:
        raise AssertionError(f"\n{report}")


# The programs -------------------------------------------------------------------------


def _trace(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    argnums: int | Sequence[int],
    grad: Callable[..., Any] | None,
    cotangents: Any,
) -> Program:
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    if not all(-len(args) <= i < len(args) for i in chosen):
        raise ValueError(
            f"argnums must name some of the {len(args)} arguments, got {argnums}"
        )
    chosen = [i % len(args) for i in chosen]
    leaves, tree = jax.tree_util.tree_flatten_with_path(args)
    is_array = [_is_array(x) for _, x in leaves]
    varies = [
        a and path[0].idx in chosen and jnp.issubdtype(_dtype(x), jnp.floating)
        for a, (path, x) in zip(is_array, leaves, strict=True)
    ]
    if not any(varies):
        raise ValueError(
            f"nothing to differentiate: argument {argnums} has no leaf of floats; pass "
            f"floats there, or name another argument with argnums"
        )
    variables = [x for (_, x), v in zip(leaves, varies, strict=True) if v]
    constants = [
        x for (_, x), v, a in zip(leaves, varies, is_array, strict=True) if a and not v
    ]

    def float_outputs(variables: list[Any], constants: list[Any]) -> list[Any]:
        v, c = iter(variables), iter(constants)
        flat = [
            next(v) if varying else next(c) if array else x
            for varying, array, (_, x) in zip(varies, is_array, leaves, strict=True)
        ]
        out = jax.tree.leaves(f(*jax.tree.unflatten(tree, flat)))
        return [y for y in out if jnp.issubdtype(_dtype(y), jnp.inexact)]

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
        values, judged = _given_gradient(
            grad, args, chosen, argnums, leaves, varies, is_array
        )
        bound = bound if judged is None else judged
    paths = [
        _path(path, len(chosen) > 1)
        for (path, _), v in zip(leaves, varies, strict=True)
        if v
    ]
    return Program(
        primal, judged, bound,
        [_constant(x) for x in variables], [_constant(x) for x in constants],
        weights, paths, [np.asarray(x) for x in values],
    )  # fmt: skip


def _given_gradient(
    grad: Callable[..., Any],
    args: tuple[Any, ...],
    chosen: list[int],
    argnums: int | Sequence[int],
    leaves: list[Any],
    varies: list[bool],
    is_array: list[bool],
) -> tuple[list[Any], Any]:
    """Return the numbers of the caller's gradient, and its jaxpr if there is one."""
    wanted = [path for (path, _), v in zip(leaves, varies, strict=True) if v]

    def pick(result: Any) -> list[Any]:
        results = [result] if isinstance(argnums, int) else list(result)
        found = {
            jax.tree_util.keystr((path[0], *sub)): x
            for i, r in zip(chosen, results, strict=True)
            for path in [(jax.tree_util.SequenceKey(i),)]
            for sub, x in jax.tree_util.tree_flatten_with_path(r)[0]
        }
        missing = [p for p in wanted if jax.tree_util.keystr(p) not in found]
        if missing:
            raise ValueError(
                f"grad= must return what jax.grad(f, argnums={argnums}) would: there "
                f"is nothing at {jax.tree_util.keystr(missing[0])}"
            )
        out = [found[jax.tree_util.keystr(p)] for p in wanted]
        for p, x in zip(wanted, out, strict=True):
            leaf = next(y for q, y in leaves if q == p)
            if np.shape(x) != np.shape(leaf):
                raise ValueError(
                    f"grad= must return shape {np.shape(leaf)} at "
                    f"{jax.tree_util.keystr(p)}, got {np.shape(x)}"
                )
        return out

    values = pick(grad(*args))
    tree = jax.tree_util.tree_structure(args)

    def traced(variables: list[Any], constants: list[Any]) -> list[Any]:
        v, c = iter(variables), iter(constants)
        flat = [
            next(v) if varying else next(c) if array else x
            for varying, array, (_, x) in zip(varies, is_array, leaves, strict=True)
        ]
        return pick(grad(*jax.tree.unflatten(tree, flat)))

    variables = [x for (_, x), v in zip(leaves, varies, strict=True) if v]
    constants = [
        x for (_, x), v, a in zip(leaves, varies, is_array, strict=True) if a and not v
    ]
    try:
        return values, jax.make_jaxpr(traced)(variables, constants)
    except Exception:  # whatever foreign code raises on a tracer: it is no JAX program
        return values, None


def _is_array(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray, np.generic, bool, int, float))


def _dtype(x: Any) -> Any:
    return jnp.result_type(x)


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


# The three walks ----------------------------------------------------------------------


class Derivatives(NamedTuple):
    """Truth for every variable, and the ties that were met on the way."""

    values: list[np.ndarray]
    ties: list[Any]
    variables: list[np.ndarray]
    callers: dict[int, Any]


def truth(
    program: Program,
    *,
    ideal_constants: bool = False,
    shift: list[np.ndarray] | None = None,
) -> Derivatives:
    """Return the derivative of the primal program, by the scalar engine's backward.

    `shift` moves the variables, exactly, before the program is walked.
    """
    numbers = Truth(ideal_constants=ideal_constants)
    variables = [numbers.lift(x) for x in program.variables]
    if shift is not None:
        variables = [v + s for v, s in zip(variables, shift, strict=True)]
    variables = [each(Value, v) for v in variables]
    outputs = walk(
        program.primal, [*variables, *lifted_constants(program, numbers)], numbers
    )
    terms = [
        (y, w)
        for out, weight in zip(outputs, program.cotangents, strict=True)
        for y, w in zip(out.ravel(), numbers.lift(weight).ravel(), strict=True)
        if type(y) is Value
    ]
    total = sum((y.data * w for y, w in terms), flint().arb(0))
    loss = Value(total, tuple(y for y, _ in terms), "loss", tuple(w for _, w in terms))
    loss.backward()
    gradients = [each(lambda v: flint().arb(v.grad), v) for v in variables]
    return Derivatives(gradients, numbers.ties, variables, numbers.callers)


def exact(
    program: Program, numbers: Exact, *, hook: Hook | None = None
) -> list[np.ndarray]:
    """Return what the gradient program gives in this arithmetic."""
    variables = [numbers.lift(x) for x in program.variables]
    inputs = [*variables, *lifted_constants(program, numbers)]
    return walk(program.bound, inputs, numbers, hook=hook)


def lifted_constants(program: Program, numbers: Exact) -> list[Any]:
    return [
        numbers.lift(x) if jnp.issubdtype(x.dtype, jnp.floating) else x
        for x in program.constants
    ]


# The verdict --------------------------------------------------------------------------


class Comparison(NamedTuple):
    """exact(g) - truth for each leaf, as balls, and which of them are zero.

    `zero` holds True, False, or None where the precision leaves it open.
    """

    truth: Derivatives
    exact: list[np.ndarray]
    path: list[Any]
    error: list[np.ndarray]
    zero: list[np.ndarray]


def _compare(program: Program, scale: list[np.ndarray], *, ideal: bool) -> Comparison:
    """Subtract truth from exact(g), both in the precision of the moment."""
    right = truth(program, ideal_constants=ideal)
    numbers = Exact(ideal_constants=ideal)
    made = exact(program, numbers)
    if program.gradient is None:
        made = right.values
    error, zero = [], []
    for g, t, s in zip(made, right.values, scale, strict=True):
        error.append(each(lambda a, b: a - b, g, t))
        zero.append(each(_is_zero, error[-1], t, s))
    return Comparison(right, made, numbers.path, error, zero)


def _is_zero(difference: Any, true: Any, scale: float) -> bool | None:
    """Return whether a difference is zero; None where its ball is still too wide."""
    if not difference.is_finite():
        return None
    if not difference.contains(0):
        return False
    radius = difference.rad()
    return True if radius <= (true.abs_upper() + scale) * NEGLIGIBLE else None


def _decided(found: Comparison) -> bool:
    """Return whether every difference is known, or never will be: it is no number."""
    return all(
        z is not None or not e.is_finite()
        for error, zero in zip(found.error, found.zero, strict=True)
        for e, z in zip(error.ravel(), zero.ravel(), strict=True)
    )


def _all_zero(found: Comparison) -> bool:
    return all(z is True for zero in found.zero for z in zero.ravel())


def _settle(program: Program, scale: list[np.ndarray]) -> tuple[Comparison, bool, int]:
    """Compare with rising precision until every difference is known.

    Return the comparison, whether it reads JAX's rounded constants as the irrational
    numbers they stand for (which is tried where they leave a difference), and the bits.
    """
    bits = FIRST_PRECISION
    while True:
        with precision(bits):
            found = _compare(program, scale, ideal=False)
            if bits == FIRST_PRECISION:
                cancelled = [each(_cancelled, e) for e in found.error]
            elif bits >= 4 * FIRST_PRECISION:
                # A 0 without a scale: what cancelled left its size in the first radius.
                scale = [s + c for s, c in zip(scale, cancelled, strict=True)]
            if _decided(found) or bits >= LAST_PRECISION:
                if not _all_zero(found):
                    ideal = _compare(program, scale, ideal=True)
                    if _all_zero(ideal) or _fewer(ideal, found):
                        return ideal, True, bits
                return found, False, bits
        bits *= 2


def _cancelled(error: Any) -> Any:
    """Return the size of the numbers that a ball was made from, by its radius."""
    return error.rad() * 2.0**FIRST_PRECISION if error.is_finite() else flint().arb(0)


def _fewer(ideal: Comparison, found: Comparison) -> bool:
    """Return whether ideal constants make some difference zero, and none nonzero."""
    pairs = [
        (a is True, b is True)
        for x, y in zip(ideal.zero, found.zero, strict=True)
        for a, b in zip(x.ravel(), y.ravel(), strict=True)
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def rule_is_wrong(program: Program) -> bool:
    """Return whether exact(g) - truth is known not to be 0, away from ties."""
    with precision(FIRST_PRECISION):
        found, _, _ = _settle(program, [np.zeros(v.shape) for v in program.variables])
    if ties.reached(found.truth.variables, found.truth.ties):
        return False
    return any(z is False for zero in found.zero for z in zero.ravel())


def _judge(program: Program, *, given: bool) -> GradientReport:
    with precision(FIRST_PRECISION):
        first = Exact()
        made = exact(program, first)
    rounded = Rounded(first.path)
    with precision(64):
        balls = exact(program, rounded)
        if rounded.lost:
            balls = [each(lambda ball: infinite(), b) for b in balls]
    # An element that is 0 by cancellation has the size of what cancelled.
    scale = [each(_radius, b) for b in balls]
    found, ideal, bits = _settle(program, scale)
    with precision(bits):
        return _verdict(program, found, made, balls, rounded, ideal, bits, given)


def _radius(ball: Any) -> Any:
    return ball.rad() if ball.is_finite() else flint().arb(0)


def _verdict(
    program: Program,
    found: Comparison,
    made: list[np.ndarray],
    balls: list[np.ndarray],
    rounded: Rounded,
    ideal: bool,
    bits: int,
    given: bool,
) -> GradientReport:
    right, notes = found.truth, []
    tied = ties.judge(
        right.variables,
        program.variables,
        right.ties,
        found.exact,
        lambda shift: truth(program, ideal_constants=ideal, shift=shift).values,
        cheap=sum(size.count(program.primal)) < 20_000,
    )
    leaves = [
        _leaf(path, program, i, found, made[i], balls[i], tied[i])
        for i, path in enumerate(program.paths)
    ]
    if program.gradient is None:
        leaves = [_blame_unseen_rules(leaf) for leaf in leaves]
    verdict = worst([leaf.verdict for leaf in leaves])
    if ideal:
        notes.append(
            "a derivative rule holds a constant such as 2/sqrt(pi) as a float; that is "
            "counted as rounding"
        )
    if program.gradient is None:
        notes.append(
            "grad= could not be traced, so its rules were not seen: its numbers were "
            "compared with the truth, within the rounding bound of jax.grad(f)"
        )
    open_ended = sum(not ball.is_finite() for array in balls for ball in array.ravel())
    if open_ended and verdict != "pole":
        notes.append(
            f"rounding has no bound at {open_ended} elements (a ball there holds a "
            f"divisor of 0, or leaves the range of floats), so only the rules were "
            f"judged there"
        )
    notes += _tie_notes(right, tied)
    notes += culprit.path_notes(rounded)
    why = ""
    if verdict == "rule":
        why = culprit.of_rule(program, given)
    elif verdict == "pole":
        why = culprit.of_pole(program, rounded)
    elif verdict == "compiler":
        why = culprit.of_compiler(program, rounded.path)
    elif verdict == "kink":
        why = culprit.of_kink(right.variables, right.ties, right.callers)
    elif verdict == "uncovered":
        notes.append(f"not decided at {bits} bits, where the proof gives up")
    return GradientReport(verdict, tuple(leaves), tuple(notes), why)


def _blame_unseen_rules(leaf: LeafReport) -> LeafReport:
    """Call it a wrong rule where a gradient that was not traced leaves the bound."""
    if leaf.verdict != "compiler":
        return leaf
    return leaf._replace(verdict="rule", rule_error="unseen")


def _tie_notes(right: Derivatives, tied: list[np.ndarray]) -> list[str]:
    """Say which ties were met, and where they were not judged."""
    notes = []
    if any((t == "between").any() for t in tied):
        for eqn in ties.equations(right.variables, right.ties)[:3]:
            notes.append(
                f"exactly tied, and the derivative lies between the one-sided ones: "
                f"{culprit.describe(eqn, right.callers)}"
            )
    unjudged = sum(int((t == "unjudged").sum()) for t in tied)
    if unjudged:
        notes.append(f"{unjudged} elements at ties were not judged from both sides")
    return notes


def _leaf(
    path: str,
    program: Program,
    i: int,
    found: Comparison,
    made: np.ndarray,
    balls: np.ndarray,
    tied: np.ndarray,
) -> LeafReport:
    values, variable = program.values[i], program.variables[i]
    right, zero = found.truth.values[i], found.zero[i]
    dtype = variable.dtype
    floats = values.astype(np.float64)
    verdicts, ulps, bounds = [], [], []
    for v, t, g, z, b, tie in zip(
        floats.ravel().tolist(), right.ravel(), made.ravel(), zero.ravel(),
        balls.ravel(), tied.ravel(), strict=True,
    ):  # fmt: skip
        verdict, off, bound = _element(v, t, g, z, b, tie, dtype)
        verdicts.append(verdict)
        ulps.append(off)
        bounds.append(bound)
    verdict = worst(verdicts)
    if not verdicts:
        return LeafReport(
            path, values.shape, dtype.name, "ok", (), "", "", "0", 0, 0, 0
        )
    candidates = [k for k, x in enumerate(verdicts) if x == verdict]
    k = max(candidates, key=lambda k: _badness(ulps[k], right.flat[k], floats.flat[k]))
    error = found.error[i].ravel()[k]
    return LeafReport(
        path=path,
        shape=values.shape,
        dtype=dtype.name,
        verdict=verdict,
        worst=tuple(int(n) for n in np.unravel_index(k, values.shape)),
        truth=right.ravel()[k].str(17, radius=False),
        value=repr(values.ravel()[k].item())
        if dtype != jnp.bfloat16
        else str(values.ravel()[k]),
        rule_error="0" if zero.ravel()[k] is True else error.str(3, radius=False),
        ulps=ulps[k],
        bound=bounds[k],
        digits=_digits(right.ravel()[k], floats.ravel()[k], dtype),
    )


def _element(
    value: float,
    true: Any,
    made: Any,
    zero: bool | None,
    ball: Any,
    tie: str,
    dtype: Any,
) -> tuple[str, float, float]:
    """Return the verdict on one number, its distance in ulps, and the bound in ulps."""
    if not made.is_finite() or not true.is_finite():
        return "pole", np.inf, np.inf
    ulp = ulp_of(made, dtype)
    off = (
        float(abs(flint().arb(value) - made).mid()) / ulp
        if np.isfinite(value)
        else np.inf
    )
    bound = float(ball.rad()) / ulp if ball.is_finite() else np.inf
    if tie in ("kink", "unjudged"):
        return ("kink" if tie == "kink" else "uncovered"), off, bound
    if zero is None and tie != "between":
        return "uncovered", off, bound
    if not zero and tie != "between":
        return "rule", off, bound
    if not np.isfinite(value):
        return ("pole" if not ball.is_finite() else "compiler"), off, bound
    if ball.is_finite() and not ball.overlaps(flint().arb(value)):
        return "compiler", off, bound
    return "ok", off, bound


def ulp_of(x: Any, dtype: Any) -> float:
    """Return the unit in the last place of the float type at x."""
    info = ml_dtypes.finfo(dtype)
    magnitude = max(abs(float(x.mid())), float(info.tiny))
    return float(np.ldexp(float(info.eps), int(np.frexp(magnitude)[1]) - 1))


def _badness(ulps: float, true: Any, value: Any) -> tuple[float, float]:
    miss = (
        abs(flint().arb(float(value)) - true)
        if np.isfinite(value)
        else flint().arb("inf")
    )
    return ulps, float(miss.mid()) if miss.is_finite() else np.inf


def _digits(true: Any, value: float, dtype: Any) -> float:
    """Return the decimal digits in which the float agrees with the truth."""
    most = -np.log10(float(ml_dtypes.finfo(dtype).eps) / 2)
    if not np.isfinite(value) or not true.is_finite():
        return 0.0
    miss = float(abs(flint().arb(value) - true).mid())
    if miss == 0:
        return float(most)
    if float(true.mid()) == 0:
        return 0.0
    return float(np.clip(-np.log10(miss / abs(float(true.mid()))), 0, most))
