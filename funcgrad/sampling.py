"""Text from a trained GPT: one token after another, in one compiled loop."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from funcgrad.arguments import at_least, check_key
from funcgrad.gpt import Cache, Gpt
from funcgrad.losses import check_values
from funcgrad.model import Params


def sample(
    model: Gpt,
    params: Params,
    key: jax.Array,
    *,
    prompt: ArrayLike,
    length: int,
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
) -> jax.Array:
    """Return the `length` tokens drawn to follow `prompt`, int32 of (..., length).

    `prompt` has shape (..., T), T >= 1, one row or many, each of which goes its own
    way. Token i is drawn by `fold_in(key, i)` from softmax(logits / temperature); a
    temperature of 0 takes the likeliest. With `top_k` only the k likeliest can be drawn
    (and others as likely as the last of them).

    Past the context C it goes on so: once C tokens are read, the last C // 2 of them
    are read again, at positions from 0, before the next one is. A long prompt is read
    by the same rule, so that each token is drawn by the C // 2 + 1 to C tokens before
    it, or by all there are.

    >>> from funcgrad.gpt import gpt
    >>> model = gpt(65, context=8, width=16, layers=1, heads=2)
    >>> params = model.init(jax.random.key(0))
    >>> prompt = jnp.zeros((3, 1), int)
    >>> sample(model, params, jax.random.key(1), prompt=prompt, length=20).shape
    (3, 20)
    """
    if not isinstance(model, Gpt):
        raise ValueError(
            f"sample needs a Gpt, which reads tokens one after another, got "
            f"{type(model).__name__}: funcgrad.gpt makes one"
        )
    check_key("sample", key)
    length = at_least(0, "length", length)
    if top_k is not None:
        top_k = at_least(1, "top_k", top_k)
    # Shapes that differ from prompt to prompt would be programs of JAX's, each its own.
    xp: Any = jnp if isinstance(prompt, jax.core.Tracer) else np
    tokens: Any = xp.asarray(prompt)
    if tokens.ndim == 0 or tokens.shape[-1] == 0:
        raise ValueError(
            f"sample needs a prompt of one token at least, got shape {tokens.shape}: "
            f"for example the token of a line's end"
        )
    cache, logits = jax.eval_shape(model.start, params, tokens[..., :0])
    vocab, context = logits.shape[-1], cache[0].keys.shape[-2]
    check_values(
        "sample",
        "a prompt of tokens",
        tokens,
        lambda t: (t >= 0) & (t < vocab),
        f"from 0 to {vocab - 1}, as the model has {vocab}",
    )
    check_values(
        "sample",
        "a temperature",
        temperature,
        lambda t: np.isfinite(t) & (t >= 0),
        "that is finite and at least 0",
    )
    # The last token is read by the loop, as those that it draws are.
    n = _in_sight(tokens.shape[-1] - 1, context)
    known = tokens[..., tokens.shape[-1] - 1 - n :].astype(np.int32)
    room = min(context, 1 << n.bit_length()) - n
    read = xp.pad(known[..., :-1], [(0, 0)] * (tokens.ndim - 1) + [(0, room)])
    return _draw(
        model, params, key, read, np.int32(n), known[..., -1], length, temperature,
        context, top_k,
    )  # fmt: skip


def _in_sight(tokens: int, context: int) -> int:
    """Return how many positions are filled once so many tokens are read."""
    if tokens <= context:
        return tokens
    again = context // 2
    return again + 1 + (tokens - context - 1) % (context - again)


@partial(jax.jit, static_argnames=("model", "length", "context", "top_k"))
def _draw(
    model: Gpt,
    params: Params,
    key: jax.Array,
    prompt: jax.Array,
    n: jax.Array,
    token: jax.Array,
    length: int,
    temperature: ArrayLike,
    context: int,
    top_k: int | None,
) -> jax.Array:
    """Return what follows the first n tokens of the prompt, and `token` after them.

    What is behind the n is written over before a later token sees it.
    """
    again = context // 2
    cache = tuple(past._replace(read=n) for past in model.start(params, prompt)[0])
    before = [(0, 0)] * (prompt.ndim - 1) + [(again, 0)]
    last = lax.dynamic_slice_in_dim(jnp.pad(prompt, before), n, again, -1)

    def turn(carry: tuple[Cache, jax.Array, jax.Array], i: jax.Array) -> Any:
        """Read a token and draw the next, i; `last` are those that were read last."""
        cache, last, token = carry
        cache = lax.cond(
            cache[0].read == context,
            lambda: model.start(params, last)[0],
            lambda: cache,
        )
        cache, logits = model.step(params, cache, token)
        last = jnp.concatenate([last, token[..., None]], -1)[..., 1:]
        token = _choose(jax.random.fold_in(key, i), logits, temperature, top_k)
        return (cache, last, token), token

    _, tokens = lax.scan(turn, (cache, last, token), jnp.arange(length))
    return jnp.moveaxis(tokens, 0, -1)


def _choose(
    key: jax.Array, logits: jax.Array, temperature: ArrayLike, top_k: int | None
) -> jax.Array:
    """Return one token for each row of logits."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    likeliest = logits.argmax(-1).astype(jnp.int32)
    if top_k is not None and top_k < logits.shape[-1]:
        least = lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    t = jnp.asarray(temperature, logits.dtype)
    drawn = jax.random.categorical(key, logits / jnp.where(t == 0, 1, t))
    return jnp.where(t == 0, likeliest, drawn.astype(jnp.int32))
