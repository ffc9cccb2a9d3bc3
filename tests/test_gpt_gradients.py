"""The GPT in both engines: one gradient, to the last bit where there is one.

Correctly rounded: with softmax, norms and gelu every number is rounded, so float64
gradients, rounded to float32, must be the float32 nearest to the truth, on every
parameter. Bit for bit: where attention is linear or a hard maximum and the norm is its
gain alone, all numbers are integers and halves, and gradients must be equal with ==.
"""

import sys
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import exact
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
import reference.gpt
from reference import GPT, Ball, Value

OURS = sys.modules["funcgrad.gpt"]  # as `fg.gpt` is the function
SIZES = {"vocab": 5, "context": 3, "width": 4, "heads": 2}
# Each form of the block that is shipped, in both engines.
FORMS = {
    "layer_norm, gelu": (
        {"norm": fg.layer_norm, "activation": jax.nn.gelu},
        {"norm": reference.gpt.layer_norm, "activation": reference.gpt.gelu},
    ),
    "rms_norm, relu": (
        {"norm": fg.rms_norm, "activation": jax.nn.relu},
        {"norm": reference.gpt.rms_norm, "activation": Value.relu},
    ),
}


def nested(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).tolist(), params)


def in_reference(params, number, **options):
    return GPT.from_params(nested(params), number=number, **options)


# Correctly rounded -------------------------------------------------------------------

ROWS = [[1, 4, 0, 2], [3, 3, 2, -1]]  # the last token of the second row does not count


def normal_params(model, seed=0):
    """Return params of the size of 1, gains too, so that no part of the net is idle."""
    rng = np.random.default_rng(seed)
    like = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), like)


def loss_of_rows(net, rows):
    """Return the mean over the tokens that are kept, as `next_token` does."""
    losses = []
    for row in rows:
        kept = [token for token in row if token >= 0]
        losses += [net.loss(kept)] * (len(kept) - 1)
    return sum(losses) / len(losses)


def float64_gradients(form, layers, seed=0):
    """Return the jitted float64 gradient and the truth in balls, both flat."""
    ours, theirs = FORMS[form]
    model = fg.gpt(**SIZES, layers=layers, **ours)
    with jax.enable_x64(True):
        params = normal_params(model, seed)
        gradient = jax.jit(jax.grad(fg.next_token(model)))
        given = exact.flat(gradient(params, np.array(ROWS)))
    net = in_reference(params, Ball, heads=SIZES["heads"], **theirs)
    loss_of_rows(net, ROWS).backward()
    truth = exact.flat(net.to_params("grad"))
    return given, truth


@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("form", FORMS)
def test_float64_gradient_rounds_to_the_ball_gradient(form, layers, record_property):
    given, truth = float64_gradients(form, layers)
    assert len(truth) == 5 * 4 + 3 * 4 + layers * 200 + 4
    in_float32 = np.float32([float(ball) for ball in truth])
    assert np.float32(given).tolist() == in_float32.tolist()
    record_property(
        f"worst float64 gradient of a GPT with {form}, in ulp",
        max(map(exact.ulps, given, truth)),
    )


def unscaled(attention, q, k, v, *rest):
    return attention(q * q.shape[-1] ** 0.5, k, v, *rest)


def without_values(attention, q, k, v, *rest):
    return attention(q, k, jax.lax.stop_gradient(v), *rest)


def all_seeing(attention, q, k, v, *rest):
    return attention(q, k, v, k.shape[-2])


def without_residual(block, params, x, *rest, **options):
    y, past = block(params, x, *rest, **options)
    return y - x, past


MUTANTS = {
    "unscaled scores": ("attention", unscaled),
    "no gradient through the values": ("attention", without_values),
    "later tokens are seen": ("attention", all_seeing),
    "no residual": ("block", without_residual),
}


