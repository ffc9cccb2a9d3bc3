"""The transformer: GPT as pure functions, read in one sitting.

Tokens become vectors; each block lets every position read those before it (attention)
and then think about it alone (two layers); what comes out is compared with each token's
vector. There are no biases, and the first and the last matrix are one. Sources: Vaswani
et al. 2017; Radford et al. 2019 (GPT-2); Karpathy's nanoGPT and microgpt.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from funcgrad.arguments import Array, at_least, check_function, check_key
from funcgrad.fast.kept import kept
from funcgrad.gpt_checks import (
    check_room,
    check_vocabulary,
    checked_heads,
    checked_rows,
    checked_tokens,
)
from funcgrad.losses import cross_entropy
from funcgrad.mlp import Activation
from funcgrad.model import AnyModel, Objective, Params

Norm = Callable[[Array, jax.Array], jax.Array]
"""norm(gain, x), over the last axis."""

# Keeps the root of a variance of 0 apart from 0.
_EPSILON = 1e-5
_STD = 0.02


class Block(NamedTuple):
    """The parameters of one block, each half of which begins with the gain of a norm.

    In `qkv` queries, keys and values are side by side; a head takes neighbouring
    columns of each third.
    """

    attention_norm: Array  # (width,)
    qkv: Array  # (width, 3 width)
    out: Array  # (width, width)
    feed_norm: Array  # (width,)
    up: Array  # (width, 4 width)
    down: Array  # (4 width, width)


class GptParams(NamedTuple):
    """The parameters of a GPT, whose logits are made by the tokens' vectors too."""

    tokens: Array  # (vocab, width)
    positions: Array  # (context, width)
    blocks: tuple[Block, ...]
    norm: Array  # (width,)


class Past(NamedTuple):
    """What a block has read: keys and values of `read` tokens, and room behind them."""

    keys: jax.Array  # (..., heads, context, width / heads)
    values: jax.Array
    read: jax.Array  # int32 of shape ()


Cache = tuple[Past, ...]
"""One `Past` a block."""


class Gpt(NamedTuple):
    """Pure functions; the first two are a `Model` wherever one is wanted.

    init: `init(key, dtype=jnp.float32) -> GptParams`.
    apply: `apply(params, tokens (..., T)) -> logits (..., T, vocab)`, for T up to the
        context. Those at position t are of the token after it, by tokens 0 to t.
    start: `start(params, tokens (..., T)) -> (cache, logits (..., T, vocab))`, the same
        with what was read; T may be 0.
    step: `step(params, cache, token (...)) -> (cache, logits (..., vocab))` reads one
        token more, where the context has room for it.
    """

    init: Callable[..., GptParams]
    apply: Callable[[Params, Any], jax.Array]
    start: Callable[[Params, Any], tuple[Cache, jax.Array]]
    step: Callable[[Params, Cache, Any], tuple[Cache, jax.Array]]


def layer_norm(gain: Array, x: jax.Array) -> jax.Array:
    """Return gain (x - mean) / sqrt(variance + 1e-5). Source: Ba et al. 2016."""
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + _EPSILON) * gain


def rms_norm(gain: Array, x: jax.Array) -> jax.Array:
    """Return gain x / sqrt(mean(x^2) + 1e-5). Source: Zhang and Sennrich 2019."""
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + _EPSILON) * gain


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, offset: ArrayLike = 0
) -> jax.Array:
    """Return softmax(q k^T / sqrt(d)) v, where no query sees a later key.

    `q` has shape (..., T, d), `k` and `v` have (..., S, d), and the query at t sees the
    keys from 0 to offset + t.
    """
    scores = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    is_seen = jnp.arange(k.shape[-2]) <= offset + jnp.arange(q.shape[-2])[:, None]
    return kept(jax.nn.softmax(kept(jnp.where(is_seen, scores, -jnp.inf)))) @ v


