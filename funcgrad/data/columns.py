"""What a column of a table means to a net: the way in, and the way back.

A column is fitted to cells once; afterwards `encode` turns cells into what a net sees,
`labels` into what a loss compares with, and `decode` turns a net's outputs into cells.
Cells are a polars Series or a NumPy array, of text or of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from funcgrad.data.scores import Accuracy, RSquared, accuracy, r_squared
from funcgrad.data.table import is_polars
from funcgrad.errors import InputError, and_more, listed

if TYPE_CHECKING:
    import polars as pl

Cells = Any
"""A polars Series or a NumPy array, one entry a row."""

# A column in which at least this share of the cells are numbers is a column of numbers,
# and the other cells are mistakes in it; below, it is text that contains some digits.
_NUMBERS_FROM = 0.9


@dataclass(frozen=True)
class Number:
    """A column of numbers; a net sees (value - mean) / scale, and says the same."""

    name: str
    mean: float
    scale: float

    # Features a net sees of it, outputs that predict it, classes to choose between.
    width: ClassVar[int] = 1
    outputs: ClassVar[int] = 1
    classes: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[str] = "number"

    @classmethod
    def fit(cls, name: str, cells: Cells) -> Number:
        """Return the column whose cells get mean 0 and standard deviation 1.

        The scale is 0 where all cells are equal.
        """
        values = numbers(name, cells)
        if np.all(values == values[0]):
            return cls(name, float(values[0]), 0.0)
        with np.errstate(over="ignore"):
            mean, scale = float(np.mean(values)), float(np.std(values))
        if not np.isfinite(scale):
            raise InputError(
                f"column {name!r} has numbers too large to square: rescale it"
            )
        return cls(name, mean, scale)

    @property
    def varies(self) -> bool:
        """Whether there is something to learn from it, or about it."""
        return self.scale > 0

    def encode(self, cells: Cells) -> np.ndarray:
        """Return what a net sees, float64 of shape (rows, 1)."""
        return ((numbers(self.name, cells) - self.mean) / self.scale)[:, None]

    def labels(self, cells: Cells) -> np.ndarray:
        """Return what a net's output is compared with, float32 of shape (rows,)."""
        return self.encode(cells)[:, 0].astype(np.float32)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return numbers in the column's units for outputs (rows, 1)."""
        return self.mean + self.scale * outputs[:, 0].astype(np.float64)

    def probability(self, outputs: np.ndarray) -> None:
        """Return None: of a number, a net says no probability."""

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> RSquared:
        """Return how close outputs (rows, 1) are to the labels."""
        return r_squared(outputs[:, 0], labels, self.scale)

    def describe(self) -> str:
        """Return in words what there is to predict."""
        return f"the quantity {self.name!r}"