def put(mutant, patch):
    name, mutated = MUTANTS[mutant]
    patch.setattr(OURS, name, partial(mutated, getattr(OURS, name)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("mutant", ["unscaled scores", "no residual"])
def test_a_mutant_is_seen_in_float32(mutant, monkeypatch):
    put(mutant, monkeypatch)
    given, truth = float64_gradients("rms_norm, relu", 1)
    in_float32 = np.float32([float(ball) for ball in truth])
    assert np.float32(given).tolist() != in_float32.tolist()


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", FORMS)
def test_a_token_at_a_time_gives_the_logits_of_the_whole(form):
    """The scalar engine reads token by token; so do `start` and `step`."""
    ours, theirs = FORMS[form]
    model = fg.gpt(**SIZES, layers=2, **ours)
    tokens = np.array([1, 4, 0])
    with jax.enable_x64(True):
        params = normal_params(model)
        whole = exact.flat(jax.jit(model.apply)(params, tokens))
        cache, first = model.start(params, tokens[:1])
        steps = exact.flat(first)
        for token in tokens[1:]:
            cache, logits = jax.jit(model.step)(params, cache, token)
            steps += exact.flat(logits)
    net = in_reference(params, Ball, heads=SIZES["heads"], **theirs)
    past = net.start()
    truth = [
        np.float32(float(logit.data))
        for token in tokens.tolist()
        for logit in net.step(past, token)
    ]
    assert np.float32(whole).tolist() == np.float32(steps).tolist() == truth


# Bit for bit -----------------------------------------------------------------------


def gain_alone(gain, x):
    return gain * x


def gain_alone_in_values(gain, x):
    return [g * xi for g, xi in zip(gain, x, strict=True)]


def seen_scores(q, k, offset):
    is_seen = jnp.arange(k.shape[-2]) <= offset + jnp.arange(q.shape[-2])[:, None]
    return is_seen, q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5


def linear_attention(q, k, v, offset=0):
    is_seen, scores = seen_scores(q, k, offset)
    return jnp.where(is_seen, scores, 0) @ v


def hard_attention(q, k, v, offset=0):
    is_seen, scores = seen_scores(q, k, offset)
    largest = jnp.argmax(jnp.where(is_seen, scores, -jnp.inf), -1)
    return jax.nn.one_hot(largest, k.shape[-2], dtype=v.dtype) @ v


def hard_maximum(scores):
    largest = max(range(len(scores)), key=lambda t: scores[t].data)
    return [Value(int(t == largest)) for t in range(len(scores))]


# Attention in JAX and its weights in Values; then weights that bound all sums of them.
ATTENTIONS = {
    "linear": (linear_attention, lambda scores: scores, lambda scores: scores),
    "hard maximum": (hard_attention, hard_maximum, lambda s: [1 + si for si in s]),
}


class Integers(NamedTuple):
    """A net that stays exact in `dtype`, and what it is given.

    sizes: heads have one or four numbers each, so that scores are divided by 1 or 2.
    tokens, cotangents: rows to read, and the weights of the logits after each token.
    """

    dtype: str
    sizes: dict
    tokens: np.ndarray
    cotangents: np.ndarray


TOKENS = np.array([[1, 4, 0], [2, 2, 3]])
COTANGENTS = np.array([[1, -2, 3, 1, 2], [-1, 1, 2, -3, 1], [2, 1, -1, 1, -2]])
EXACT = {
    "bfloat16": Integers(
        "bfloat16",
        {"vocab": 3, "context": 2, "width": 2, "heads": 2, "layers": 1},
        np.array([[1, 2]]),
        np.array([[1, -1, 1], [-1, 1, -1]]),
    )
} | {
    f"{dtype}, {heads} heads": Integers(
        dtype, SIZES | {"heads": heads, "layers": layers}, TOKENS, COTANGENTS
    )
    for dtype, layers in {"float32": 1, "float64": 2}.items()
    for heads in (1, 4)
}


def integer_params(model, seed, dtype):
    """Return small integers, most of them 0; gains are 1 and -1, lest nothing flow."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        numbers = [-1, 1] if leaf.ndim == 1 else [-1, 0, 0, 0, 1]
        return jnp.asarray(rng.choice(numbers, leaf.shape), dtype)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))


def weighted_logits(net, rows, cotangents):
    """Return the sum of the logits of all rows, weighted, as a Value."""
    return sum(
        logit * int(c)
        for tokens in rows.tolist()
        for logits, row in zip(net(tokens), cotangents, strict=True)
        for logit, c in zip(logits, row, strict=True)
    )


def integer_gradients(attention, case, seeds, mutant=None):
    """Yield the jitted gradient of the weighted logits, and the one in fractions.

    No number needs more bits than the dtype has.
    """
    in_jax, in_values, bounding = ATTENTIONS[attention]
    model = fg.gpt(**case.sizes, norm=gain_alone, activation=jax.nn.relu)
    options = {"heads": case.sizes["heads"], "norm": gain_alone_in_values}

    @jax.jit
    @jax.grad
    def gradient(params):
        logits = model.apply(params, case.tokens)
        return jnp.sum(logits * case.cotangents.astype(case.dtype))

    for seed in seeds:
        params = integer_params(model, seed, case.dtype)
        net = in_reference(params, Fraction, activation=Value.relu, **options)
        positive = jax.tree.map(jnp.abs, params)
        bound = in_reference(positive, Fraction, activation=lambda x: x, **options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OURS, "attention", in_jax)
            if mutant:
                put(mutant, patch)
            given = exact.flat(gradient(params))
            patch.setattr(reference.gpt, "softmax", in_values)
            weighted_logits(net, case.tokens, case.cotangents).backward()
            patch.setattr(reference.gpt, "softmax", bounding)
            total = weighted_logits(bound, case.tokens, abs(case.cotangents))
        assert exact.bits_of(total) <= exact.SIGNIFICAND[case.dtype]
        yield given, exact.flat(net.to_params("grad"))


@pytest.mark.parametrize(
    "name",
    [
        "bfloat16",
        "float32, 4 heads",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in sorted(EXACT.keys() - {"bfloat16", "float32, 4 heads"})
        ),
    ],
)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_jitted_gradient_equals_the_fraction_gradient(attention, name):
    case = EXACT[name]
    # Drawn by seed 1, the net for bfloat16 needs nine bits.
    seeds = [0] if case.dtype == "bfloat16" else [0, 1]
    with jax.enable_x64(case.dtype == "float64"):
        for given, truth in integer_gradients(attention, case, seeds):
            assert given == truth
            assert sum(g != 0 for g in truth) > len(truth) / 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen_on_integers(mutant):
    """One head of four numbers, whose scores count half."""
    case = EXACT["float32, 1 heads"]
    ((given, truth),) = integer_gradients("linear", case, [0], mutant)
    assert given != truth


def queries_beside_keys(params, width):
    """Return `params` whose queries and keys have no column in common: scores are 0.

    Their gradients are not. Softmax gives two tokens a half each.
    """
    column = np.arange(3 * width)
    is_kept = (column // width == 2) | (column // width == column % 2)
    blocks = (b._replace(qkv=b.qkv * is_kept) for b in params.blocks)
    return params._replace(blocks=tuple(blocks))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_of_equal_scores_is_exact_too(dtype):
    """The attention that is shipped: exp(0) is 1, and a ball of no radius."""
    model = fg.gpt(
        **SIZES | {"heads": 1}, layers=1, norm=gain_alone, activation=jax.nn.relu
    )
    tokens, cotangents = TOKENS[:, :2], COTANGENTS[:2]
    with jax.enable_x64(dtype == "float64"):
        params = queries_beside_keys(integer_params(model, 1, dtype), SIZES["width"])

        @jax.jit
        @jax.grad
        def gradient(params):
            return jnp.sum(model.apply(params, tokens) * cotangents.astype(dtype))

        given = gradient(params)
    net = in_reference(
        params, Ball, heads=1, norm=gain_alone_in_values, activation=Value.relu
    )
    weighted_logits(net, tokens, cotangents).backward()
    truth = exact.flat(net.to_params("grad"))
    assert all(ball.arb.is_exact() for ball in truth if isinstance(ball, Ball))
    assert exact.flat(given) == list(map(float, truth))
    queries, keys = np.split(np.asarray(given.blocks[0].qkv), 3, axis=1)[:2]
    assert queries.any() and keys.any()
