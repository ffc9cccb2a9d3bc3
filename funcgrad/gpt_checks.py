"""What a GPT must be given: its own parameters, tokens that it has, room to read."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from funcgrad.arguments import check_parameter
from funcgrad.losses import check_values


def checked_tokens(tokens: ArrayLike, vocab: int, context: int) -> jax.Array:
    """Return `tokens` as int32, or say why the model cannot read them."""
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


def check_params(shapes: Any, params: Any) -> None:
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
