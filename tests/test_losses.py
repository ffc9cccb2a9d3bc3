"""Losses: their values on numbers worked out by hand, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import arrays, integer_problem, same_bits

import funcgrad as fg
from funcgrad import testing
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


@pytest.mark.parametrize(
    "dtype",
    [
        "bfloat16",
        *(
            pytest.param(other, marks=pytest.mark.exhaustive)
            for other in ("float16", "float32", "float64")
        ),
    ],
)
def test_losses_keep_the_dtype_of_the_predictions(dtype):
    with jax.enable_x64(True):
        y, t = Y.astype(dtype), np.asarray(T, np.float64)
        for loss in (fg.squared_error, fg.mean_squared_error, fg.binary_cross_entropy):
            assert loss(y, np.clip(t, 0, 1)).dtype == dtype
        assert fg.hinge(y, np.ones((4, 1))).dtype == dtype
        assert fg.cross_entropy(y, np.zeros(4, int)).dtype == dtype
        assert fg.l2(y).dtype == dtype


@pytest.mark.exhaustive
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


# Weights -----------------------------------------------------------------------------

# Three rows of weight 2, 0, 1 and 5 are eight, so that means of integers are exact.
WEIGHTS = np.array([2, 0, 1, 5])
WHOLE = np.array([[3, -1], [4, 0], [-2, 2], [1, -3]])
TARGETS = np.array([[1, 0], [0, 2], [-2, 5], [0, 3]])
SIGNS = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]])
# Logits so far apart that softmax and sigmoid are 0 or 1 to the last bit: losses are
# whole numbers again, and so are slopes.
FAR_APART = 1024 * np.array([[3, -1], [4, 1], [-2, 2], [1, -3]])
BITS = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
LOSSES = {
    fg.squared_error: (WHOLE, TARGETS),
    fg.mean_squared_error: (WHOLE, TARGETS),
    fg.hinge: (WHOLE, SIGNS),
    fg.cross_entropy: (FAR_APART, np.array([1, 0, 0, 1])),
    fg.binary_cross_entropy: (FAR_APART, BITS),
}
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def problem(loss):
    y, target = LOSSES[loss]
    return jnp.asarray(y, jnp.float32), target


@pytest.mark.exhaustive
@EVERY_LOSS
@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f])
def test_a_weight_of_2_is_the_row_twice(loss, wrap):
    """In value, and in the slope along what all rows have in common."""
    y, target = problem(loss)

    def weighted(shift):
        return loss(y + shift, target, WEIGHTS)

    def repeated(shift):
        rows = np.repeat(np.arange(4), WEIGHTS)
        return loss(y[rows] + shift, target[rows])

    shift = jnp.zeros(2)
    assert wrap(weighted)(shift) == wrap(repeated)(shift) != loss(y, target)
    slope = wrap(jax.grad(weighted))(shift)
    assert slope.tolist() == wrap(jax.grad(repeated))(shift).tolist()
    assert slope.any()
    of_rows = wrap(jax.grad(loss))(y, target, WEIGHTS)
    assert of_rows.sum(0).tolist() == slope.tolist()
    assert not of_rows[1].any()


@EVERY_LOSS
def test_weights_of_entries_are_those_of_their_rows(loss):
    y, target = problem(loss)
    by_row = loss(y, target, WEIGHTS)
    of_entries = np.broadcast_to(WEIGHTS.reshape(-1, *[1] * (target.ndim - 1)),
                                 target.shape)  # fmt: skip
    assert loss(y, target, of_entries) == by_row
    assert loss(y, target, weights=WEIGHTS.tolist()) == by_row
    counts = WEIGHTS > 0
    assert loss(y, target, counts) == loss(y[counts], target[counts])


def test_rows_of_several_axes():
    """Two sequences of three tokens: a weight for each sequence, or for each token."""
    logits = 1024.0 * jnp.arange(24).reshape(2, 3, 4)
    labels = np.array([[0, 1, 3], [3, 3, 2]])
    losses = 1024 * (3 - labels)
    of_sequences = np.array([1, 3])
    assert fg.cross_entropy(logits, labels, of_sequences) == (
        losses.sum(1) @ of_sequences / (3 * 4)
    )
    of_tokens = np.array([[1, 2, 0], [0, 4, 1]])
    assert fg.cross_entropy(logits, labels, of_tokens) == (losses * of_tokens).sum() / 8


@EVERY_LOSS
def test_weighted_losses_map_over_batches_and_compile(loss):
    y, target = problem(loss)
    batches = (
        jnp.stack([y, 2 * y]),
        jnp.stack([target, target]),
        jnp.stack([WEIGHTS, WEIGHTS[::-1]]),
    )
    mapped = jax.jit(jax.vmap(loss))(*batches)
    assert mapped.tolist() == [loss(*(leaf[i] for leaf in batches)) for i in (0, 1)]


def test_the_slope_along_a_weight_is_what_its_row_has_above_the_mean():
    y, target, weights = jnp.array([1.0, 3.0]), jnp.zeros(2), jnp.array([3.0, 1.0])
    slope = jax.grad(fg.mean_squared_error, argnums=2)(y, target, weights)
    assert slope.tolist() == [(1 - 3) / 4, (9 - 3) / 4]
    assert jax.grad(fg.squared_error, argnums=2)(y, target, weights).tolist() == [1, 9]


def test_a_weighted_loss_has_the_right_gradient():
    y, target = jnp.array([[0.3], [-1.7], [2.1]]), jnp.array([[1.0], [0.0], [0.6]])
    weights = jnp.array([0.7, 0.0, 2.3])
    for loss in (fg.mean_squared_error, fg.binary_cross_entropy):
        testing.assert_gradients(loss, y, target, weights, argnums=(0, 2))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_weighted_losses_keep_the_dtype_and_sum_wider(dtype):
    """The sum of 70,000 weights is beyond a float16, and 257 is no bfloat16."""
    y, ones = jnp.full(70_000, 3, dtype), np.ones(70_000)
    mean = fg.mean_squared_error(y, ones, ones)
    assert mean == 4 and mean.dtype == dtype
    y = jnp.array([1, 0], dtype)
    both = fg.squared_error(y, 1 - y, [257, 255])
    assert both == 512 and both.dtype == dtype


def test_without_weights_nothing_is_added_to_the_program():
    """The program of each loss is that of its plain formula."""
    labels = jnp.array([1, 0, 0, 1])

    def cross_entropy(logits, labels):
        chosen = labels[..., None] == jnp.arange(2)
        found = jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits), 0), axis=-1)
        return -jnp.mean(jnp.where(chosen.any(-1), found, jnp.nan))

    def binary(z, p):
        return jnp.mean(p * jax.nn.softplus(-z) + (1 - p) * jax.nn.softplus(z))

    plain = {
        fg.squared_error: (lambda y, t: jnp.sum((y - t) ** 2), T),
        fg.mean_squared_error: (lambda y, t: jnp.mean((y - t) ** 2), T),
        fg.hinge: (lambda y, t: jnp.mean(jax.nn.relu(1 - t * y)), T),
        fg.cross_entropy: (cross_entropy, labels),
        fg.binary_cross_entropy: (binary, T),
    }
    for loss, (formula, target) in plain.items():
        y = jnp.ones((4, 2)) if loss is fg.cross_entropy else Y
        program = str(jax.make_jaxpr(formula)(y, target))
        assert str(jax.make_jaxpr(loss)(y, target)) == program
        assert str(jax.make_jaxpr(loss)(y, target, jnp.ones(4))) != program


@EVERY_LOSS
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 4), (2, 2), (4, 1), (4, 2, 1)])
def test_weights_never_broadcast_by_accident(loss, shape):
    y, target = problem(loss)
    many = f"{target.shape[:1]} or {target.shape}" if target.ndim > 1 else target.shape
    sentence = (
        f"{loss.__name__} needs one weight a row, weights of shape {many}, got {shape}"
    )
    for f in (loss, jax.jit(loss)):
        with pytest.raises(ValueError) as caught:
            f(y, target, jnp.ones(shape))
        assert str(caught.value).startswith(sentence)


@EVERY_LOSS
def test_weights_that_are_refused(loss):
    y, target = problem(loss)
    for wrong in (-1, np.nan, np.inf):
        with pytest.raises(
            ValueError, match=f"needs weights finite and at least 0, got {wrong}"
        ):
            loss(y, target, np.array([1, wrong, 0, 2]))
    with pytest.raises(ValueError, match="of which one at least is above 0, got 0"):
        loss(y, target, np.zeros(4))


@EVERY_LOSS
def test_weights_of_0_alone_are_no_rows_where_they_are_traced(loss):
    value = jax.jit(loss)(*problem(loss), np.zeros(4))
    assert value == 0 if loss is fg.squared_error else jnp.isnan(value)


def test_training_by_weights_is_training_on_the_rows_as_often():
    sizes, nested, (x, signs) = integer_problem()
    weights = np.array([2, 1, 0, 1])
    rows = np.repeat(np.arange(4), weights)
    model = fg.mlp(sizes, activation=jax.nn.relu, final_activation=fg.linear)
    objective, optimizer = fg.objective(model, fg.hinge), optax.sgd(1.0)
    params = arrays(nested, "float32")
    one, other = (
        fg.fit(objective, optimizer, params, data, steps=3, progress=None)
        for data in [(x, signs, weights), (x[rows], signs[rows])]
    )
    assert same_bits(one.state, other.state)
    assert not same_bits(one.state.params, params)
    assert one.history.loss.tolist() == other.history.loss.tolist()
