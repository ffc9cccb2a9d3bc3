"""The GPT's gradients are proven in every form, and a wrong rule within it is named."""

import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.testing import check_gradients

OURS = sys.modules["funcgrad.gpt"]  # as `fg.gpt` is the function
ROWS = np.array([[1, 4, 0, 2], [3, 3, 2, -1]])  # the last token does not count


def small_gpt(**options):
    return fg.gpt(5, context=3, width=4, heads=2, **{"layers": 1} | options)


@pytest.mark.parametrize("activation", [jax.nn.gelu, jax.nn.relu])
@pytest.mark.parametrize("norm", [fg.layer_norm, fg.rms_norm])
def test_every_form_of_the_block_is_proven(norm, activation):
    model = small_gpt(layers=2, norm=norm, activation=activation)
    params = model.init(jax.random.key(0))
    report = check_gradients(fg.next_token(model), params, ROWS)
    assert report.ok, str(report)
    assert report.notes == ()
    assert all(np.isfinite(leaf.bound) for leaf in report.leaves)


@pytest.mark.exhaustive
def test_the_gradient_through_the_cache_is_proven():
    model = small_gpt()

    def loss(params, row):
        cache, logits = model.start(params, row[:1])
        losses = [fg.cross_entropy(logits, row[1:2])]
        for token, target in pairwise(row[1:]):
            cache, logits = model.step(params, cache, token)
            losses.append(fg.cross_entropy(logits, target))
        return sum(losses)

    report = check_gradients(loss, model.init(jax.random.key(0)), ROWS[0])
    assert report.ok, str(report)
    assert all(np.isfinite(leaf.bound) for leaf in report.leaves)


def with_hand_written_rule(shipped, mistake):
    """Return attention with a rule of its own, as a faster one would have it."""

    @jax.custom_vjp
    def attention(q, k, v):
        return shipped(q, k, v)

    def forward(q, k, v):
        scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
        is_seen = jnp.tri(q.shape[-2], dtype=bool)
        weights = jax.nn.softmax(jnp.where(is_seen, scores, -jnp.inf))
        return weights @ v, (q, k, v, weights)

    def backward(kept, g):
        q, k, v, weights = kept
        slope = weights * (g @ v.swapaxes(-1, -2))
        if mistake != "the sum of softmax is forgotten":
            slope -= weights * slope.sum(-1, keepdims=True)
        if mistake != "the scale is forgotten":
            slope *= q.shape[-1] ** -0.5
        to_v = weights.swapaxes(-1, -2) @ g
        if mistake == "the values are held constant":
            to_v = 0 * to_v
        return slope @ k, slope.swapaxes(-1, -2) @ q, to_v

    attention.defvjp(forward, backward)
    return lambda q, k, v, *rest: attention(q, k, v)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "mistake",
    [
        "",
        "the sum of softmax is forgotten",
        "the scale is forgotten",
        "the values are held constant",
    ],
)
def test_a_wrong_rule_of_attention_is_named(mistake, monkeypatch):
    wrong = with_hand_written_rule(fg.attention, mistake)
    monkeypatch.setattr(OURS, "attention", wrong)
    model = small_gpt()
    report = check_gradients(fg.next_token(model), model.init(jax.random.key(0)), ROWS)
    assert report.ok == (not mistake), str(report)
    if mistake:
        assert report.verdict == "rule"
        assert "custom_vjp `attention`" in report.culprit
        right = {leaf.path for leaf in report.leaves if leaf.verdict == "ok"}
        assert right == {  # what comes after attention
            ".blocks[0].out",
            ".blocks[0].feed_norm",
            ".blocks[0].up",
            ".blocks[0].down",
            ".norm",
        }


@pytest.mark.exhaustive
def test_a_gradient_that_stops_at_the_values_is_wrong(monkeypatch):
    """Within f itself, `stop_gradient` is what f means: truth holds v constant too."""
    shipped = fg.attention

    def stopped(q, k, v, *rest):
        return shipped(q, k, jax.lax.stop_gradient(v), *rest)

    model = small_gpt()
    f = fg.next_token(model)
    params = model.init(jax.random.key(0))

    def gradient(params, rows):
        with monkeypatch.context() as patch:
            patch.setattr(OURS, "attention", stopped)
            return jax.grad(f)(params, rows)

    report = check_gradients(f, params, ROWS, grad=gradient)
    assert report.verdict == "rule"
    assert report.culprit == "the function passed as grad="
    values = np.asarray(gradient(params, ROWS).blocks[0].qkv)[:, 8:]
    assert not values.any()
