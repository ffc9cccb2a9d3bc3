"""scikit-learn's tables, as CSV files."""

import csv
from typing import NamedTuple

import numpy as np
from sklearn import datasets


class Real(NamedTuple):
    """A table from scikit-learn; `y` as it stands in the CSV file."""

    x: np.ndarray
    y: list[str]
    names: list[str]


def real(name: str) -> Real:
    bunch = getattr(datasets, f"load_{name}")()
    y = bunch.target
    if name in ("iris", "breast_cancer"):
        y = bunch.target_names[y]
    return Real(bunch.data, [str(v) for v in y], [str(n) for n in bunch.feature_names])


def write(path, table: Real, rows=slice(None), with_target: bool = True) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.names + ["target"] * with_target)
        for x, y in list(zip(table.x.tolist(), table.y, strict=True))[rows]:
            writer.writerow(x + [y] * with_target)
