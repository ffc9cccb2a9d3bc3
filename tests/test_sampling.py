"""Sampling: the tokens of a plain loop without a cache, and the rule past the context.

In float64: the two compute the same in another order, and a rounding of 1e-16 would
have to fall on a border between two tokens to choose another.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg

KEY = jax.random.key(3)
VOCAB = 7


def make(context, dtype="float32", **changed):
    """Return a model, and params by which some tokens are far likelier."""
    sizes = {"width": 8, "layers": 2, "heads": 2}
    model = fg.gpt(VOCAB, context=context, **(sizes | changed))
    params = model.init(jax.random.key(0), dtype)
    return model, jax.tree.map(lambda leaf: leaf * 8, params)


def read(seen, token, context):
    """Return the tokens in sight after one more, by the rule that `sample` states."""
    if len(seen) == context:
        seen = seen[context - context // 2 :]
    return [*seen, int(token)]


def without_a_cache(apply, params, prompt, context, length, temperature):
    """Return what `sample` does, by `apply` on all that is in sight, a token a time."""
    seen, tokens = [], []
    for token in prompt:
        seen = read(seen, token, context)
    for i in range(length):
        padded = np.pad(seen, (0, context - len(seen)))  # later tokens change nothing
        logits = apply(params, padded)[len(seen) - 1]
        if temperature == 0:
            token = logits.argmax()
        else:
            key = jax.random.fold_in(KEY, i)
            token = jax.random.categorical(key, logits / temperature)
        tokens.append(int(token))
        seen = read(seen, token, context)
    return tokens


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("context", "prompts"),
    [(6, (2, 7, 14)), (5, (6,)), (1, (3,))],
)
def test_the_tokens_are_those_without_a_cache(context, prompts):
    with jax.enable_x64(True):
        model, params = make(context, "float64")
        apply = jax.jit(model.apply)
        for n in prompts:
            prompt = np.arange(n) % VOCAB
            for temperature in (0, 1.0):
                given = fg.sample(
                    model, params, KEY, prompt=prompt, length=3 * context,
                    temperature=temperature,
                )  # fmt: skip
                wanted = without_a_cache(
                    apply, params, prompt, context, 3 * context, temperature
                )
                assert given.tolist() == wanted
                assert given.dtype == jnp.int32


MODEL, PARAMS = make(6, layers=1)
PROMPT = np.array([1, 2])


def sample(prompt=PROMPT, length=20, key=KEY, **settings):
    return fg.sample(MODEL, PARAMS, key, prompt=prompt, length=length, **settings)


@pytest.mark.exhaustive
def test_a_batch_goes_its_own_ways():
    prompts = np.array([[1, 2], [1, 2], [5, 0]])
    drawn = sample(prompts)
    assert drawn.shape == (3, 20) and (drawn[0] != drawn[1]).any()
    greedy = sample(prompts, temperature=0)
    assert (greedy[0] == greedy[1]).all()
    assert greedy[2].tolist() == sample(prompts[2], temperature=0).tolist()


@pytest.mark.exhaustive
def test_a_longer_text_begins_as_a_shorter_one():
    assert sample(length=20)[:7].tolist() == sample(length=7).tolist()
    assert sample(length=0).shape == (0,)
    assert sample(length=20).tolist() != sample(key=jax.random.key(4)).tolist()


@pytest.mark.exhaustive
def test_the_likeliest_alone():
    greedy = sample(temperature=0).tolist()
    assert sample(top_k=1).tolist() == greedy
    # At this temperature the likeliest is ahead by more than any draw makes up for.
    assert sample(temperature=1e-6).tolist() == greedy
    assert (
        sample(top_k=VOCAB).tolist() == sample(top_k=99).tolist() == sample().tolist()
    )
    logits = MODEL.apply(PARAMS, PROMPT)[-1]
    allowed = set(np.argsort(logits)[-2:].tolist())
    prompts = np.tile(PROMPT, (200, 1))
    assert set(sample(prompts, 1, top_k=2)[:, 0].tolist()) == allowed
    assert set(sample(prompts, 1)[:, 0].tolist()) > allowed


@pytest.mark.exhaustive
def test_tokens_come_as_often_as_they_are_likely():
    """Of n draws a share p spreads by sqrt(p (1 - p) / n): within five of those."""
    n = 20_000
    drawn = sample(np.tile(PROMPT, (n, 1)), 1, temperature=2.0)[:, 0]
    shares = np.bincount(drawn, minlength=VOCAB) / n
    p = np.asarray(jax.nn.softmax(MODEL.apply(PARAMS, PROMPT)[-1] / 2))
    assert (np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / n)).all()


@pytest.mark.exhaustive
def test_it_is_one_program_for_every_temperature():
    traced = []
    counting = MODEL._replace(
        step=lambda *args: (traced.append(1), MODEL.step(*args))[1]
    )
    for temperature in (0, 0.5, 1):
        fg.sample(
            counting, PARAMS, KEY, prompt=PROMPT, length=50, temperature=temperature
        )
    assert len(traced) <= 2  # not once a token, nor once a call


@pytest.mark.exhaustive
def test_it_is_one_program_for_prompts_of_different_length():
    """As many as there are powers of two, whatever the prompts are."""
    traced = []
    counting = MODEL._replace(
        step=lambda *args: (traced.append(1), MODEL.step(*args))[1]
    )

    def drawn(n):
        prompt = np.arange(n) % VOCAB
        given = fg.sample(
            counting, PARAMS, KEY, prompt=prompt, length=9, temperature=0
        )  # fmt: skip
        assert given.tolist() == by_apply(prompt, 9)
        return len(traced)

    once = drawn(3)  # reads two, and the third in the loop
    assert drawn(4) == once
    more = drawn(5)
    # Of the context's six, four to six are read of those, whole or by the rule.
    assert once < more == drawn(6) == drawn(7) == drawn(10) == drawn(103)


def by_apply(prompt, length):
    """Return the likeliest tokens in float32; MODEL's are far from equally likely."""
    return without_a_cache(jax.jit(MODEL.apply), PARAMS, prompt, 6, length, 0)


