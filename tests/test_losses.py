"""Losses: their values on numbers worked out by hand, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.losses import noted_checks

Y = jnp.array([[1.0], [2.0], [4.0], [0.5]])
T = jnp.array([[1.0], [0.0], [2.0], [0.5]])


def test_values_by_hand():
    assert fg.squared_error(Y, T) == 0 + 4 + 4 + 0
    assert fg.mean_squared_error(Y, T) == 2
    signs = jnp.array([[1.0], [-1.0], [1.0], [1.0]])
    assert fg.hinge(Y, signs) == (0 + 3 + 0 + 0.5) / 4
    assert fg.l2((fg.Layer(Y, jnp.array([3.0])),)) == 1 + 4 + 16 + 0.25 + 9
    # All logits equal: every class has probability 1 / classes, whatever the label.
    assert fg.cross_entropy(jnp.full((3, 4), 7.0), jnp.array([0, 3, 1])) == jnp.log(4.0)
    assert fg.binary_cross_entropy(jnp.zeros(2), jnp.array([0, 1])) == jnp.log(2.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_losses_keep_the_dtype_of_the_predictions(dtype):
    with jax.enable_x64(True):
        y, t = Y.astype(dtype), np.asarray(T, np.float64)
        for loss in (fg.squared_error, fg.mean_squared_error, fg.binary_cross_entropy):
            assert loss(y, np.clip(t, 0, 1)).dtype == dtype
        assert fg.hinge(y, np.ones((4, 1))).dtype == dtype
        assert fg.cross_entropy(y, np.zeros(4, int)).dtype == dtype
        assert fg.l2(y).dtype == dtype


def test_no_logit_is_too_large():
    """At 1e4 the sigmoid is 0 or 1 to the last bit; loss and slope are still right."""
    for label, logit, loss, slope in [(1, 1e4, 0, 0), (0, 1e4, 1e4, 1)]:
        logits, labels = jnp.array([logit]), jnp.array([label])
        assert fg.binary_cross_entropy(logits, labels) == loss
        assert fg.binary_cross_entropy(-logits, 1 - labels) == loss
        assert jax.grad(fg.binary_cross_entropy)(logits, labels) == slope
    logits = jnp.array([[1e4, 0.0]])
    assert fg.cross_entropy(logits, jnp.array([0])) == 0
    assert fg.cross_entropy(logits, jnp.array([1])) == 1e4
    assert jax.grad(fg.cross_entropy)(logits, jnp.array([1])).tolist() == [[1, -1]]


def test_the_hinge_has_slope_0_where_the_margin_is_met_exactly():
    assert jax.grad(fg.hinge)(jnp.array([1.0]), jnp.array([1.0])).tolist() == [0]
    assert jax.grad(fg.hinge)(jnp.array([0.5]), jnp.array([1.0])).tolist() == [-1]


@pytest.mark.parametrize(
    "loss", [fg.squared_error, fg.mean_squared_error, fg.hinge, fg.binary_cross_entropy]
)
@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), ()])
def test_a_column_never_meets_another_shape(loss, shape):
    other = jnp.ones(shape)
    assert jnp.broadcast_shapes((4, 1), (4,)) == (4, 4)  # what broadcasting would do
    with pytest.raises(ValueError, match="of the same shape, got") as caught:
        loss(Y, other)
    assert ("reshape" in str(caught.value)) == (other.size == 4)
    with pytest.raises(ValueError, match="of the same shape, got"):
        jax.jit(loss)(Y, other)


@pytest.mark.parametrize("labels", [[0, 1, 4], [0, -1, 2]])
def test_labels_out_of_range_raise_or_give_nan_never_a_number(labels):
    logits, labels = jnp.ones((3, 4)), jnp.array(labels)
    with pytest.raises(ValueError, match="labels from 0 to 3, as there are 4 logits"):
        fg.cross_entropy(logits, labels)
    assert jnp.isnan(jax.jit(fg.cross_entropy)(logits, labels))


def test_other_labels_that_are_refused():
    logits = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"got \(3, 4\) and \(3, 1\): reshape"):
        fg.cross_entropy(logits, jnp.zeros((3, 1), int))
    with pytest.raises(ValueError, match="whole-number labels, got float32"):
        fg.cross_entropy(logits, jnp.zeros(3))
    with pytest.raises(ValueError, match="signs -1 or 1, got 0"):
        fg.hinge(jnp.ones(2), jnp.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="labels from 0 to 1, got 2"):
        fg.binary_cross_entropy(jnp.ones(2), jnp.array([0, 2]))
    for wrong in (2.0, -0.5):
        with pytest.raises(ValueError, match=f"labels from 0 to 1, got {wrong}"):
            fg.binary_cross_entropy(jnp.ones(2), jnp.array([0, wrong]))


def test_checks_of_traced_values_are_noted_and_add_nothing_to_the_program():
    def plain(scores, signs):
        return jnp.mean(jax.nn.relu(1 - signs * scores))

    def noting(scores, signs):
        with noted_checks() as noted:
            loss = fg.hinge(scores, signs)
        ((values, check),) = noted
        assert values is signs
        check(np.ones(2))
        with pytest.raises(ValueError, match="hinge needs signs -1 or 1, got 2"):
            check(np.array([1, 2]))
        return loss

    def nothing_outside(scores, signs):
        with pytest.raises(KeyError), noted_checks() as noted:
            raise KeyError
        fg.hinge(scores, signs)
        assert noted == []

    def program(f):
        return str(jax.make_jaxpr(f)(Y, Y))

    assert program(plain) == program(fg.hinge) == program(noting)
    jax.make_jaxpr(nothing_outside)(Y, Y)


def test_a_value_that_a_dtype_would_hide_is_seen():
    """As an int32 or a float32 these would be 1."""
    wide = np.array([2**32 + 1])
    with pytest.raises(ValueError, match="hinge needs signs -1 or 1, got 4294967297"):
        fg.hinge(jnp.ones(1), wide)
    with pytest.raises(ValueError, match=r"labels from 0 to 1, got 1\.0000000001"):
        fg.binary_cross_entropy(jnp.ones(1), np.array([1.0000000001]))


def test_whole_predictions_are_compared_with_targets_as_they_are():
    y, target = jnp.array([1, 2]), jnp.array([0.5, 0.5])
    assert fg.squared_error(y, target) == 0.25 + 2.25
    assert fg.mean_squared_error(y, target) == 1.25
    assert fg.binary_cross_entropy(jnp.array([0]), jnp.array([0.5])) == jnp.log(2.0)
