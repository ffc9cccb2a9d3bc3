"""Scalars of the reference engine: the true derivative of a program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from funcgrad.testing.engine import Value
from funcgrad.testing.numbers.exact import Exact, data
from funcgrad.testing.numbers.objects import each, rows_of
from funcgrad.testing.numbers.real import REAL
from funcgrad.testing.rules.elementwise import Rule


class Truth(Exact):
    """Scalars of the reference engine, so that `.backward()` gives derivatives."""

    def elementwise(
        self, rule: Rule, arrays: list[np.ndarray], dtype: Any
    ) -> np.ndarray:
        if rule.engine is not None:
            return each(rule.engine, *arrays)
        value, slopes = rule.value, rule.slopes

        def node(*scalars: Any) -> Any:
            plain = [data(x) for x in scalars]
            out = value(REAL, *plain)
            taped = [i for i, x in enumerate(scalars) if type(x) is Value]
            if not taped:
                return out
            local = slopes(REAL, *plain, out)
            return Value(
                out,
                tuple(scalars[i] for i in taped),
                "rule",
                tuple(local[i] for i in taped),
            )

        return each(node, *arrays)

    def contract(self, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
        plain_a, plain_b = each(data, a), each(data, b)
        out = super().contract(plain_a, plain_b, dtype)
        for batch in range(a.shape[0]):
            columns = list(b[batch].T)
            plain_columns = [list(column) for column in plain_b[batch].T]
            for m, row in enumerate(a[batch]):
                plain_row = list(plain_a[batch, m])
                for n, column in enumerate(columns):
                    children, local = _product_rule(
                        row, plain_row, column, plain_columns[n]
                    )
                    if children:
                        exact = out[batch, m, n]
                        out[batch, m, n] = Value(exact, children, "dot", local)
        return out

    def add_up(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().add_up(each(data, terms), dtype).reshape(-1)
        for i, row in enumerate(rows_of(terms)):
            children = tuple(x for x in row if type(x) is Value)
            if children:
                out[i] = Value(out[i], children, "sum", (1,) * len(children))
        return out.reshape(terms.shape[:-1])

    def running_sum(self, terms: np.ndarray, dtype: Any) -> np.ndarray:
        out = super().running_sum(each(data, terms), dtype)
        for sums, row in zip(rows_of(out), rows_of(terms), strict=True):
            before: Any = None
            for i, x in enumerate(row):
                children = tuple(y for y in (before, x) if type(y) is Value)
                if children:
                    sums[i] = Value(sums[i], children, "sum", (1,) * len(children))
                before = sums[i]
        return out


def _product_rule(
    row: np.ndarray, plain_row: list[Any], column: np.ndarray, plain_column: list[Any]
) -> tuple[tuple[Value, ...], tuple[Any, ...]]:
    pairs: Iterator[tuple[Value, Any]] = (
        (child, local)
        for scalars, others in ((row, plain_column), (column, plain_row))
        for child, local in zip(scalars, others, strict=True)
        if type(child) is Value
    )
    children_and_local = list(zip(*pairs, strict=True))
    return children_and_local if children_and_local else ((), ())  # type: ignore
