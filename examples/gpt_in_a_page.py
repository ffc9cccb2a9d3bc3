"""A GPT in a page: all of it, from text to tokens, net, loss, training and sampling.

Nothing here is from `funcgrad.gpt`, which is this with checks, heads that are fast, and
a cache to sample by. A character is a token. Each becomes a vector of its own plus one
of its place. In a block every place asks those before it (attention), then thinks alone
(two layers), and adds what it finds to its vector. Logits compare the vectors at the
end with those of all characters, and the loss is the surprise at the next one:

    -log softmax(logits)[next]

The text is the documentation that every Python carries in `pydoc_data`, half a million
characters of English. One sees the loss fall from log(number of characters), which is
knowing nothing, below what counting characters is worth, and words appear in a sample.
The loop is the worked example's: loss, gradient, update.

    python examples/gpt_in_a_page.py
"""

from pydoc_data.topics import topics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcgrad as fg

CONTEXT, WIDTH, LAYERS, HEADS = 32, 64, 2, 4
BATCH, STEPS, RATE = 16, 400, 3e-3


class Block(NamedTuple):
    qkv: jax.Array
    out: jax.Array
    up: jax.Array
    down: jax.Array


class Params(NamedTuple):
    tokens: jax.Array
    positions: jax.Array
    blocks: tuple


def init(key, vocab):
    keys = iter(jax.random.split(key, 2 + 4 * LAYERS))

    def normal(*shape):
        return 0.02 * jax.random.normal(next(keys), shape)

    return Params(
        tokens=normal(vocab, WIDTH),
        positions=normal(CONTEXT, WIDTH),
        blocks=tuple(
            Block(
                qkv=normal(WIDTH, 3 * WIDTH),
                out=normal(WIDTH, WIDTH),
                up=normal(WIDTH, 4 * WIDTH),
                down=normal(4 * WIDTH, WIDTH),
            )
            for _ in range(LAYERS)
        ),
    )


def norm(x):
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def attention(x, block):
    """Mix the values of the places up to each, by how their keys fit its query."""
    batch, length, width = x.shape
    qkv = (x @ block.qkv).reshape(batch, length, 3, HEADS, width // HEADS)
    q, k, v = (qkv[:, :, i].swapaxes(1, 2) for i in range(3))
    scores = q @ k.swapaxes(2, 3) / (width // HEADS) ** 0.5
    is_before = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(is_before, scores, -jnp.inf))
    return (weights @ v).swapaxes(1, 2).reshape(x.shape) @ block.out


def logits(params, tokens):
    """Return logits (batch, length, vocab) for tokens (batch, length)."""
    x = params.tokens[tokens] + params.positions[: tokens.shape[1]]
    for block in params.blocks:
        x = x + attention(norm(x), block)
        x = x + jax.nn.relu(norm(x) @ block.up) @ block.down
    return norm(x) @ params.tokens.T


def loss(params, rows):
    """Return the mean surprise at each next token of rows (batch, length + 1)."""
    surprise = -jax.nn.log_softmax(logits(params, rows[:, :-1]))
    return jnp.take_along_axis(surprise, rows[:, 1:, None], -1).mean()


def windows(key, text):
    """Return rows (BATCH, CONTEXT + 1) of the text, from anywhere in it."""
    starts = jax.random.randint(key, (BATCH,), 0, len(text) - CONTEXT)
    return text[starts[:, None] + jnp.arange(CONTEXT + 1)]


@jax.jit
def write(params, key, text):
    """Draw the next token again and again, by the last CONTEXT; later ones are 0."""

    def draw(i, text):
        start = jnp.maximum(i - CONTEXT, 0)
        seen = jax.lax.dynamic_slice_in_dim(text, start, CONTEXT)
        scores = logits(params, seen[None])[0, i - start - 1]
        return text.at[i].set(
            jax.random.categorical(jax.random.fold_in(key, i), scores)
        )

    return jax.lax.fori_loop(1, len(text), draw, text)


def main():
    text = "\n".join(topics[name] for name in sorted(topics))
    characters = sorted(set(text))
    tokens = np.array([characters.index(c) for c in text])
    shares = np.bincount(tokens) / len(tokens)
    counting = -(shares * np.log(shares)).sum()
    print(f"{len(text):,} characters, {len(characters)} kinds")

    optimizer = optax.adam(RATE)
    state = fg.init_state(init(jax.random.key(0), len(characters)), optimizer)
    data = fg.Drawn(windows, jnp.asarray(tokens))
    state, losses = jax.jit(
        lambda state, data: fg.train(
            loss, optimizer, state, data, steps=STEPS, key=jax.random.key(1)
        )
    )(state, data)
    print(f"log of the number of kinds: {np.log(len(characters)):.2f} nats a character")
    print(f"loss at first: {losses[0]:.2f}")
    print(f"counting characters: {counting:.2f}")
    print(f"loss at last: {losses[-20:].mean():.2f}")

    blank = jnp.full(200, characters.index("\n"))
    drawn = write(state.params, jax.random.key(2), blank)
    print("a sample:", "".join(characters[i] for i in drawn))


if __name__ == "__main__":
    main()
