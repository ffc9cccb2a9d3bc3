"""Tables as they are read: separators, spaces, and what people write for unknown."""

import numpy as np
import polars as pl
import pytest

from funcgrad.data import read_table
from funcgrad.data.table import cells_of
from funcgrad.errors import InputError


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_the_most_frequent_in_the_header(tmp_path, separator):
    lines = [("a", " b ", "c,d" if separator != "," else "c;d"), ("1", " x y ", "2.5")]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(separator.join(line) for line in lines) + "\n")
    table = read_table(path)
    assert table.columns == ["a", "b", lines[0][2]]
    assert table.rows() == [("1", "x y", "2.5")]


@pytest.mark.parametrize(
    "word", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", " NA "]
)
def test_what_people_write_for_unknown_is_missing(tmp_path, word):
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n1,{word}\n{word},2\n3,{word}\n")
    with pytest.raises(InputError, match=r"missing values, 1 in 'a', 2 in 'b'"):
        cells_of(read_table(path), ["a", "b"])


def test_other_words_and_numbers_are_not_missing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\nnone,0\nNA 1,-\n")
    a, b = cells_of(read_table(path), ["a", "b"])
    assert (a.to_list(), b.to_list()) == (["none", "NA 1"], ["0", "-"])


@pytest.mark.parametrize(
    "column",
    [
        np.array([1.0, np.nan, 2.0]),
        np.array(["1", "NA", "2"]),
        np.array([1, None, 2], object),
        pl.Series([1, None, 2]),
        pl.Series(["1", None, "2"]),
    ],
)
def test_unknown_cells_are_counted_in_every_kind_of_column(column):
    with pytest.raises(InputError, match="missing values, 1 in 'a'"):
        cells_of({"a": column}, ["a"])
    assert len(cells_of({"a": column[[0, 2]]}, ["a"])[0]) == 2


def test_columns_come_in_the_order_asked_for():
    one, other = cells_of({"a": [1], "b": [2]}, ["b", "a"])
    assert (one.tolist(), other.tolist()) == ([2], [1])
    one, other = cells_of([[1, 2], [3, 4]], ["a", "b"])
    assert (one.tolist(), other.tolist()) == ([1, 3], [2, 4])