@dataclass(frozen=True)
class Category:
    """A column of text; a net sees a 1 at the place of the value, and 0 elsewhere."""

    name: str
    values: tuple[str, ...]

    kind: ClassVar[str] = "text"

    @classmethod
    def fit(cls, name: str, cells: pl.Series) -> Category:
        """Return the column with its different values, whole numbers in their order."""
        key: Any = (lambda v: (int(v), v)) if is_whole(cells) else None
        return cls(name, tuple(sorted(cells.unique().to_list(), key=key)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The values that a prediction chooses between."""
        return self.values

    @property
    def width(self) -> int:
        """The number of features that a net sees of it."""
        return len(self.values)

    @property
    def outputs(self) -> int:
        """The number of a net's outputs that choose: one sign decides on two."""
        return 1 if len(self.values) <= 2 else len(self.values)

    @property
    def varies(self) -> bool:
        """Whether there is something to learn from it, or about it."""
        return len(self.values) > 1

    def encode(self, cells: Cells) -> np.ndarray:
        """Return what a net sees, float64 of shape (rows, values)."""
        labels = self.labels(cells)
        seen = np.zeros((len(labels), len(self.values)))
        seen[np.arange(len(labels)), labels] = 1
        return seen

    def labels(self, cells: Cells) -> np.ndarray:
        """Return each cell's place among the values, int32 (rows,); name a new one."""
        place = {value: i for i, value in enumerate(self.values)}
        texts = [str(cell) for cell in _items(cells)]
        unseen = [(i, text) for i, text in enumerate(texts) if text not in place]
        if unseen:
            row, text = unseen[0]
            raise InputError(
                f"column {self.name!r} must be one of {listed(self.values)}, as in "
                f"training, got {text!r} in row {row + 1}{and_more(len(unseen))}: "
                f"correct it, or train again with such rows"
            )
        return np.array([place[text] for text in texts], np.int32)

    def choose(self, outputs: np.ndarray) -> np.ndarray:
        """Return the place of the value that outputs choose, (rows,)."""
        if outputs.shape[1] == 1:
            return (outputs[:, 0] > 0).astype(np.int32)
        return np.argmax(outputs, axis=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the values that outputs (rows, outputs) choose, as text."""
        return np.array(self.values, dtype=object)[self.choose(outputs)]

    def probability(self, outputs: np.ndarray) -> np.ndarray:
        """Return the chosen value's probability, by sigmoid or softmax, (rows,)."""
        outputs = outputs.astype(np.float64)
        if outputs.shape[1] == 1:
            # The exponent is never above 0, so nothing overflows.
            return 1 / (1 + np.exp(-np.abs(outputs[:, 0])))
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return shifted.max(axis=1) / shifted.sum(axis=1)

    def score(self, outputs: np.ndarray, labels: np.ndarray) -> Accuracy:
        """Return how many rows' outputs choose the label."""
        return accuracy(self.choose(outputs), labels)

    def describe(self) -> str:
        """Return in words what there is to predict."""
        return f"{len(self.values)} classes of {self.name!r}"


Column = Number | Category


def describe_input(column: Column) -> str:
    """Return in words what a net takes of a column."""
    if not column.classes:
        return f"{column.name!r}, a number"
    return f"{column.name!r}, one of {listed(column.classes)}"


def to_dict(column: Column) -> dict[str, Any]:
    """Return the column as `from_dict` takes it."""
    return {"kind": column.kind} | asdict(column)


def from_dict(about: dict[str, Any]) -> Column:
    """Return the column that `to_dict` described, or raise ValueError or KeyError."""
    if not isinstance(about, dict):
        raise ValueError("a column must have a name and a kind")
    name = _text(about["name"])
    if about["kind"] == Number.kind:
        mean, scale = (_finite(about[key]) for key in ("mean", "scale"))
        if scale <= 0:
            raise ValueError(f"the scale of column {name!r} must be above 0")
        return Number(name, mean, scale)
    if about["kind"] != Category.kind:
        raise ValueError(f"column {name!r} is of no kind that is known")
    values = about["values"]
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"column {name!r} must have a list of values")
    if len({_text(value) for value in values}) < len(values):
        raise ValueError(f"column {name!r} has a value twice")
    return Category(name, tuple(values))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a column's names must be text, got {type(value).__name__}")
    value.encode()  # raises ValueError where UTF-8 cannot write it
    return value


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not np.isfinite(float(value)):
        raise ValueError("a column's mean and scale must be finite numbers")
    return float(value)


def fit_input(name: str, cells: pl.Series, known: np.ndarray) -> Column:
    """Return the column of the kind that the cells are of.

    A mean and a scale come from the `known` rows alone, bool (rows,); the values of a
    text from all, so that none is new later.
    """
    if is_number(cells):
        return Number.fit(name, numbers(name, cells)[known])
    return Category.fit(name, cells)


def encode(columns: Sequence[Column], cells: Sequence[Cells]) -> np.ndarray:
    """Return what the net sees of all columns, float32 of shape (rows, features)."""
    parts = [c.encode(own) for c, own in zip(columns, cells, strict=True)]
    with np.errstate(over="ignore"):
        x = np.concatenate(parts, axis=1).astype(np.float32)
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(axis=1)))
        raise InputError(
            f"row {row + 1} has a number too far from those in training for float32: "
            f"correct it or leave the row out"
        )
    return x


def width(columns: Sequence[Column]) -> int:
    """Return the number of features that these columns take."""
    return sum(column.width for column in columns)


def is_number(cells: pl.Series) -> bool:
    """Tell whether cells are numbers, perhaps with a few mistakes among them."""
    _, bad = _parse(cells)
    return len(cells) - int(bad.sum()) >= _NUMBERS_FROM * len(cells)


def is_whole(cells: pl.Series) -> bool:
    """Tell whether every cell is a number without a decimal point."""
    return bool(cells.str.contains(r"^[+-]?\d+$").all())


def numbers(name: str, cells: Cells) -> np.ndarray:
    """Return cells as float64, or raise at the first that is no finite number."""
    values, bad = _parse(cells)
    for wrong, required in ((bad, "numbers"), (~np.isfinite(values), "finite numbers")):
        if wrong.any():
            row = int(np.argmax(wrong))
            cell = _items(cells)[row]
            given = repr(cell) if wrong is bad else cell
            raise InputError(
                f"column {name!r} must hold {required}, got {given} in row {row + 1}"
                f"{and_more(int(wrong.sum()))}: correct it or leave the row out"
            )
    return values


def _parse(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return cells as float64, and which of them are no numbers, bool (rows,)."""
    if not is_polars(cells) and cells.dtype.kind in "biuf":
        return cells.astype(np.float64), np.zeros(len(cells), bool)
    import polars as pl

    series = cells if is_polars(cells) else pl.Series(_items(cells), strict=False)
    parsed = series.cast(pl.Float64, strict=False)
    return parsed.to_numpy(), parsed.is_null().to_numpy()


def _items(cells: Cells) -> list[Any]:
    return cells.to_list() if is_polars(cells) else cells.tolist()
