"""An objective is the loss of what the model says of x, beside the target."""

import jax

import funcgrad as fg


def test_an_objective_hands_the_loss_predictions_first_and_targets_second():
    model = fg.Model(lambda key: 1.0, lambda params, x: params * x)
    f = fg.objective(model, lambda y, target: y - 2 * target)
    assert f(3.0, (2.0, 5.0)) == 3 * 2 - 2 * 5
    assert jax.grad(f)(3.0, (2.0, 5.0)) == 2
