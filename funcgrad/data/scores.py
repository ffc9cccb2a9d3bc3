"""How good predictions are, beside what a guess without the net would score."""

from typing import NamedTuple

import numpy as np


class Accuracy(NamedTuple):
    """Classes: the share of `rows` predicted right, and that of the commonest class."""

    share: float
    commonest: float
    rows: int

    def __str__(self) -> str:
        return f"accuracy {100 * self.share:.1f} %"

    def beside_a_guess(self) -> str:
        """Return the score and what always guessing the same would have."""
        return (
            f"{self} on {self.rows:,} rows (always guessing the commonest class: "
            f"{100 * self.commonest:.1f} %)"
        )


class RSquared(NamedTuple):
    """A quantity: 1 - mean squared error / variance, which the mean alone scores 0.

    error, spread: the root mean squared error, and the standard deviation of the true
    values, both in the units of the column.
    """

    value: float
    error: float
    spread: float
    rows: int

    def __str__(self) -> str:
        return f"R² {self.value:.3f}"

    def beside_a_guess(self) -> str:
        """Return the score and what always guessing the mean would have."""
        return (
            f"{self} on {self.rows:,} rows, root mean squared error {self.error:.4g} "
            f"(always guessing the mean: {self.spread:.4g})"
        )


Score = Accuracy | RSquared


def accuracy(chosen: np.ndarray, labels: np.ndarray) -> Accuracy:
    """Return how many of the `chosen` classes are the true `labels`, both (rows,)."""
    commonest = np.max(np.bincount(labels)) / len(labels)
    return Accuracy(float(np.mean(chosen == labels)), float(commonest), len(labels))


def r_squared(predicted: np.ndarray, true: np.ndarray, scale: float) -> RSquared:
    """Compare standardised numbers, (rows,); `scale` is a unit of them."""
    predicted, true = predicted.astype(np.float64), true.astype(np.float64)
    error, spread = np.mean((predicted - true) ** 2), np.std(true)
    return RSquared(
        float(1 - error / np.var(true)),
        float(scale * np.sqrt(error)),
        float(scale * spread),
        len(true),
    )
