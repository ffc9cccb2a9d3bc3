"""A saved model is loaded and asked, on tables and arrays, in the table's own units."""

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import funcgrad as fg
from funcgrad.data import Category, Number, Predictor, read_table
from funcgrad.data.predictor import net
from funcgrad.errors import InputError

# Models that funcgrad 0.1.0 wrote, and beside each what it then predicted.
SAVED = Path(__file__).with_name("saved_by_0.1.0")
NAMES = ("moons", "mixed", "quantity")


def load(name):
    """Return a predictor of 0.1.0, the rows it was asked, and what it said."""
    with open(SAVED / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return Predictor.load(SAVED / f"{name}.safetensors"), rows


def assert_same(found, expected):
    # float32 in perhaps another order: sums of at most 10 terms, each rounded by half
    # an ulp, and a tanh of 8 ulps; the outputs' size is that of the result or less.
    assert np.allclose(found, np.float64(expected), rtol=20 * np.finfo("f").eps, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_version_0_1_0_says_what_it_said(name):
    predictor, rows = load(name)
    values, certainty = predictor.predict(read_table(SAVED / f"{name}.csv"))
    said = [row["prediction"] for row in rows]
    if name == "quantity":
        assert certainty is None
        assert_same(values, said)
        return
    assert values.tolist() == said
    last = "score" if name == "moons" else "probability"
    assert_same(certainty, [row[last] for row in rows])


def test_the_comparison_can_fail():
    predictor, rows = load("quantity")
    values, _ = predictor.predict(read_table(SAVED / "quantity.csv"))
    with pytest.raises(AssertionError):
        assert_same(values * (1 + 1e-5), [row["prediction"] for row in rows])


@pytest.mark.parametrize("name", NAMES)
def test_a_table_a_mapping_and_an_array_are_the_same(name):
    predictor, rows = load(name)
    names = [column.name for column in predictor.inputs]
    expected = predictor.predict(read_table(SAVED / f"{name}.csv"))
    columns = {n: [row[n] for row in rows] for n in names}
    typed = {
        c.name: columns[c.name] if c.classes else np.float64(columns[c.name])
        for c in predictor.inputs
    }
    others = [
        columns,
        typed,
        pl.DataFrame(typed),
        np.array([columns[n] for n in names], object).T,
        list(zip(*columns.values(), strict=True)),
    ]
    if name == "moons":
        others.append(np.array([typed[n] for n in names]).T)
    for other in others:
        found = predictor.predict(other)
        assert found.values.tolist() == expected.values.tolist()
        assert np.array_equal(found.certainty, expected.certainty)


def test_what_was_saved_is_loaded(tmp_path):
    predictor, _ = load("mixed")
    predictor.save(tmp_path / "again")
    again = Predictor.load(tmp_path / "again")
    assert again._replace(params=None) == predictor._replace(params=None)
    assert all(
        np.array_equal(a, b)
        for one, other in zip(again.params, predictor.params, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    assert (tmp_path / "again").stat().st_size > 500


def tiny(loss, target, w, b):
    """Return a linear net on one input that is taken as it is."""
    params = (fg.Layer(np.float32(w), np.float32(b)),)
    x = Number("x", 0.0, 1.0)
    return Predictor((1, len(b)), "relu", loss, (x,), target, params)


def test_outputs_are_decoded_in_words_and_units():
    quantity = tiny("mean_squared_error", Number("y", 10.0, 2.0), [[3]], [1])
    assert quantity.predict([[0.0], [1.0]]).values.tolist() == [12.0, 18.0]
    two = tiny("binary_cross_entropy", Category("y", ("no", "yes")), [[1]], [0])
    values, certainty = two.predict([[-1.0], [0.0], [np.log(3)]])
    assert values.tolist() == ["no", "no", "yes"]
    # 1 / (1 + e^-1), 1 / 2, and 3 / 4, to the digits of the float32 outputs.
    assert np.allclose(certainty, [0.7310586, 0.5, 0.75], rtol=1e-6, atol=0)
    three = tiny("cross_entropy", Category("y", tuple("abc")), [[1, 0, -1]], [0, 0, 0])
    values, certainty = three.predict([[1.0], [-2.0]])
    assert values.tolist() == ["a", "c"]
    softmax = [np.e / (np.e + 1 + 1 / np.e), np.e**2 / (np.e**2 + 1 + np.e**-2)]
    assert np.allclose(certainty, softmax, rtol=1e-6, atol=0)


def test_evaluate_compares_with_a_guess():
    two = tiny("hinge", Category("y", ("no", "yes")), [[1]], [0])
    score = two.evaluate({"x": [1, 2, -1, 3], "y": ["yes", "no", "no", "yes"]})
    assert (score.share, score.commonest, score.rows) == (0.75, 0.5, 4)
    quantity = tiny("mean_squared_error", Number("y", 0.0, 2.0), [[1]], [0])
    score = quantity.evaluate({"x": [0, 1, 2], "y": [0, 2, 6]})
    # Standardised: outputs 0, 1, 2 and labels 0, 1, 3.
    assert score.value == 1 - (1 / 3) / np.var([0, 1, 3])
    assert score.error == pytest.approx(2 * np.sqrt(1 / 3), rel=1e-12)
    assert score.spread == pytest.approx(2 * np.std([0, 1, 3]), rel=1e-12)


def test_any_number_of_rows_goes_through_one_compiled_function():
    predictor, _ = load("moons")
    x = np.random.default_rng(0).normal(size=(4097, 2)).astype("f")
    whole = predictor.outputs(x)
    assert whole.shape == (4097, 1)
    assert np.array_equal(whole[-1:], predictor.outputs(x[-1:]))
    model = net(predictor.sizes, predictor.activation)
    # As above, of 2 + 4 terms.
    expected = model.apply(predictor.params, x)
    assert np.allclose(whole, expected, rtol=0, atol=6 * np.finfo("f").eps * 20)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([1.0, 2.0], r"an array must have shape \(rows, 2\).*'x1', 'x2', got shape"),
        (np.ones((3, 3)), r"got shape \(3, 3\)"),
        ({"x1": [1.0]}, "the table has no column 'x2'; it has 'x1'"),
        ([[1.0, np.nan]], "missing values, 1 in 'x2'"),
        ([[1.0, np.inf]], "'x2' must hold finite numbers, got inf in row 1"),
        ([["a", "2"]], "column 'x1' must hold numbers, got 'a' in row 1"),
        ({"x1": [None], "x2": [1.0]}, "missing values, 1 in 'x1'"),
        ({"x1": [1.0], "x2": [1.0, 2.0]}, "the same number of rows.*got 1 and 2"),
        (np.ones((0, 2)), "number of rows, at least one, got 0"),
    ],
)
def test_tables_that_do_not_fit_are_one_sentence(table, sentence):
    predictor, _ = load("moons")
    with pytest.raises(InputError, match=sentence):
        predictor.predict(table)
