"""What a GPT must be given: its own parameters, tokens that it has, rows, room."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from funcgrad.arguments import at_least, check_parameter
from funcgrad.losses import check_values


def checked_heads(width: Any, heads: Any) -> tuple[int, int]:
    """Return both as ints, or say that a head would get no equal part of the width."""
    width, heads = at_least(1, "width", width), at_least(1, "heads", heads)
    if width % heads:
        raise ValueError(
            f"heads must divide the width, as each gets an equal part of it, got "
            f"{heads} heads and a width of {width}"
        )
    return width, heads


def checked_tokens(shapes: Any, params: Any, tokens: ArrayLike) -> jax.Array:
    """Return `tokens` as int32, or say why the model cannot read them.

    It is the one whose parameters have these `shapes`, and `params` must be, too.
    """
    _check_params(shapes, params)
    vocab, context = shapes.tokens.shape[0], shapes.positions.shape[0]
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(
            f"the model reads tokens, whole numbers, got {tokens.dtype}: convert them "
            f"with tokens.astype(int)"
        )
    if tokens.ndim == 0 or tokens.shape[-1] > context:
        raise ValueError(
            f"the model reads rows of {context} tokens at most, the context that it "
            f"was made with, got tokens of shape {tokens.shape}: cut the last axis"
        )
    check_values(
        "the model",
        "tokens",
        tokens,
        lambda t: (t >= 0) & (t < vocab),
        f"from 0 to {vocab - 1}, as it has {vocab}",
    )
    return tokens.astype(jnp.int32)


def _check_params(shapes: Any, params: Any) -> None:
    """Raise unless `params` are those of the model with arrays of these shapes."""
    wanted, given = (
        {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (shapes, params))
    )
    kind = type(shapes)
    if not isinstance(params, kind) or wanted.keys() != given.keys():
        blocks = f" of {len(params.blocks)}" if isinstance(params, kind) else ""
        raise ValueError(
            f"the model needs its parameters first, {kind.__name__} of "
            f"{len(shapes.blocks)} blocks, got {type(params).__name__}{blocks}: "
            f"model.init(key) makes them"
        )
    for name, leaf in given.items():
        check_parameter(name, leaf, wanted[name].shape, jnp.floating)


def check_room(room: tuple[int, ...], read: Any, tokens: jax.Array) -> None:
    """Raise unless a cache of this shape has room for one token more of each row."""
    *rows, _, context, _ = room
    if tuple(rows) != tokens.shape[:-1]:
        raise ValueError(
            f"step needs one token for each row of the cache, shape {tuple(rows)}, got "
            f"{tokens.shape[:-1]}: start with as many rows"
        )
    if not isinstance(read, jax.core.Tracer) and read >= context:
        raise ValueError(
            f"step needs room in the cache, got one that is full with {read} tokens, "
            f"the model's context: start again with the last of them"
        )


def checked_rows(rows: ArrayLike, ignore: int) -> jax.Array:
    """Return `rows` as int32, or say why no token of them can be foretold."""
    rows = jnp.asarray(rows)
    if not jnp.issubdtype(rows.dtype, jnp.integer):
        raise ValueError(
            f"next_token needs rows of whole numbers, got {rows.dtype}: convert "
            f"them with rows.astype(int)"
        )
    if rows.ndim == 0 or rows.shape[-1] < 2:
        raise ValueError(
            f"next_token needs rows of two tokens at least, one to read and one to "
            f"foretell, got shape {rows.shape}: pass (..., T + 1)"
        )
    check_values(
        "next_token",
        "rows",
        rows,
        lambda t: np.broadcast_to((t[..., 1:] != ignore).any(), t.shape),
        f"with a token to foretell, one at least behind the first that is not {ignore}",
    )
    return rows.astype(jnp.int32)


def check_vocabulary(
    rows: ArrayLike, tokens: jax.Array, vocab: int, ignore: int
) -> jax.Array:
    """Raise, or return False where values are traced, unless the model has all tokens.

    In `tokens` those of `rows` that are ignored are 0.
    """
    check_values(
        "next_token",
        "rows",
        rows,
        lambda t: (t == ignore) | ((t >= 0) & (t < vocab)),
        f"of tokens from 0 to {vocab - 1}, or {ignore} for what does not count",
    )
    return ((tokens >= 0) & (tokens < vocab)).all()
