"""Walk a jaxpr with another kind of number, equation by equation.

Elementwise primitives come from the table in `rules`; those that move data are applied
to integer positions, and the result indexes the numbers; calls, loops and branches are
followed. What is in none of these raises `Uncovered`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from funcgrad.jaxprs import dot_dimensions, is_complex, opened
from funcgrad.testing import control
from funcgrad.testing.arithmetic import (
    Doubtful,
    Event,
    Exact,
    Floats,
    data,
    each,
    infinite,
    is_real,
    objects,
    rows_of,
    truncate,
    union,
)
from funcgrad.testing.control import (
    CUSTOM_CALLS,
    Uncovered,
    call,
    name_within_jax,
    stacked,
)
from funcgrad.testing.flint import flint
from funcgrad.testing.movement import FAST_MOVES, PICKS, targets, windows, windows_of
from funcgrad.testing.rules import APPROXIMATED, ELEMENTWISE, Rule, whole_power


class Place(NamedTuple):
    """An equation, and the calls and loops that it is inside of, outermost first."""

    eqn: Any
    callers: tuple[Any, ...] = ()


class Met(NamedTuple):
    """What the numbers noted at one place."""

    place: Place
    events: list[Event]


Hook = Callable[[Place, list[Any], list[Any]], None]


class Walk:
    """One evaluation of a program with one kind of number.

    `hook(place, inputs, outputs)` is called after each equation that is no call or
    loop; a function with a custom rule counts as one equation to it unless
    `inside_custom_rules`. What the numbers noted on the way is in `met`, with the place
    where they did.
    """

    def __init__(
        self,
        numbers: Exact | Floats,
        *,
        hook: Hook | None = None,
        inside_custom_rules: bool = True,
    ):
        self.numbers: Any = numbers
        self.inside_custom_rules = inside_custom_rules
        self.met: list[Met] = []
        self._hook = hook
        self._callers: tuple[Any, ...] = ()
        self._live: dict[tuple[int, tuple[bool, ...]], list[tuple[Any, list[bool]]]]
        self._live = {}

    def run(
        self, program: Any, inputs: Sequence[Any], used: Sequence[bool] | None = None
    ) -> list[Any]:
        """Evaluate a (closed) jaxpr on `inputs` and return its outputs.

        `inputs` are arrays of this walk's kind of number, or native arrays. Equations
        that nothing in `used` outputs needs are left out, as a compiler would.
        """
        jaxpr, consts = opened(program)
        if used is None:
            used = [True] * len(jaxpr.outvars)
        env: dict[Any, Any] = {}

        def read(atom: Any) -> Any:
            is_literal = not _is_var(atom)
            value = _literal(atom) if is_literal else env[atom]
            if not _is_float(value):
                return value
            # What enters or is computed was lifted: a float here is a constant's.
            dtype = atom.aval.dtype
            return self.numbers.constant(value, dtype, closed_over=not is_literal)

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        for eqn, needed in self._needed(jaxpr, tuple(used)):
            outputs = self.step(eqn, [read(x) for x in eqn.invars], needed)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [
            read(x) if u else None for x, u in zip(jaxpr.outvars, used, strict=True)
        ]

    def step(self, eqn: Any, inputs: list[Any], used: list[bool]) -> list[Any]:
        """Return the outputs of one equation."""
        follow = CALLS.get(eqn.primitive.name)
        try:
            if follow is not None:
                return follow(self, eqn, inputs, used)
            outputs = evaluate(eqn, inputs, self.numbers)
        except Uncovered as missing:
            missing.place = missing.place or self.place(eqn)
            raise
        self.stamp(eqn)
        outputs = self.lifted(outputs)
        self.tell(eqn, inputs, outputs)
        return outputs

    def enter(
        self,
        eqn: Any,
        program: Any,
        inputs: Sequence[Any],
        used: Sequence[bool] | None = None,
    ) -> list[Any]:
        """Run a program that an equation calls."""
        before, self._callers = self._callers, (*self._callers, eqn)
        try:
            return self.run(program, inputs, used)
        finally:
            self._callers = before

    def place(self, eqn: Any) -> Place:
        """Return an equation of the program that is being run, with its callers."""
        return Place(eqn, self._callers)

    def stamp(self, eqn: Any) -> None:
        """Keep what the numbers noted since the last time, as met at this equation."""
        if self.numbers.events:
            self.met.append(Met(self.place(eqn), self.numbers.events))
            self.numbers.events = []

    def where(self, kind: str) -> list[Place]:
        """Return the places at which something of this kind was met, each once."""
        found: dict[int, Place] = {}
        for place, events in self.met:
            if any(event.kind == kind for event in events):
                found.setdefault(id(place.eqn), place)
        return list(found.values())

    def settled(self, eqn: Any, x: Any) -> Any:
        """Return native numbers that decide where an equation goes."""
        out = self.numbers.settled(x)
        self.stamp(eqn)
        return out

    def lifted(self, natives: Sequence[Any]) -> list[Any]:
        """Return numbers of this walk's kind in place of native floats."""
        return [self.numbers.lift(x) if _is_float(x) else x for x in natives]

    def row(self, x: Any, i: int) -> Any:
        """Return x[i], of what a loop runs over."""
        if isinstance(x, Doubtful):
            return Doubtful(x.value[i], x.open[i])
        if isinstance(x, np.ndarray):
            return x[i : i + 1].reshape(x.shape[1:])
        return np.asarray(x[i])

    def stacked(self, column: Sequence[Any]) -> Any:
        """Return what the turns of a loop made as one array."""
        if any(isinstance(x, Doubtful) for x in column):
            values = [x.value if isinstance(x, Doubtful) else x for x in column]
            opens = [
                x.open if isinstance(x, Doubtful) else np.zeros(np.shape(x), bool)
                for x in column
            ]
            return Doubtful(np.stack(values), np.stack(opens))
        return stacked(column)

    def tell(self, eqn: Any, inputs: list[Any], outputs: list[Any]) -> None:
        """Tell the hook of an equation."""
        if self._hook is not None:
            self._hook(self.place(eqn), inputs, outputs)

    @contextmanager
    def untold(self) -> Iterator[None]:
        """Tell the hook of nothing inside the block."""
        hook, self._hook = self._hook, None
        try:
            yield
        finally:
            self._hook = hook

    def _needed(
        self, jaxpr: Any, used: tuple[bool, ...]
    ) -> list[tuple[Any, list[bool]]]:
        """Return the equations that the used outputs need, in order."""
        key = id(jaxpr), used
        if key not in self._live:
            needed = {
                v for v, u in zip(jaxpr.outvars, used, strict=True) if u and _is_var(v)
            }
            kept: list[tuple[Any, list[bool]]] = []
            for eqn in reversed(jaxpr.eqns):
                outputs = [v in needed for v in eqn.outvars]
                if any(outputs):
                    kept.append((eqn, outputs))
                    needed.update(v for v in eqn.invars if _is_var(v))
            self._live[key] = kept[::-1]
        return self._live[key]


