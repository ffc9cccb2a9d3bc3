"""GPT: shapes, what each position sees, the cache, the objective, ways to train.

Where two programs do the same in another order they differ by rounding. Those are
compared in float64, whose rounding is 1.1e-16: a few hundred operations one after
another on numbers of about 1 stay far below 1e-12, and a mistake does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad.data_checks import check_data
from funcgrad.testing import check_gradients

KEY = jax.random.key(0)
VOCAB, CONTEXT, WIDTH = 7, 6, 8
FORMS = {
    "gpt2": {"activation": jax.nn.gelu, "norm": fg.layer_norm},
    "microgpt": {"activation": jax.nn.relu, "norm": fg.rms_norm},
}
# Of the same float64 operations in two orders: some thousand roundings of 2e-16, in
# numbers of about 1.
ROUNDING = 1e-12


def make(form="gpt2", **changed):
    shape = {"context": CONTEXT, "width": WIDTH, "layers": 2, "heads": 2}
    return fg.gpt(VOCAB, **(shape | FORMS[form] | changed))


def large(params):
    """Return parameters with which tokens differ, unlike those that a run begins by."""
    return jax.tree.map(lambda leaf: leaf * 8, params)


MODEL = make()
PARAMS = large(MODEL.init(KEY))
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, 3, CONTEXT))
each_form = pytest.mark.parametrize("form", FORMS)


# The net -----------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
@pytest.mark.parametrize("length", [0, 1, CONTEXT])
def test_any_leading_axes_and_any_length(lead, length):
    tokens = np.zeros((*lead, length), int)
    logits = jax.eval_shape(MODEL.apply, PARAMS, tokens)
    assert logits.shape == (*lead, length, VOCAB)


def test_the_parameters_of_a_gpt():
    params = MODEL.init(KEY)
    shapes = {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    w = WIDTH
    block = {
        ".attention_norm": (w,), ".qkv": (w, 3 * w), ".out": (w, w),
        ".feed_norm": (w,), ".up": (w, 4 * w), ".down": (4 * w, w),
    }  # fmt: skip
    assert shapes == {
        ".tokens": (VOCAB, w),
        ".positions": (CONTEXT, w),
        ".norm": (w,),
        **{f".blocks[{i}]{name}": s for i in range(2) for name, s in block.items()},
    }
    gains = [params.norm, *(b.attention_norm for b in params.blocks)]
    assert all((gain == 1).all() for gain in gains)


@pytest.mark.exhaustive
def test_weights_are_drawn_as_in_gpt_2():
    """Of n normal draws the variance spreads by v sqrt(2 / n): within five of those."""
    model = fg.gpt(500, context=200, width=64, layers=3, heads=4)
    params = model.init(KEY)
    one, *others = params.blocks

    def std_is(leaf, std):
        v = np.var(np.asarray(leaf, np.float64))
        return abs(v - std**2) < 5 * std**2 * (2 / leaf.size) ** 0.5

    for leaf in (params.tokens, params.positions, one.qkv, one.up):
        assert std_is(leaf, 0.02)
    for leaf in (one.out, one.down):
        assert std_is(leaf, 0.02 / 6**0.5) and not std_is(leaf, 0.02)
    assert all((one.up != other.up).all() for other in others)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_computes_in_the_dtype_of_the_params(dtype):
    def everything(key):
        params = MODEL.init(key, dtype)
        cache, first = MODEL.start(params, TOKENS[..., :2])
        after = MODEL.step(params, cache, TOKENS[..., 2])
        return params, cache, first, after, MODEL.apply(params, TOKENS)

    with jax.enable_x64(True):
        shapes = jax.tree.leaves(jax.eval_shape(everything, KEY))
    counts = [leaf for leaf in shapes if leaf.shape == ()]
    assert {leaf.dtype.name for leaf in counts} == {"int32"}
    assert {leaf.dtype.name for leaf in shapes if leaf.shape} == {dtype}


def by_hand(params, tokens, heads, activation, norm):
    """Return the logits of one row, a position and a head at a time, in NumPy."""

    def unit(gain, x):
        x = x - x.mean() if norm is fg.layer_norm else x
        return gain * x / np.sqrt(np.mean(x**2) + 1e-5)

    def act(x):
        if activation is jax.nn.relu:
            return np.maximum(x, 0)
        return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))

    xs = [params.tokens[t] + params.positions[i] for i, t in enumerate(tokens)]
    width = xs[0].size
    d = width // heads
    for b in params.blocks:
        qkv = [(unit(b.attention_norm, x) @ b.qkv).reshape(3, heads, d) for x in xs]
        for i, x in enumerate(xs):
            seen = []
            for h in range(heads):
                q = qkv[i][0, h]
                weights = np.exp([q @ other[1, h] / d**0.5 for other in qkv[: i + 1]])
                values = np.array([other[2, h] for other in qkv[: i + 1]])
                seen.append(weights / weights.sum() @ values)
            x = x + np.concatenate(seen) @ b.out
            xs[i] = x + act(unit(b.feed_norm, x) @ b.up) @ b.down
    return np.array([unit(params.norm, x) @ params.tokens.T for x in xs])


@pytest.mark.exhaustive
@each_form
@pytest.mark.parametrize("heads", [1, 4])
def test_logits_are_those_by_hand(form, heads):
    with jax.enable_x64(True):
        model = make(form, heads=heads)
        params = large(model.init(KEY, jnp.float64))
        given = jax.jit(model.apply)(params, TOKENS[0, 0])
        as_numpy = jax.tree.map(np.asarray, params)
        wanted = by_hand(as_numpy, TOKENS[0, 0], heads, *FORMS[form].values())
        assert np.abs(given - wanted).max() < ROUNDING
        assert np.abs(wanted).max() > 0.1  # so that this says something


def test_a_query_without_a_preference_takes_the_mean_of_what_it_may_see():
    v = jnp.array([[8.0], [4.0], [3.0], [1.0]])
    k = jnp.ones((4, 2))
    seen = fg.attention(jnp.zeros((4, 2)), k, v)
    # Means of 1, 2 and 4 numbers are exact; a third is rounded.
    assert seen[jnp.array([0, 1, 3]), 0].tolist() == [8, 6, 4]
    assert fg.attention(jnp.zeros((1, 2)), k, v, 1).tolist() == [[6]]


@each_form
def test_a_later_token_changes_no_earlier_logit_in_any_bit(form):
    model = make(form)
    apply = jax.jit(model.apply)
    before = np.asarray(apply(PARAMS, TOKENS))
    for t in range(CONTEXT):
        other = TOKENS.copy()
        other[..., t] = (other[..., t] + 1) % VOCAB
        after = np.asarray(apply(PARAMS, other))
        assert (after[..., :t, :] == before[..., :t, :]).all()
        assert (after[..., t:, :] != before[..., t:, :]).any(-1).all()


@each_form
@pytest.mark.parametrize(
    "begun",
    [
        1,
        pytest.param(0, marks=pytest.mark.exhaustive),
        pytest.param(CONTEXT - 1, marks=pytest.mark.exhaustive),
    ],
)
def test_the_cache_gives_the_logits_of_apply(form, begun):
    with jax.enable_x64(True):
        model = make(form)
        params = large(model.init(KEY, jnp.float64))
        wanted = jax.jit(model.apply)(params, TOKENS)
        cache, logits = jax.jit(model.start)(params, TOKENS[..., :begun])
        assert np.allclose(logits, wanted[..., :begun, :], atol=ROUNDING, rtol=0)
        step = jax.jit(model.step)
        for t in range(begun, CONTEXT):
            assert int(cache[0].read) == t
            cache, logits = step(params, cache, TOKENS[..., t])
            assert np.allclose(logits, wanted[..., t, :], atol=ROUNDING, rtol=0)
        with pytest.raises(ValueError, match=r"room in the cache, .* with 6 tok"):
            model.step(params, cache, TOKENS[..., 0])


# The objective -----------------------------------------------------------------------


def table(params, tokens):
    """Return logits (..., T, 4) off a table with a row a token: a bigram model."""
    return params[tokens]


BIGRAMS = fg.Model(lambda key: None, table)


@pytest.mark.exhaustive
def test_the_next_token_by_hand():
    # Logits of 0 or minus infinity: each next token has probability 1, 1/2 or 1/4.
    infinite = -np.inf
    logits = jnp.array(
        [
            [0, infinite, infinite, infinite],
            [0, 0, infinite, infinite],
            [0, 0, 0, 0],
            [0, 0, 0, 0],
        ]
    )
    nats = np.float32(np.log(2))
    loss = fg.next_token(BIGRAMS)
    assert loss(logits, np.array([0, 0])) == 0
    assert loss(logits, np.array([1, 0])) == nats
    assert loss(logits, np.array([2, 3])) == 2 * nats
    # Sums of 0, 1 and 2 times the same number, over a power of two, are exact.
    assert loss(logits, np.array([[0, 0, 0], [1, 1, 0]])) == nats / 2
    ignored = np.array([[0, 0, 0, -1], [2, 1, -1, -1]])
    assert loss(logits, np.array([[0, 0, -1], [2, 1, -1]])) == nats
    assert loss(logits, ignored) == np.float32(2 * nats / 3)
    assert jax.jit(loss)(logits, ignored) == loss(logits, ignored)


def test_an_ignored_token_is_read_as_0_and_has_no_slope():
    loss = fg.next_token(BIGRAMS)
    slope = jax.grad(loss)(jnp.zeros((4, 4)), np.array([[1, -1, 2], [-1, -1, -1]]))
    # One is kept: 2 after what counts as 0, by 4 likely tokens.
    assert slope[0].tolist() == [0.25, 0.25, -0.75, 0.25]
    assert not slope[1:].any()


def test_another_number_may_say_what_does_not_count():
    loss = fg.next_token(BIGRAMS, ignore=3)
    assert loss(jnp.zeros((4, 4)), np.array([0, 1, 3])) == np.float32(np.log(4))


@pytest.mark.exhaustive
def test_rows_that_next_token_refuses():
    loss = fg.next_token(MODEL)
    few = {
        "rows of whole numbers, got float32": np.zeros((2, 3), np.float32),
        r"two tokens at least, .* got shape \(3, 1\)": np.zeros((3, 1), int),
        r"two tokens at least, .* got shape \(\)": np.zeros((), int),
        r"rows of 6 tokens at most, .* shape \(2, 7\)": np.zeros((2, 8), int),
    }
    known = {
        "with a token to foretell, .* that is not -1": np.array([[1, -1, -1]]),
        "tokens from 0 to 6, .* got 7": np.array([[1, 7, 2]]),
        "tokens from 0 to 6, .* got 8": np.array([[1, 2, 8]]),
        "tokens from 0 to 6, .* got -2": np.array([[1, 2, -2]]),
    }
    for sentence, rows in (few | known).items():
        with pytest.raises(ValueError, match=sentence):
            loss(PARAMS, rows)
    for sentence, rows in few.items():
        with pytest.raises(ValueError, match=sentence):
            jax.jit(loss)(PARAMS, rows)
    for sentence, rows in known.items():
        assert jnp.isnan(jax.jit(loss)(PARAMS, rows))
        rows = jnp.asarray(rows)
        with pytest.raises(ValueError, match=sentence):
            check_data(loss, PARAMS, rows, rows)


# Through everything that takes a model ------------------------------------------------

# A line that repeats: what follows is known from the last two tokens on.
TEXT = np.tile([0, 1, 2, 0, 3], 40)
WINDOWS = np.stack([TEXT[i : i + CONTEXT + 1] for i in range(40)])


SMALL = {"width": 8, "layers": 1, "heads": 2}
SETTINGS = {"steps": 60, "batch_size": 8, "key": KEY}
RATE = 0.03
# Nothing is known at first, as far as weights of 0.02 go.
KNOWING_NOTHING = np.log(VOCAB)


@each_form
def test_trains(form):
    model = make(form, **SMALL)
    loss, optimizer = fg.next_token(model), optax.adam(RATE)
    state = fg.init_state(model.init(KEY), optimizer)
    run = jax.jit(lambda s: fg.train(loss, optimizer, s, WINDOWS, **SETTINGS))
    state, losses = run(state)
    assert abs(losses[0] - KNOWING_NOTHING) < 0.1
    assert losses[-1] < 0.5


@pytest.mark.exhaustive
def test_a_step_is_a_step_of_fit_and_of_many():
    model = make(**SMALL)
    loss, optimizer = fg.next_token(model), optax.adam(RATE)
    params = model.init(KEY)
    step = jax.jit(fg.make_step(loss, optimizer))
    _, first = step(fg.init_state(params, optimizer), WINDOWS)
    assert abs(first - KNOWING_NOTHING) < 0.1

    run = fg.fit(loss, optimizer, params, WINDOWS, progress=None, **SETTINGS)
    assert run.history.loss[-1] < 0.5

    rates = {"learning_rate": np.array([RATE, 0.0])}
    states, losses = fg.train_many(
        loss, optax.adam, model.init, rates, WINDOWS, **SETTINGS
    )
    assert losses[0, -1] < 0.5 and abs(losses[1, -1] - KNOWING_NOTHING) < 0.1
    assert states.params.tokens.shape == (2, VOCAB, 8)


def test_saved_and_loaded(tmp_path):
    fg.save(tmp_path / "gpt.safetensors", PARAMS)
    loaded = fg.load(tmp_path / "gpt.safetensors", MODEL.init(jax.random.key(1)))
    assert isinstance(loaded.blocks[1], fg.Block)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), loaded, PARAMS)
    assert all(jax.tree.leaves(same))


@pytest.mark.exhaustive
def test_a_model_wherever_one_is_wanted():
    loss = fg.objective(MODEL, fg.cross_entropy)
    rows = TOKENS[0]
    given = jax.jit(loss)(PARAMS, (rows[:, :-1], rows[:, 1:]))
    # The one divides by the number of entries, the other by the sum of their weights.
    other = jax.jit(fg.next_token(MODEL))(PARAMS, rows)
    assert abs(given - other) < 8 * np.spacing(np.float32(other))
    narrow = jax.jit(fg.cast(MODEL, jnp.bfloat16).apply)(PARAMS, TOKENS)
    wide = jax.jit(MODEL.apply)(PARAMS, TOKENS)
    assert narrow.dtype == jnp.float32 and (narrow != wide).any()


@each_form
@pytest.mark.exhaustive
def test_the_gradient_is_proven(form):
    # With a width of 2, layer_norm would leave a sign and nothing else.
    model = fg.gpt(3, context=2, width=4, layers=1, heads=2, **FORMS[form])
    params = large(model.init(KEY))
    report = check_gradients(fg.next_token(model), params, np.array([[0, 1, 2]]))
    assert report.ok, str(report)
    assert all(np.isfinite(leaf.bound) for leaf in report.leaves)


# Bad input ---------------------------------------------------------------------------

SIZES = {"context": 4, "width": 4, "layers": 1, "heads": 2}
BAD_SIZES = {
    "heads must divide the width, .* got 3 heads and a width of 4": {"heads": 3},
    "context must be a whole number of at least 1, got 0": {"context": 0},
    "width must be a whole number of at least 1, got 4.0": {"width": 4.0},
    "layers must be a whole number of at least 1, got True": {"layers": True},
    "heads must be a whole number of at least 1, got 0": {"heads": 0},
    "vocab must be a whole number of at least 1, got 'abc'": {"vocab": "abc"},
    "activation must be a function, .* got 'relu'": {"activation": "relu"},
    "norm must be a function, such as funcgrad.rms_norm, got None": {"norm": None},
}


@pytest.mark.parametrize("sentence", BAD_SIZES)
def test_sizes_that_are_refused(sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        fg.gpt(**({"vocab": 3} | SIZES | BAD_SIZES[sentence]))


def test_init_wants_a_key():
    with pytest.raises(ValueError, match="init needs one random key, got 0"):
        MODEL.init(0)


BAD_TOKENS = {
    "reads tokens, whole numbers, got float32": np.zeros((2, 3), np.float32),
    r"rows of 6 tokens at most, .* got tokens of shape \(2, 7\)": np.zeros((2, 7), int),
    r"rows of 6 tokens at most, .* got tokens of shape \(\)": np.zeros((), int),
    "tokens from 0 to 6, as it has 7, got 7": np.array([0, 7]),
    "tokens from 0 to 6, as it has 7, got -1": np.array([0, -1]),
}


@pytest.mark.parametrize("sentence", BAD_TOKENS)
def test_tokens_that_are_refused(sentence):
    for read in (MODEL.apply, MODEL.start):
        with pytest.raises(ValueError, match=sentence):
            read(PARAMS, BAD_TOKENS[sentence])


def test_a_cache_of_other_rows_is_refused():
    cache, _ = MODEL.start(PARAMS, TOKENS[..., :0])
    with pytest.raises(ValueError, match=r"the cache, shape \(2, 3\), got \(3,\): st"):
        MODEL.step(PARAMS, cache, TOKENS[0, :, 0])


def test_tokens_may_be_bytes():
    """Numbers of one byte are those numbers, 255 for no -1."""
    loss = jax.jit(fg.next_token(MODEL))
    rows = TOKENS[0]
    assert loss(PARAMS, rows.astype(np.uint8)) == loss(PARAMS, rows)
    assert jnp.isnan(loss(PARAMS, np.array([0, 1, 255], np.uint8)))


MLP = fg.mlp([3, 4]).init(KEY)
BAD_PARAMS = {
    "its parameters first, GptParams of 2 blocks, got tuple: model.init": MLP,
    "its parameters first, .* got GptParams of 1:": PARAMS._replace(
        blocks=PARAMS.blocks[:1]
    ),
    "its parameters first, .* got ndarray:": TOKENS,
    r"parameter .norm must be an array of shape \(8,\), got \(1,\)": PARAMS._replace(
        norm=jnp.ones(1)
    ),
    r"the parameter .norm must be an array of shape \(8,\), got float": PARAMS._replace(
        norm=1.0
    ),
    "the parameter .norm must hold floats, got int32": PARAMS._replace(
        norm=jnp.ones(WIDTH, int)
    ),
    r"the parameter .positions must be .* got \(7, 8\)": PARAMS._replace(
        positions=jnp.ones((7, 8))
    ),
}


@pytest.mark.parametrize("sentence", BAD_PARAMS)
def test_parameters_of_another_net_are_refused(sentence):
    with pytest.raises(ValueError, match=sentence):
        MODEL.apply(BAD_PARAMS[sentence], TOKENS)