def block(
    params: Block,
    x: jax.Array,
    past: Past | None = None,
    *,
    heads: int,
    activation: Activation = jax.nn.gelu,
    norm: Norm = layer_norm,
) -> tuple[jax.Array, Past | None]:
    """Return x + attention(norm(x)), plus two layers on the norm of that, and the past.

    `x` has shape (..., T, width). With a past its tokens follow those that were read,
    and are written behind them.
    """
    qkv = norm(params.attention_norm, x) @ params.qkv
    qkv = qkv.reshape(*x.shape[:-1], 3, heads, x.shape[-1] // heads)
    q, k, v = (qkv[..., i, :, :].swapaxes(-2, -3) for i in range(3))
    if past is None:
        seen = attention(q, k, v)
    else:
        keys = lax.dynamic_update_slice_in_dim(past.keys, k, past.read, -2)
        values = lax.dynamic_update_slice_in_dim(past.values, v, past.read, -2)
        seen = attention(q, keys, values, past.read)
        past = Past(keys, values, past.read + x.shape[-2])
    x = kept(x + seen.swapaxes(-2, -3).reshape(x.shape) @ params.out)
    x = x + activation(kept(norm(params.feed_norm, x) @ params.up)) @ params.down
    return kept(x), past


def gpt(
    vocab: int,
    *,
    context: int,
    width: int,
    layers: int,
    heads: int,
    activation: Activation = jax.nn.gelu,
    norm: Norm = layer_norm,
) -> Gpt:
    """Return the GPT on `vocab` tokens, of which it reads `context` at most.

    Each of `layers` blocks has `heads` heads of width / heads. GPT-2 and nanoGPT have
    gelu, in its tanh form as `jax.nn.gelu`, and `layer_norm`; microgpt has
    `jax.nn.relu` and `rms_norm`. Weights are drawn from a normal distribution of
    standard deviation 0.02, and those that end a half of a block, whose outputs add up,
    of 0.02 / sqrt(2 layers), as in GPT-2; gains start at 1.

    Tokens are whole numbers from 0 to vocab - 1. Others raise where their values are
    known; inside a jitted function nobody looks, but for `next_token`.

    >>> model = gpt(65, context=64, width=32, layers=2, heads=4)
    >>> params = model.init(jax.random.key(0))
    >>> model.apply(params, jnp.zeros((12, 64), int)).shape
    (12, 64, 65)
    """
    vocab, context = at_least(1, "vocab", vocab), at_least(1, "context", context)
    width, heads = checked_heads(width, heads)
    layers = at_least(1, "layers", layers)
    check_function("activation", activation, "jax.nn.relu")
    check_function("norm", norm, "funcgrad.rms_norm")

    def init(key: jax.Array, dtype: DTypeLike = jnp.float32) -> GptParams:
        check_key("init", key)
        token_key, position_key, *keys = jax.random.split(key, 2 + layers)
        return GptParams(
            tokens=_normal(token_key, (vocab, width), dtype),
            positions=_normal(position_key, (context, width), dtype),
            blocks=tuple(_draw_block(k, width, layers, dtype) for k in keys),
            norm=jnp.ones(width, dtype),
        )

    shapes = jax.eval_shape(init, jax.random.key(0))

    def read(params: GptParams, tokens: jax.Array, cache: Any) -> tuple[Any, jax.Array]:
        """Return the cache with these tokens too, if there is one, and their logits."""
        pasts = [None] * layers if cache is None else cache
        first = 0 if cache is None else cache[0].read
        at = first + jnp.arange(tokens.shape[-1])
        x = params.tokens[tokens] + params.positions[at]
        after = []
        for p, past in zip(params.blocks, pasts, strict=True):
            x, past = block(p, x, past, heads=heads, activation=activation, norm=norm)
            after.append(past)
        return tuple(after), norm(params.norm, x) @ params.tokens.T

    def apply(params: Params, tokens: ArrayLike) -> jax.Array:
        return read(params, checked_tokens(shapes, params, tokens), None)[1]

    def start(params: Params, tokens: ArrayLike) -> tuple[Cache, jax.Array]:
        tokens = checked_tokens(shapes, params, tokens)
        room = (*tokens.shape[:-1], heads, context, width // heads)
        empty = jnp.zeros(room, params.tokens.dtype)
        return read(params, tokens, (Past(empty, empty, jnp.int32(0)),) * layers)

    def step(params: Params, cache: Cache, token: ArrayLike) -> tuple[Cache, jax.Array]:
        tokens = checked_tokens(shapes, params, jnp.asarray(token)[..., None])
        check_room(cache[0].keys.shape, cache[0].read, tokens)
        cache, logits = read(params, tokens, cache)
        return cache, logits[..., 0, :]

    return Gpt(init, apply, start, step)


def next_token(model: AnyModel, ignore: int = -1) -> Objective:
    """Return f(params, rows): the mean cross-entropy of each token by those before it.

    `rows` are whole numbers of shape (..., T + 1), of which the first T are read and
    the last T foretold: the mean is over those that are not `ignore`, as what fills a
    short row up is. Read, such a token counts as 0. Tokens that the model does not
    have, and rows with none to foretell, raise where their values are known; inside a
    jitted function they make the loss NaN.
    """

    def f(params: Params, rows: ArrayLike) -> jax.Array:
        tokens = checked_rows(rows, ignore)
        is_kept = tokens != ignore
        tokens = jnp.where(is_kept, tokens, 0)
        logits = model.apply(params, tokens[..., :-1])
        is_known = check_vocabulary(rows, tokens, logits.shape[-1], ignore)
        loss = cross_entropy(logits, tokens[..., 1:], is_kept[..., 1:])
        return jnp.where(is_known, loss, jnp.nan)

    return f


def _draw_block(key: jax.Array, width: int, layers: int, dtype: DTypeLike) -> Block:
    keys = jax.random.split(key, 4)
    end = _STD / math.sqrt(2 * layers)
    return Block(
        attention_norm=jnp.ones(width, dtype),
        qkv=_normal(keys[0], (width, 3 * width), dtype),
        out=_normal(keys[1], (width, width), dtype, end),
        feed_norm=jnp.ones(width, dtype),
        up=_normal(keys[2], (width, 4 * width), dtype),
        down=_normal(keys[3], (4 * width, width), dtype, end),
    )


def _normal(
    key: jax.Array, shape: tuple[int, int], dtype: DTypeLike, std: float = _STD
) -> jax.Array:
    return std * jax.random.normal(key, shape, dtype)
