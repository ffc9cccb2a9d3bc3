"""A column's way there and back: fit, encode, labels, decode."""

import numpy as np
import polars as pl
import pytest

from funcgrad.data import Category, Number
from funcgrad.data.columns import encode, fit_input, from_dict, to_dict, width
from funcgrad.errors import InputError

CELLS = ["1", "3", "5", "7"]  # mean 4, standard deviation sqrt(5)


def kinds_of_cells(cells):
    """Return the same cells as text and as numbers, of polars and of NumPy."""
    numbers = [float(cell) for cell in cells]
    return [pl.Series(cells), np.array(cells), np.array(numbers), pl.Series(numbers)]


def test_a_number_goes_in_and_comes_back():
    for cells in kinds_of_cells(CELLS):
        column = Number.fit("n", cells)
        assert (column.mean, column.scale) == (4.0, np.sqrt(5))
        seen = column.encode(cells)
        assert seen.shape == (4, column.width)
        assert seen[:, 0].tolist() == ((np.arange(1, 8, 2) - 4) / np.sqrt(5)).tolist()
        assert column.labels(cells).dtype == np.float32
        # There and back in float64 rounds twice, each time by half an ulp of 7.
        assert np.allclose(column.decode(seen), [1, 3, 5, 7], rtol=1e-15, atol=0)


def test_equal_numbers_have_no_scale():
    column = Number.fit("n", np.array(["2.5", "2.5"]))
    assert column == Number("n", 2.5, 0.0)
    assert not column.varies
    assert Number.fit("n", np.array([2.0, 4.0])).varies


def test_a_category_goes_in_and_comes_back():
    column = Category.fit("c", pl.Series(["b", "a", "c", "b"]))
    assert column.classes == ("a", "b", "c")
    assert column.encode(np.array(["b", "c"])).tolist() == [[0, 1, 0], [0, 0, 1]]
    labels = column.labels(pl.Series(["b", "c", "a"]))
    assert labels.tolist() == [1, 2, 0]
    assert labels.dtype == np.int32
    assert column.outputs == 3
    assert column.decode(np.eye(3)[labels]).tolist() == ["b", "c", "a"]
    two = Category("c", ("no", "yes"))
    assert two.outputs == 1
    assert two.decode(np.array([[-1.0], [0.0], [1.0]])).tolist() == ["no", "no", "yes"]
    # Outputs are logits, of which 0 is even, and not probabilities.
    assert two.choose(np.array([[0.25], [-0.25]])).tolist() == [1, 0]


def test_whole_numbers_are_in_their_order_and_text_in_that_of_letters():
    assert Category.fit("c", pl.Series(["10", "9", "-1"])).values == ("-1", "9", "10")
    assert Category.fit("c", pl.Series(["10", "9", "x"])).values == ("10", "9", "x")


def test_the_kind_is_that_of_nine_cells_in_ten():
    known = np.ones(10, bool)
    mistaken = [*map(str, range(9)), "many"]
    with pytest.raises(InputError, match="must hold numbers, got 'many' in row 10"):
        fit_input("n", pl.Series(mistaken), known)
    assert fit_input("n", pl.Series([*mistaken[:8], "x", "y"]), known).classes
    known[5:] = False
    column = fit_input("n", pl.Series([str(i) for i in range(10)]), known)
    assert column == Number("n", 2.0, np.sqrt(2))  # of the first five alone


def test_columns_side_by_side():
    columns = [Number("n", 4.0, 2.0), Category("c", ("a", "b"))]
    x = encode(columns, [np.array([2.0, 6.0]), np.array(["b", "a"])])
    assert x.tolist() == [[-1, 0, 1], [1, 1, 0]]
    assert x.dtype == np.float32
    assert width(columns) == x.shape[1]
    with pytest.raises(InputError, match="row 2 has a number too far"):
        encode(columns, [np.array([2.0, 1e60]), np.array(["b", "a"])])


@pytest.mark.parametrize("column", [Number("n", 0.1, 3.0), Category("c", ("a", "b"))])
def test_a_dict_of_it_is_the_column_again(column):
    assert from_dict(to_dict(column)) == column


def test_scores():
    number, category = Number("n", 0.0, 10.0), Category("c", ("a", "b"))
    perfect = number.score(np.float32([[1], [2]]), np.float32([1, 2]))
    assert (perfect.value, perfect.error, perfect.spread) == (1.0, 0.0, 5.0)
    assert str(perfect) == "R² 1.000"
    half = category.score(np.float32([[1], [1], [1], [-1]]), np.array([1, 1, 0, 1]))
    assert str(half) == "accuracy 50.0 %"
    assert half.commonest == 0.75
