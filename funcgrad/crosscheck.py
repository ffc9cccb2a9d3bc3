"""The line that `funcgrad train` prints before it trains: two engines, one gradient."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

import reference
from funcgrad.model import Objective

# The scalar engine takes about 5 us for each parameter and row, so this is a second.
_PARAMETERS_TIMES_ROWS = 200_000

# float32 carries 7 digits, and sums over rows and layers keep at least 3 of them. What
# differs by more is a wrong rule, or a relu within rounding of its kink.
_ROUNDING = 1e-3


def gradient_line(
    objective: Objective,
    params: Any,
    batch: tuple[np.ndarray, np.ndarray],
    *,
    activation: str,
    loss: str,
    penalty: float,
) -> str:
    """Say how far `jax.grad(objective)` is from the scalar engine's gradient.

    The scalar engine rebuilds the whole objective, loss(outputs, y) + penalty * l2, out
    of one float `Value` for each number (float64), on as many rows of the batch as
    take about a second, and says so if not even one does.
    """
    leaves = jax.tree.leaves(params)
    count = sum(leaf.size for leaf in leaves)
    rows = min(len(batch[0]), _PARAMETERS_TIMES_ROWS // count)
    if not rows:
        return (
            f"gradients: not compared with the scalar engine, as one row with "
            f"{count:,} parameters would take it longer than a second"
        )
    x, y = batch[0][:rows], batch[1][:rows]

    lists = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), params)

    def scalar_gradient() -> list[Any]:
        model = reference.MLP.from_params(lists, activation, "linear")
        total = _LOSSES[loss]([_as_list(model(row)) for row in x.tolist()], y.tolist())
        (total + penalty * sum(p**2 for p in model.parameters())).backward()
        return jax.tree.leaves(model.to_params("grad"), is_leaf=_is_numbers)

    # XLA compiles without holding Python's lock, so the two go on side by side.
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(scalar_gradient)
        compiled = jax.tree.leaves(jax.jit(jax.grad(objective))(params, (x, y)))
        exact = job.result()

    largest = max(np.max(np.abs(e)) for e in exact)
    worst = max(
        np.max(np.abs(np.asarray(c, np.float64) - e))
        for c, e in zip(compiled, exact, strict=True)
    )
    line = (
        f"gradients: all {count:,} compared with the scalar engine on {rows:,} of "
        f"{len(batch[0]):,} rows; worst difference {worst / (largest or 1):.1e} of the "
        f"largest"
    )
    if worst > _ROUNDING * largest:
        line += ", MORE THAN ROUNDING EXPLAINS"
    return line


def _hinge(outputs: list[list[Any]], y: Sequence[float]) -> Any:
    return _mean(
        (1 - (2 * k - 1) * o).relu() for (o,), k in zip(outputs, y, strict=True)
    )


def _binary_cross_entropy(outputs: list[list[Any]], y: Sequence[float]) -> Any:
    return _mean(_softplus(-o if k else o) for (o,), k in zip(outputs, y, strict=True))


def _cross_entropy(outputs: list[list[Any]], y: Sequence[int]) -> Any:
    return _mean(_log_sum_exp(o) - o[k] for o, k in zip(outputs, y, strict=True))


def _mean_squared_error(outputs: list[list[Any]], y: Sequence[float]) -> Any:
    return _mean((o - t) ** 2 for (o,), t in zip(outputs, y, strict=True))


_LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "hinge": _hinge,
    "binary_cross_entropy": _binary_cross_entropy,
    "cross_entropy": _cross_entropy,
    "mean_squared_error": _mean_squared_error,
}


def _softplus(x: Any) -> Any:
    """Return log(1 + e^x), written so that no exponential overflows."""
    return x + (1 + (-x).exp()).log() if x > 0 else (1 + x.exp()).log()


def _log_sum_exp(xs: list[Any]) -> Any:
    largest = max(x.data for x in xs)
    return sum((x - largest).exp() for x in xs).log() + largest


def _mean(values: Any) -> Any:
    values = list(values)
    return sum(values) / len(values)


def _as_list(output: Any) -> list[Any]:
    return output if isinstance(output, list) else [output]


def _is_numbers(tree: Any) -> bool:
    """Tell a nested list of numbers, one leaf of the params, from the tree itself."""
    return isinstance(tree, list) and not isinstance(tree[0], tuple)
