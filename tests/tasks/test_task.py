"""Tables become tasks: kinds of columns, and rows that are held out."""

import numpy as np
import pytest
from real_tables import real, write

from funcgrad import tasks
from funcgrad.data import Category, Number
from funcgrad.errors import InputError


def test_columns_that_never_vary_are_left_out_and_named(tmp_path, capsys):
    write(tmp_path / "digits.csv", real("digits"), slice(0, 300))
    task = tasks.load(tmp_path / "digits.csv", "target", seed=0)
    varying = np.ptp(task.x[~task.held_out], axis=0) > 0
    assert varying.all()
    assert task.notes[0].startswith("left out 'pixel_0_0', ")
    assert task.notes[0].endswith(" (the same in every row)")


def test_standardised_from_the_training_part_only(tmp_path):
    write(tmp_path / "diabetes.csv", real("diabetes"))
    task = tasks.load(tmp_path / "diabetes.csv", "target", seed=0)
    known = task.x[~task.held_out].astype(np.float64)
    # 1e-6: the inputs were rounded to float32, whose half unit is 6e-8 near 1.
    assert np.allclose(known.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(known.std(axis=0), 1, atol=1e-6)
    assert abs(task.x[task.held_out].mean(axis=0)).max() > 0.01


def test_a_target_is_standardised_from_the_training_part_only(tmp_path):
    """Its numbers are powers of two, so that no two choices have the same mean."""
    values = 2.0 ** np.arange(10) + 0.5
    lines = [f"{i},{value}" for i, value in enumerate(values)]
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(lines))
    task = tasks.load(tmp_path / "t.csv", "y", seed=0)
    known = values[task.known]
    assert len(known) == 8
    assert task.target == Number("y", np.mean(known), np.std(known))
    assert task.inputs == (
        Number(
            "x",
            np.mean(np.arange(10.0)[task.known]),
            np.std(np.arange(10.0)[task.known]),
        ),
    )


def test_each_class_is_held_out_alike_and_the_seed_decides(tmp_path):
    write(tmp_path / "iris.csv", real("iris"))
    one, again, other = (
        tasks.load(tmp_path / "iris.csv", "target", seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(np.bincount(one.y[one.held_out]), [10, 10, 10])
    assert np.array_equal(one.held_out, again.held_out)
    assert not np.array_equal(one.held_out, other.held_out)


def test_kinds_of_columns(tmp_path):
    rows = [f"{i}, {'ab'[i % 2]} ,{i % 2 == 0},{i},name{i},{i}.5" for i in range(60)]
    (tmp_path / "t.csv").write_text(
        "n;t;b;many;id;q\n" + "\n".join(rows).replace(",", ";")
    )
    few = tasks.load(tmp_path / "t.csv", "t", seed=0)
    assert few.target.values == ("a", "b")
    assert [c.name for c in few.inputs] == ["n", "b", "many", "q"]
    assert few.inputs[1].values == ("False", "True")
    assert few.notes == ("left out 'id' (text, more than 50 different values)",)
    assert set(map(tuple, few.x[:, 1:3])) == {(0, 1), (1, 0)}
    assert few.y.dtype == np.int32

    many = tasks.load(tmp_path / "t.csv", "many", seed=0)
    assert isinstance(many.target, Number)
    assert many.notes[0] == (
        "'many' has more than 50 different whole numbers, so it is predicted as a "
        "quantity, not as classes"
    )
    assert isinstance(tasks.load(tmp_path / "t.csv", "q", seed=0).target, Number)


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    lines = [f"{i}.25,{(10, 9, -1)[i % 3]}" for i in range(30)]
    (tmp_path / "t.csv").write_text("\ufeffx,y\r\n" + "\r\n".join(lines))
    task = tasks.load(tmp_path / "t.csv", "y", seed=0)
    assert task.target.values == ("-1", "9", "10")
    assert [c.name for c in task.inputs] == ["x"]


@pytest.mark.parametrize("values", [50, 51])
def test_fifty_values_are_classes_or_a_text_and_more_are_not(tmp_path, values):
    """Of each value there are two rows, one to learn from and one for the score."""
    rows = [f"{i}.5,{i % values},name{i % values}" for i in range(2 * values)]
    (tmp_path / "t.csv").write_text("x,whole,name\n" + "\n".join(rows))
    task = tasks.load(tmp_path / "t.csv", "whole", seed=0)
    assert isinstance(task.target, Category) == (values == 50)
    assert [c.name for c in task.inputs] == ["x", "name"][: 2 if values == 50 else 1]


def test_five_rows_are_enough_and_the_recipe_is_for_those_of_training(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i * i}.5\n" for i in range(5)))
    task = tasks.load(path, "y", seed=0)
    assert task.known.sum() == task.recipe.batch_size == 4
    path.write_text("x,y\n" + "".join(f"{i},{i * i}.5\n" for i in range(4)))
    with pytest.raises(InputError, match=r"at least 5 rows.* has 4: add rows"):
        tasks.load(path, "y", seed=0)
    path.write_text("x,y\n" + "".join(f"{i},{i * i}.5\n" for i in range(1000)))
    task = tasks.load(path, "y", seed=0)
    assert (task.known.sum(), task.recipe.steps) == (800, 40 * 800 // 32)


def test_a_class_of_two_rows_is_always_learnt(tmp_path):
    lines = [f"{i},{'rare' if i < 2 else 'ab'[i % 2]}" for i in range(23)]
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(lines))
    for seed in range(20):
        task = tasks.load(tmp_path / "t.csv", "y", seed=seed)
        assert (task.y[~task.held_out] == 2).any()


def test_rows_of_validation_are_drawn_from_those_of_training(tmp_path):
    rows = "".join(f"{i},{i % 7}.5\n" for i in range(50))
    (tmp_path / "t.csv").write_text("x,y\n" + rows)
    task = tasks.load(tmp_path / "t.csv", "y")
    assert task.recipe.batch_size == 32
    aside, again, other = (tasks.set_aside(task, 0.5, seed=s) for s in (1, 1, 2))
    assert np.array_equal(aside.held_out, task.held_out)
    assert aside.validation.sum() == aside.known.sum() == 20
    parts = np.stack([aside.known, aside.validation, aside.held_out])
    assert (parts.sum(axis=0) == 1).all()
    assert np.array_equal(aside.validation, again.validation)
    assert not np.array_equal(aside.validation, other.validation)
    assert np.array_equal(aside.scored, task.held_out)
    assert aside.recipe == task.recipe._replace(batch_size=20)
    # Of points all are scored, those of validation too.
    assert tasks.set_aside(tasks.load("xor"), 0.5).scored.all()


@pytest.mark.parametrize(("share", "rows"), [(1e-9, 1), (0.999, 199)])
def test_a_row_is_left_on_either_side(share, rows):
    assert tasks.set_aside(tasks.load("xor"), share).validation.sum() == rows


@pytest.mark.parametrize("share", [0, 1, -0.1, np.nan, np.inf])
def test_a_share_that_is_none_is_one_sentence(share):
    with pytest.raises(InputError, match="validation must be a share of the 200 rows"):
        tasks.set_aside(tasks.load("xor"), share)
