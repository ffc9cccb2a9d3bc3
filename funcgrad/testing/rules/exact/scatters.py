"""Updates that meet what is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcgrad.jaxprs import result_dtype
from funcgrad.testing.flint import flint
from funcgrad.testing.numbers.balls import infinite, union
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.numbers.objects import Doubtful, each, is_real, objects
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.rules.movement import (
    targets,
    windows_of,
)


def _scatter(combine: str) -> Callable[[Any, list[Any], Exact], Any]:
    def scatter(eqn: Any, inputs: list[Any], numbers: Exact) -> Any:
        operand, indices, updates = inputs
        operand, updates = (
            x if is_real(x) else numbers.lift(x) for x in (operand, updates)
        )
        if isinstance(indices, Doubtful) and combine not in ("add", "sub"):
            indices = numbers.settled(indices)
        if isinstance(indices, Doubtful):
            return _scatter_anywhere(operand, updates, numbers, result_dtype(eqn))
        places = targets(eqn, operand.shape, indices, updates.shape)
        meeting: dict[int, list[Any]] = {}
        for target, update in zip(places.tolist(), updates.ravel(), strict=True):
            if target >= 0:
                meeting.setdefault(target, []).append(update)
        out, dtype = operand.ravel().copy(), result_dtype(eqn)
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
    zero, dtype = flint().arb(0), result_dtype(eqn)
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


SCATTERS: dict[str, Callable[[Any, list[Any], Exact], Any]] = {
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
}