def test_nothing_is_read_for_nothing():
    """A prompt's tokens but the last, and then one for each that is drawn."""
    read = []
    counting = MODEL._replace(
        step=lambda params, cache, token: (
            jax.debug.callback(lambda: read.append(1)),
            MODEL.step(params, cache, token),
        )[1]
    )
    fg.sample(counting, PARAMS, KEY, prompt=PROMPT, length=5).block_until_ready()
    jax.effects_barrier()
    assert len(read) == 5


@pytest.mark.exhaustive
def test_within_a_jitted_function():
    f = jax.jit(lambda params, t: fg.sample(
        MODEL, params, KEY, prompt=PROMPT, length=5, temperature=t
    ))  # fmt: skip
    assert f(PARAMS, 0.5).tolist() == sample(length=5, temperature=0.5).tolist()
    g = jax.jit(lambda prompt: sample(prompt, length=5))
    assert g(PROMPT).tolist() == sample(length=5).tolist()


BAD = {
    "sample needs one random key, got 0": {"key": 0},
    "length must be a whole number of at least 0, got -1": {"length": -1},
    "top_k must be a whole number of at least 1, got 0": {"top_k": 0},
    r"prompt of one token at least, got shape \(0,\)": {"prompt": np.zeros(0, int)},
    r"prompt of one token at least, got shape \(\)": {"prompt": 1},
    "reads tokens, whole numbers, got float32": {"prompt": np.ones(2, np.float32)},
    "sample needs a prompt of tokens from 0 to 6, as .* got 7": {"prompt": [1, 7]},
    "sample needs a prompt of tokens from 0 to 6, as .* got -1": {"prompt": [-1, 2]},
    "needs a temperature that is finite and at least 0, got -1": {"temperature": -1.0},
    "needs a temperature that is finite and at least 0, got n": {"temperature": np.nan},
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_refused(sentence):
    with pytest.raises(ValueError, match=sentence):
        sample(**BAD[sentence])


def test_another_model_is_refused():
    mlp = fg.mlp([2, 3])
    params = mlp.init(KEY)
    with pytest.raises(ValueError, match=r"sample needs a Gpt, .* got Model: funcgrad"):
        fg.sample(mlp, params, KEY, prompt=PROMPT, length=5)
    with pytest.raises(ValueError, match="GptParams of 1 blocks, got tuple"):
        fg.sample(MODEL, params, KEY, prompt=PROMPT, length=5)
