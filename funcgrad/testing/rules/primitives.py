"""All primitives but the elementwise ones, by name.

`rule(walk, eqn, inputs)` returns the output of an equation, or a list of them. It says
what the primitive means; how numbers are added, compared and moved, the walk knows:

| what differs        | asked for by                                                   |
|---------------------|----------------------------------------------------------------|
| arithmetic          | `walk.numbers`: `sum_over`, `running_sum`, `contract`, ...     |
| data moved          | `walk.numbers.moved(function, arrays)`, a function of NumPy    |
| what is decided     | `walk.decisions`: `compare`, `best`, `largest`, `order`, ...   |
| elementwise rules   | `walk.elementwise(eqn, rule, inputs)`                          |
| updates that meet   | `walk.added_at(eqn, places, updates, shape, onto)`             |
| places to go to     | `walk.settled(eqn, x)`, where rounding may have changed them   |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.testing.rules.conversions import CONVERSIONS
from funcgrad.testing.rules.decisions import DECISIONS
from funcgrad.testing.rules.movement import MOVEMENT
from funcgrad.testing.rules.scatters import SCATTERS
from funcgrad.testing.rules.sums import SUMS

PRIMITIVES: dict[str, Callable[[Any, Any, list[Any]], Any]] = {
    **MOVEMENT,
    **SUMS,
    **SCATTERS,
    **DECISIONS,
    **CONVERSIONS,
}
