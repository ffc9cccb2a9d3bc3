"""Splits are disjoint, complete and drawn alike; weights of classes are those asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

import funcgrad as fg

KEY = jax.random.key(0)
ROWS = np.arange(20)


@pytest.mark.parametrize(
    ("share", "held"), [(0.01, 1), (0.2, 4), (0.27, 5), (0.5, 10), (0.99, 19)]
)
def test_each_row_is_in_one_part_in_its_order(share, held):
    train, held_out = fg.split(ROWS, KEY, share)
    assert len(held_out) == held
    assert sorted([*train, *held_out]) == ROWS.tolist()
    assert (np.diff(train) > 0).all() and (np.diff(held_out) > 0).all()


def test_the_key_draws():
    splits = [fg.split(ROWS, jax.random.key(i), 0.5)[1].tolist() for i in range(20)]
    assert splits[0] == fg.split(ROWS, KEY, 0.5)[1].tolist()
    # A row misses 20 splits once in a million; two of them are the same once in 970.
    assert {row for rows in splits for row in rows} == {*ROWS}
    assert len(set(map(tuple, splits))) == 20


def test_all_leaves_are_split_alike_and_stay_what_they_are():
    data = {
        "numpy": np.stack([ROWS, -ROWS], axis=1),
        "jax": jnp.asarray(ROWS),
        "names": ROWS.astype(str),
        "keys": jax.random.split(KEY, 20),
        "none": None,
    }
    for part in fg.split(data, KEY, 0.25):
        assert type(part["numpy"]) is type(part["names"]) is np.ndarray
        assert isinstance(part["jax"], jax.Array) and part["jax"].dtype == "int32"
        assert part["none"] is None
        assert part["numpy"][:, 0].tolist() == part["jax"].tolist()
        assert part["names"].astype(int).tolist() == part["jax"].tolist()
        assert (part["keys"] == data["keys"][part["jax"]]).all()


@pytest.mark.parametrize(
    ("counts", "share", "held"),
    [
        ([10, 10], 0.2, [2, 2]),
        ([15, 5], 0.2, [3, 1]),
        ([11, 9], 0.25, [3, 2]),  # of 2.75 and 2.25
        ([7, 7, 6], 0.25, [2, 2, 1]),  # of 1.75, 1.75 and 1.5
        ([16, 2, 2], 0.1, [1, 1, 1]),  # of 1.6, 0.2 and 0.2: one at least
        ([2, 18], 0.9, [1, 17]),  # of 1.8 and 16.2: one is learnt from
        ([2] * 10, 0.9, [1] * 10),
        ([1, 1, 18], 0.5, [0, 0, 9]),
        ([1] * 7 + [13], 0.25, [0] * 7 + [3]),  # of 3.25: the single ones do not count
        ([20], 0.3, [6]),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, list, lambda y: y[:, None]])
def test_each_class_is_split_alike(counts, share, held, kind):
    labels = np.random.default_rng(0).permutation(np.repeat(range(len(counts)), counts))
    train, held_out = fg.split((ROWS, labels), KEY, share, by=kind(labels))
    assert np.bincount(held_out[1], minlength=len(counts)).tolist() == held
    assert sorted([*train[0], *held_out[0]]) == ROWS.tolist()
    assert (labels[held_out[0]] == held_out[1]).all()


def test_the_rows_of_each_class_are_drawn():
    labels = np.repeat(["a", "b"], 10)
    splits = [
        fg.split(ROWS, jax.random.key(i), 0.5, by=labels)[1].tolist() for i in range(20)
    ]
    # Each row misses 20 splits of 0.5 once in a million.
    assert {row for rows in splits for row in rows} == {*ROWS}


def test_splits_that_are_refused():
    for wrong in (0, 1, 0.0, 1.0, 20, True, "0.2", float("nan")):
        with pytest.raises(ValueError, match=f"between 0 and 1, got {wrong!r}: for a"):
            fg.split(ROWS, KEY, wrong)
    with pytest.raises(ValueError, match="split needs one random key, got 0"):
        fg.split(ROWS, 0, 0.2)
    with pytest.raises(ValueError, match=r"split needs two rows or more, as .* got 1$"):
        fg.split(ROWS[:1], KEY, 0.2)
    with pytest.raises(ValueError, match=r"or more of some class.* got 3 of as many"):
        fg.split(ROWS[:3], KEY, 0.2, by=ROWS[:3])
    with pytest.raises(ValueError, match="data needs arrays with the same number of"):
        fg.split((ROWS, ROWS[1:]), KEY, 0.2)
    with pytest.raises(
        ValueError, match=r"data needs arrays, got 1 at data\[0\]: make"
    ):
        fg.split([1, 2], KEY, 0.2)
    with pytest.raises(ValueError, match="each of the 20 rows of the data, got 19"):
        fg.split(ROWS, KEY, 0.2, by=ROWS[1:])
    with pytest.raises(ValueError, match=r"\(rows,\) or \(rows, 1\), got \(20, 2\)"):
        fg.split(ROWS, KEY, 0.2, by=np.ones((20, 2)))


def test_balanced_weights_are_those_of_scikit_learn():
    for labels in (
        np.array([0, 1, 1, 2, 2, 2, 7]),
        np.array(["x", "y", "x"]),
        np.array([-1.0, 1.0, 1.0]),
        np.array([True, False, True]),
    ):
        theirs = compute_sample_weight("balanced", labels).astype(np.float32)
        for ours in (
            fg.class_weights(labels),
            fg.class_weights(labels[:, None], "balanced"),
        ):
            assert ours.dtype == "float32" and ours.shape == labels.shape
            assert ours.tolist() == theirs.tolist()


def test_with_balanced_weights_the_loss_is_the_mean_of_the_means_of_classes():
    """Of 4 in a class of one row and 16 in one of two: weights 1.5 and 0.75."""
    y, target = np.array([4.0, 2.0, 4.0]), np.zeros(3)
    loss = fg.mean_squared_error(y, target, fg.class_weights([1, 0, 1]))
    assert loss == (4 + 16) / 2 != fg.mean_squared_error(y, target)


def test_a_mapping_gives_the_weights():
    weights = fg.class_weights(jnp.array([1, 0, 1]), {0: 2, 1: 0.5, 9: 1})
    assert weights.tolist() == [0.5, 2, 0.5] and weights.dtype == "float32"
    assert fg.class_weights(["a", "b"], {"a": 0, "b": 3}).tolist() == [0, 3]
    assert fg.class_weights([-1.0, 1.0], {-1: 4, 1: 1}).tolist() == [4, 1]


def test_weights_of_classes_that_are_refused():
    with pytest.raises(ValueError, match="each label, got none for 2, 3: add them"):
        fg.class_weights([1, 2, 3], {1: 1.0})
    for wrong in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"at least 0, got {wrong}.* for 'b': a"):
            fg.class_weights(["a", "b"], {"a": 1, "b": wrong})
    for wrong in ("even", None, np.ones(2)):
        with pytest.raises(ValueError, match="needs 'balanced' or a mapping"):
            fg.class_weights([0, 1], wrong)
    for wrong in (np.ones((2, 2)), [], 1):
        with pytest.raises(ValueError, match=r"class_weights needs one label a row"):
            fg.class_weights(wrong)
    with pytest.raises(ValueError, match="a label in each row, got nan"):
        fg.class_weights([1, np.nan])
    with pytest.raises(ValueError, match="labels whose values are known, got traced"):
        jax.jit(fg.class_weights)(np.arange(3))