def _is_var(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)


def _literal(atom: Any) -> Any:
    """Return what a literal holds, in its own type: JAX may keep more digits."""
    dtype = atom.aval.dtype
    return np.asarray(atom.val, dtype) if _is_float_type(dtype) else atom.val


def _is_float(x: Any) -> bool:
    if isinstance(x, Doubtful):
        return _is_float(x.value)
    dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
    return not is_real(x) and _is_float_type(dtype)


def _is_float_type(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def evaluate(eqn: Any, inputs: list[Any], numbers: Any) -> list[Any]:
    """Return the outputs of one equation that is no call or loop."""
    name = eqn.primitive.name
    if any(is_complex(v.aval) for v in (*eqn.invars, *eqn.outvars)):
        raise Uncovered("complex numbers")
    if not any(is_real(x) for x in inputs):
        return native(eqn, inputs)
    if name in ELEMENTWISE:
        operands = [x if is_real(x) else numbers.lift(x) for x in inputs]
        return [numbers.elementwise(ELEMENTWISE[name], operands, _dtype(eqn))]
    if name in MOVES:
        return move(eqn, inputs, numbers)
    if name in OTHERS:
        out = OTHERS[name](eqn, inputs, numbers)
        return out if isinstance(out, list) else [out]
    raise Uncovered


# Integers, booleans and random keys: JAX itself computes them -------------------------

_NUMPY: dict[str, Callable[..., Any]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.bitwise_not,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
}


def native(eqn: Any, inputs: list[Any]) -> list[Any]:
    """Run an equation without real numbers as JAX runs it, keeping track of doubt."""
    plain = [x.value if isinstance(x, Doubtful) else x for x in inputs]
    outputs = _run(eqn, plain)
    if not any(isinstance(x, Doubtful) for x in inputs):
        return outputs
    shapes = {np.shape(x) for x in plain}
    if eqn.primitive.name in MOVES:
        masks = [
            x.open.astype(np.int32) if isinstance(x, Doubtful) else _no_doubt(x)
            for x in inputs
        ]
        moved = _run(eqn, masks, integer=True)
        return [
            Doubtful(o, np.asarray(m) != 0) for o, m in zip(outputs, moved, strict=True)
        ]
    if len(outputs) == 1 and {np.shape(outputs[0])} == shapes:
        opens = [x.open for x in inputs if isinstance(x, Doubtful)]
        return [Doubtful(outputs[0], reduce(np.logical_or, opens))]
    return [Doubtful(o, np.ones(np.shape(o), bool)) for o in outputs]


def _no_doubt(x: Any) -> Any:
    return np.zeros(np.shape(x), np.int32)


def _run(eqn: Any, inputs: list[Any], *, integer: bool = False) -> list[Any]:
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
    return [x if _is_key(x) else np.asarray(x) for x in out]


def _is_whole(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "biu"


def _is_key(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.extended))


# Movement of data ---------------------------------------------------------------------


MOVES = {*FAST_MOVES, *PICKS}


def move(eqn: Any, inputs: list[Any], numbers: Exact) -> list[Any]:
    """Move numbers as the primitive moves their positions.

    Every real operand is replaced by the positions of its elements in one long list;
    the primitive, run on those integers, says where each element goes.
    """
    if eqn.primitive.name in FAST_MOVES:
        out = FAST_MOVES[eqn.primitive.name](eqn, *inputs)
        return out if isinstance(out, list) else [out]
    if any(isinstance(x, Doubtful) for x in inputs):
        return _anything(eqn, inputs)
    pool, positions = [], []
    start = 0
    for x in inputs:
        if is_real(x):
            here = np.arange(start, start + x.size, dtype=np.int32).reshape(x.shape)
            positions.append(here)
            pool.append(x.ravel())
            start += x.size
        else:
            positions.append(x)
    fill = eqn.params.get("fill_value")
    outside = flint().arb("nan") if fill is None else flint().arb(float(fill))
    flat = np.concatenate([*pool, objects((1,), [outside])])
    return [
        objects(index.shape, list(flat[index.ravel()]))
        for index in _run(eqn, positions, integer=True)
    ]


def _anything(eqn: Any, inputs: list[Any]) -> list[Any]:
    """Return balls that hold every number moved: rounding may have moved any."""
    hull = reduce(
        union, [x for array in inputs if is_real(array) for x in array.ravel()]
    )
    fill = eqn.params.get("fill_value")
    hull = hull if fill is None else union(hull, flint().arb(float(fill)))
    shapes = [v.aval.shape for v in eqn.outvars]
    return [objects(s, [hull] * math.prod(s)) for s in shapes]


# Sums and products --------------------------------------------------------------------


def _reduced(x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Return x with the given axes moved to the end and made one."""
    kept = [i for i in range(x.ndim) if i not in axes]
    shape = [x.shape[i] for i in kept]
    return x.transpose(*kept, *axes).reshape(*shape, _count(x, axes))


def _count(x: np.ndarray, axes: Sequence[int]) -> int:
    return math.prod(x.shape[i] for i in axes)


def _dtype(eqn: Any) -> Any:
    return eqn.outvars[0].aval.dtype


def _reduce_sum(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return numbers.add_up(_reduced(inputs[0], eqn.params["axes"]), _dtype(eqn))


def _reduce_prod(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    terms = _reduced(inputs[0], eqn.params["axes"])
    if terms.shape[-1] == 0:
        return numbers.lift(np.ones(terms.shape[:-1]))
    return np.asarray(numbers.running_product(terms, _dtype(eqn))[..., -1])


def _along(eqn: Any, x: np.ndarray) -> np.ndarray:
    """Return x with the equation's axis last, reversed where it says so."""
    x = np.moveaxis(x, eqn.params["axis"], -1)
    return x[..., ::-1] if eqn.params["reverse"] else x


def _back(eqn: Any, x: np.ndarray) -> np.ndarray:
    x = x[..., ::-1] if eqn.params["reverse"] else x
    return np.moveaxis(x, -1, eqn.params["axis"])


def _cumsum(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    x = _along(eqn, inputs[0])
    sums = [numbers.add_up(x[..., : i + 1], _dtype(eqn)) for i in range(x.shape[-1])]
    return _back(eqn, np.stack(sums, -1) if sums else x)


def _cumprod(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return _back(eqn, numbers.running_product(_along(eqn, inputs[0]), _dtype(eqn)))


def _cumulative(better: str) -> Callable[[Any, list[Any], Exact], Any]:
    def best_so_far(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        x = _along(eqn, inputs[0]).copy()
        for i in range(1, x.shape[-1]):
            x[..., i] = getattr(numbers, better)(
                np.asarray(x[..., i - 1]), np.asarray(x[..., i])
            )
        return _back(eqn, x)

    return best_so_far


def _dot_general(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    (left_sum, right_sum), (left_batch, right_batch) = dot_dimensions(eqn)
    a, b = (x if is_real(x) else numbers.lift(x) for x in inputs)
    left = [i for i in range(a.ndim) if i not in (*left_sum, *left_batch)]
    right = [i for i in range(b.ndim) if i not in (*right_sum, *right_batch)]
    batch = [a.shape[i] for i in left_batch]
    rows, columns = [a.shape[i] for i in left], [b.shape[i] for i in right]
    inner = _count(a, left_sum)
    a = a.transpose(*left_batch, *left, *left_sum)
    b = b.transpose(*right_batch, *right_sum, *right)
    out = numbers.contract(
        a.reshape(math.prod(batch), math.prod(rows), inner),
        b.reshape(math.prod(batch), inner, math.prod(columns)),
        _dtype(eqn),
    )
    return out.reshape((*batch, *rows, *columns))


def _reduce_window_sum(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    (x,) = inputs
    flat = np.append(x.ravel(), objects((1,), [flint().arb(0)]))
    return numbers.add_up(flat[windows_of(eqn, x.shape)], _dtype(eqn))


def _reduce_window_best(better: str, worst: str) -> Callable[..., Any]:
    def best_of_all(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        (x,) = inputs
        flat = np.append(x.ravel(), objects((1,), [flint().arb(worst)]))
        rows = flat[windows_of(eqn, x.shape)]
        out = np.asarray(rows[..., 0])
        for i in range(1, rows.shape[-1]):
            out = getattr(numbers, better)(out, np.asarray(rows[..., i]))
        return out

    return best_of_all


def _conv(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    p = eqn.params
    (x, w), numbering = inputs, p["dimension_numbers"]
    x, w = x.transpose(numbering.lhs_spec), w.transpose(numbering.rhs_spec)
    groups, batch_groups = p["feature_group_count"], p["batch_group_count"]
    n_groups = max(groups, batch_groups)
    batch, channels, *_ = x.shape
    n_out, per_group, *kernel = w.shape
    ones = (1, 1)
    places_in = windows(
        x.shape,
        (1, 1, *kernel),
        (*ones, *p["window_strides"]),
        ((0, 0), (0, 0), *p["padding"]),
        (*ones, *p["lhs_dilation"]),
        (*ones, *p["rhs_dilation"]),
    )
    out_space, taps = places_in.shape[2:-1], places_in.shape[-1]
    flat = np.append(x.ravel(), objects((1,), [flint().arb(0)]))
    places, features = math.prod(out_space), n_out // n_groups
    patches = flat[places_in].reshape(batch, channels, places, taps)
    if batch_groups > 1:
        patches = patches.reshape(n_groups, batch // n_groups, channels, places, taps)
    else:
        patches = patches.reshape(batch, n_groups, per_group, places, taps)
        patches = patches.swapaxes(0, 1)
    # (group, batch, channel, place, tap) x (group, channel, tap, feature)
    rows = patches.shape[1]
    inner = per_group * taps
    a = patches.transpose(0, 1, 3, 2, 4).reshape(n_groups, rows * places, inner)
    b = w.reshape(n_groups, features, inner).swapaxes(1, 2)
    out = numbers.contract(a, b, _dtype(eqn))
    out = out.reshape(n_groups, rows, *out_space, features)
    out = np.moveaxis(out, (1, -1), (0, 2)).reshape(rows, n_out, *out_space)
    return out.transpose(np.argsort(numbering.out_spec))


# Scatters -----------------------------------------------------------------------------


def _scatter(combine: str) -> Callable[[Any, list[Any], Exact], Any]:
    def scatter(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        operand, indices, updates = inputs
        operand, updates = (
            x if is_real(x) else numbers.lift(x) for x in (operand, updates)
        )
        if isinstance(indices, Doubtful) and combine not in ("add", "sub"):
            indices = numbers.settled(indices)
        if isinstance(indices, Doubtful):
            return _scatter_anywhere(operand, updates, numbers, _dtype(eqn))
        places = targets(eqn, operand.shape, indices, updates.shape)
        meeting: dict[int, list[Any]] = {}
        for target, update in zip(places.tolist(), updates.ravel(), strict=True):
            if target >= 0:
                meeting.setdefault(target, []).append(update)
        out, dtype = operand.ravel().copy(), _dtype(eqn)
        for target, terms in meeting.items():
            row = objects((len(terms) + 1,), [out[target], *terms])
            if combine == "add":
                out[target] = numbers.add_up(row, dtype).item()
            elif combine == "sub":
                minus = [numbers.elementwise(ELEMENTWISE["neg"], [row[1:]], dtype)]
                out[target] = numbers.add_up(np.append(row[:1], minus), dtype).item()
            elif combine == "mul":
                out[target] = numbers.running_product(row, dtype)[-1]
            else:
                best = row[:1].reshape(())
                for x in terms:
                    best = getattr(numbers, combine)(best, objects((), [x]))
                out[target] = best.item()
        return out.reshape(operand.shape)

    return scatter


def _scatter_anywhere(
    operand: np.ndarray, updates: np.ndarray, numbers: Exact, dtype: Any
) -> np.ndarray:
    """Return balls for updates that rounding may send to any place."""
    if any(not x.is_finite() for x in (*operand.ravel(), *updates.ravel())):
        return each(lambda x: infinite(), operand)
    zero = flint().arb(0)
    reach = [union(zero, x) for x in updates.ravel()]
    changed = [numbers.add_up(objects((len(reach),), reach), dtype).item()]
    plus = ELEMENTWISE["add"]
    return numbers.elementwise(plus, [operand, objects((), changed)], dtype)


def _select_and_scatter_add(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    source, operand = inputs
    direction = {"ge": 1.0, "le": -1.0}[eqn.params["select_prim"].name]
    inside = windows_of(eqn, operand.shape)
    worst = flint().arb("-inf" if direction > 0 else "inf")
    flat = np.append(operand.ravel(), objects((1,), [worst]))
    picks = numbers.largest(flat[inside], direction)
    chosen = picks.value if isinstance(picks, Doubtful) else picks
    places = np.take_along_axis(inside, chosen[..., None], -1)[..., 0]
    landing: dict[int, list[Any]] = {}
    for place, value in zip(places.ravel().tolist(), source.ravel(), strict=True):
        landing.setdefault(place, []).append(value)
    if isinstance(picks, Doubtful):
        numbers.settled(picks)
    zero, dtype = flint().arb(0), _dtype(eqn)
    items = [landing.get(i, [zero]) for i in range(operand.size)]
    sums = [numbers.add_up(objects((len(x),), x), dtype).item() for x in items]
    return objects(operand.shape, sums)


def _select_and_gather_add(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    tangents, operand = inputs
    direction = {"ge": 1.0, "le": -1.0}[eqn.params["select_prim"].name]
    inside = windows_of(eqn, operand.shape)
    worst = flint().arb("-inf" if direction > 0 else "inf")
    flat = np.append(operand.ravel(), objects((1,), [worst]))
    picks = numbers.settled(numbers.largest(flat[inside], direction))
    places = np.take_along_axis(inside, picks[..., None], -1)[..., 0]
    return tangents.ravel()[places]


# Decisions ----------------------------------------------------------------------------


def _compare(op: str) -> Callable[[Any, list[Any], Exact], Any]:
    return lambda eqn, inputs, numbers: numbers.compare(op, *inputs)


def _select_n(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    which, *cases = inputs
    cases = [x if is_real(x) else numbers.lift(x) for x in cases]
    if not isinstance(which, Doubtful) and np.ndim(which) == 0:
        return cases[int(which)]
    return numbers.select(which, cases)


def _reduce_best(better: str, worst: str) -> Callable[[Any, list[Any], Exact], Any]:
    def best_of_all(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        rows = _reduced(inputs[0], eqn.params["axes"])
        if rows.shape[-1] == 0:
            return each(lambda x: flint().arb(worst), np.zeros(rows.shape[:-1]))
        out = np.asarray(rows[..., 0])
        for i in range(1, rows.shape[-1]):
            out = getattr(numbers, better)(out, np.asarray(rows[..., i]))
        return out

    return best_of_all


def _arg_best(direction: float) -> Callable[[Any, list[Any], Exact], Any]:
    def arg(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        found = numbers.largest(_reduced(inputs[0], eqn.params["axes"]), direction)
        kind = _dtype(eqn)
        if isinstance(found, Doubtful):
            return Doubtful(found.value.astype(kind), found.open)
        return found.astype(kind)

    return arg


def _clamp(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    low, x, high = inputs
    return numbers.minimum(numbers.maximum(x, low), high)


def _rem(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    x, y = inputs
    dtype = _dtype(eqn)
    quotient = numbers.elementwise(ELEMENTWISE["div"], [x, y], dtype)
    whole = numbers.steps(truncate, quotient)
    product = numbers.elementwise(ELEMENTWISE["mul"], [whole, y], dtype)
    return numbers.elementwise(ELEMENTWISE["sub"], [x, product], dtype)


def _steps(function: Callable[[Any], Any]) -> Callable[[Any, list[Any], Exact], Any]:
    return lambda eqn, inputs, numbers: numbers.steps(function, inputs[0])


def _sign(x: Any) -> Any:
    return flint().arb(1 if x > 0 else -1 if x < 0 else 0)


def _round(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    half, even = flint().arb(0.5), eqn.params["rounding_method"] == 1

    def nearest(x: Any) -> Any:
        outward = (x + half).floor() if x >= 0 else (x - half).ceil()
        if even and abs(x - outward) == half:
            return 2 * truncate(outward / 2)
        return outward

    return numbers.steps(nearest, inputs[0])


def _sort(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    if eqn.params["num_keys"] != 1:
        raise Uncovered("a sort by several keys")
    axis = eqn.params["dimension"]
    rows = [np.moveaxis(_array(x), axis, -1) for x in inputs]
    if not is_real(rows[0]):
        order: Any = np.argsort(rows[0], -1, kind="stable")
    else:
        order = numbers.order(rows[0])
    return [_last_to(_reordered(row, order), axis) for row in rows]


def _last_to(x: Any, axis: int) -> Any:
    if isinstance(x, Doubtful):
        return Doubtful(*(np.moveaxis(y, -1, axis) for y in x))
    return np.moveaxis(x, -1, axis)


def _array(x: Any) -> Any:
    return x.value if isinstance(x, Doubtful) else np.asarray(x)


def _reordered(row: np.ndarray, order: Any) -> Any:
    """Return a row in the given order; where that is in doubt, hulls of neighbours."""
    if not isinstance(order, Doubtful):
        return np.take_along_axis(row, order, -1)
    out = np.take_along_axis(row, order.value, -1)
    if not is_real(row):
        return Doubtful(out, order.open)
    rows = rows_of(out)
    for numbers, open_ in zip(rows, rows_of(order.open), strict=True):
        edges = np.flatnonzero(np.diff(open_, prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2):
            numbers[start:stop] = reduce(union, numbers[start:stop])
    return rows.reshape(out.shape)


def _top_k(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    axis, k = eqn.params.get("axis", inputs[0].ndim - 1), eqn.params["k"]
    row = np.moveaxis(inputs[0], axis, -1)
    negative = numbers.elementwise(ELEMENTWISE["neg"], [row], inputs[0].dtype)
    order = numbers.order(negative)
    values = _reordered(row, order)[..., :k]
    if isinstance(order, Doubtful):
        found: Any = Doubtful(
            order.value[..., :k].astype(np.int32), order.open[..., :k]
        )
    else:
        found = order[..., :k].astype(np.int32)
    return [_last_to(values, axis), _last_to(found, axis)]


# Powers and conversions ---------------------------------------------------------------


def _integer_pow(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    n = eqn.params["y"]
    rule = Rule(
        lambda x: whole_power(x, n),
        lambda x, y: (n * whole_power(x, n - 1) if n else 0,),
        abs(n) + 2,
    )
    return numbers.elementwise(rule, inputs, _dtype(eqn))


def _convert(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    (x,), new = inputs, eqn.params["new_dtype"]
    old = eqn.invars[0].aval.dtype
    if _is_float_type(new):
        narrower = jnp.finfo(new).nmant < jnp.finfo(old).nmant
        narrower |= jnp.finfo(new).maxexp < jnp.finfo(old).maxexp
        return numbers.rounded_to(x, new) if narrower else x
    if new == np.bool_:
        return numbers.compare("ne", x, numbers.lift(np.zeros((), np.float32)))
    return numbers.to_integers(x, new)


def _stop_gradient(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    return each(data, inputs[0])


def _reduce_precision(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    bits = eqn.params["mantissa_bits"]
    kind = {10: np.float16, 7: jnp.bfloat16, 23: np.float32, 52: np.float64}.get(bits)
    if kind is None:
        raise Uncovered(f"a reduction to {bits} bits")
    return numbers.rounded_to(inputs[0], kind)


def _polynomial(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
    """Return c0 + c1 x + c2 x^2 + ..., by Horner's scheme."""
    x, *coefficients = [c if is_real(c) else numbers.lift(c) for c in inputs]
    plus, times, dtype = ELEMENTWISE["add"], ELEMENTWISE["mul"], _dtype(eqn)
    out = np.broadcast_to(coefficients[-1], x.shape)
    for c in coefficients[-2::-1]:
        out = numbers.elementwise(times, [out, x], dtype)
        out = numbers.elementwise(plus, [out, c], dtype)
    return out


OTHERS: dict[str, Callable[[Any, list[Any], Exact], Any]] = {
    "abs": lambda eqn, inputs, numbers: numbers.absolute(inputs[0]),
    "argmax": _arg_best(1.0),
    "argmin": _arg_best(-1.0),
    "ceil": _steps(lambda x: x.ceil()),
    "clamp": _clamp,
    "conv_general_dilated": _conv,
    "convert_element_type": _convert,
    "cummax": _cumulative("maximum"),
    "cummin": _cumulative("minimum"),
    "cumprod": _cumprod,
    "cumsum": _cumsum,
    "dot_general": _dot_general,
    "eq": _compare("eq"),
    "floor": _steps(lambda x: x.floor()),
    "ge": _compare("ge"),
    "gt": _compare("gt"),
    "integer_pow": _integer_pow,
    "is_finite": lambda eqn, inputs, numbers: numbers.is_finite(inputs[0]),
    "le": _compare("le"),
    "lt": _compare("lt"),
    "le_to": _compare("le"),
    "lt_to": _compare("lt"),
    "max": lambda eqn, inputs, numbers: numbers.maximum(*inputs),
    "min": lambda eqn, inputs, numbers: numbers.minimum(*inputs),
    "ne": _compare("ne"),
    "optimization_barrier": lambda eqn, inputs, numbers: list(inputs),
    "polynomial": _polynomial,
    "product": _dot_general,
    "reduce_max": _reduce_best("maximum", "-inf"),
    "reduce_min": _reduce_best("minimum", "inf"),
    "reduce_precision": _reduce_precision,
    "reduce_prod": _reduce_prod,
    "reduce_sum": _reduce_sum,
    "reduce_window_max": _reduce_window_best("maximum", "-inf"),
    "reduce_window_min": _reduce_window_best("minimum", "inf"),
    "reduce_window_sum": _reduce_window_sum,
    "rem": _rem,
    "round": _round,
    "scatter-add": _scatter("add"),
    "scatter-max": _scatter("maximum"),
    "scatter-min": _scatter("minimum"),
    "scatter-mul": _scatter("mul"),
    "scatter-sub": _scatter("sub"),
    "scatter_max": _scatter("maximum"),
    "scatter_min": _scatter("minimum"),
    "scatter_mul": _scatter("mul"),
    "select_and_gather_add": _select_and_gather_add,
    "select_and_scatter_add": _select_and_scatter_add,
    "select_n": _select_n,
    "sign": _steps(_sign),
    "sort": _sort,
    "stop_gradient": _stop_gradient,
    "top_k": _top_k,
}


# Calls, loops and branches ------------------------------------------------------------


def _custom_call(
    walk: Walk, eqn: Any, inputs: list[Any], used: list[bool]
) -> list[Any]:
    """Follow the primal of a function with a rule of its own.

    A few functions inside JAX approximate a known one by hand; they are read as that,
    and no hook is told of them.
    """
    known = APPROXIMATED.get(name_within_jax(eqn) or "")
    if known is not None and any(is_real(x) for x in inputs):
        outputs = [walk.numbers.elementwise(known, inputs, _dtype(eqn))]
        walk.stamp(eqn)
        return outputs
    if walk.inside_custom_rules and known is None:
        return call(walk, eqn, inputs, used)
    with walk.untold():
        outputs = call(walk, eqn, inputs, used)
    if known is None:
        walk.tell(eqn, inputs, outputs)
    return outputs


CALLS = {**control.CALLS, **dict.fromkeys(CUSTOM_CALLS, _custom_call)}
