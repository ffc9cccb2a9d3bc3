"""Objectives, and models that compute in another float type."""

import jax
import numpy as np
import pytest

import funcgrad as fg


def test_an_objective_hands_the_loss_predictions_first_and_targets_second():
    model = fg.Model(lambda key: 1.0, lambda params, x: params * x)
    f = fg.objective(model, lambda y, target: y - 2 * target)
    assert f(3.0, (2.0, 5.0)) == 3 * 2 - 2 * 5
    assert jax.grad(f)(3.0, (2.0, 5.0)) == 2


def test_a_third_leaf_of_a_batch_is_the_weights():
    model = fg.Model(lambda key: 1.0, lambda params, x: params * x)
    f = fg.objective(model, lambda y, target, weights: weights * (y - target))
    assert f(3.0, (2.0, 5.0, 7.0)) == 7 * (3 * 2 - 5)


@pytest.mark.parametrize(
    ("batch", "given"),
    [
        ((1.0,), "tuple of 1"),
        ([1.0] * 4, "list of 4"),
        ({"x": 1.0, "y": 2.0}, "dict"),
        (np.ones((2, 3)), "ndarray"),
    ],
)
def test_other_batches_are_refused(batch, given):
    f = fg.objective(fg.mlp([1, 1]), fg.squared_error)
    with pytest.raises(ValueError, match=f"weights\\), got {given}: for any other"):
        f((), batch)
