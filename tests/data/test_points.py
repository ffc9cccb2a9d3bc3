"""Drawn points: the same as scikit-learn's, and what their labels promise."""

import numpy as np
import pytest
from sklearn.datasets import make_moons

from funcgrad.data import moons, spirals, xor


@pytest.mark.parametrize("n", [2, 3, 100, 101])
@pytest.mark.parametrize("seed", [0, 1, 1337])
def test_moons_are_those_of_scikit_learn_bit_for_bit(n, seed):
    x, y = moons(n, 0.1, seed)
    their_x, their_y = make_moons(n, noise=0.1, random_state=seed)
    assert np.array_equal(x, their_x)
    assert np.array_equal(y, their_y)


def test_moons_by_default_are_those_of_micrograds_notebook():
    state = np.random.get_state()
    np.random.seed(1337)
    their_x, their_y = make_moons(n_samples=100, noise=0.1)
    np.random.set_state(state)
    x, y = moons()
    assert np.array_equal(x, their_x)
    assert np.array_equal(y, their_y)


@pytest.mark.parametrize("draw", [moons, xor, spirals])
def test_draws_repeat_and_depend_on_the_seed(draw):
    x, y = draw(50, seed=3)
    again, _ = draw(50, seed=3)
    other, _ = draw(50, seed=4)
    assert x.shape == (50, 2)
    assert x.dtype == np.float64
    assert np.array_equal(np.bincount(y), [25, 25])
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)


def test_xor_labels_are_the_exclusive_or_of_the_corners():
    x, y = xor(40, noise=0.0)
    assert set(map(tuple, x)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert np.array_equal(y, x[:, 0] != x[:, 1])


def test_spirals_are_one_arm_and_its_half_turn():
    x, y = spirals(200, noise=0.0)
    radius = np.hypot(*x.T)
    angle = 3 * np.pi * radius + np.pi * y
    # 1e-12: cos and hypot of numbers up to 10 are right to a few units of 1e-16.
    assert np.allclose(x[:, 0], radius * np.cos(angle), rtol=0, atol=1e-12)
    assert radius.max() <= 1


@pytest.mark.parametrize("draw", [moons, xor, spirals])
def test_draws_refuse_what_they_cannot_draw(draw):
    with pytest.raises(ValueError, match="n must be at least 2"):
        draw(1)
    with pytest.raises(ValueError, match="noise must be a finite number"):
        draw(10, -0.1)
    with pytest.raises(ValueError, match="noise must be a finite number"):
        draw(10, float("nan"))
