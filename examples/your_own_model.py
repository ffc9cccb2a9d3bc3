"""A model of your own: a recurrent net that learns the parity of a row of bits.

A model is a pair of pure functions, `init(key) -> params` and `apply(params, x) -> y`,
and the parameters are any pytree. Nothing in the training code knows what a layer is.
This one reads bits one after another, keeps a state h of 8 numbers, and says after each
bit whether the number of ones so far is odd:

    h = tanh(h @ w_h + bit * w_x + b),   logit = h @ w_y + b_y

It is trained on rows of 8 bits and then asked about rows of 24. One sees its gradient
proven, the loss fall, and that it has learnt the rule and not the rows: it is right at
the end of the longer ones too.

    python examples/your_own_model.py
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import funcgrad as fg
from funcgrad.testing import assert_gradients

WIDTH, STEPS = 8, 1500


class Recurrent(NamedTuple):
    """The parameters: a pytree with names."""

    w_h: jax.Array
    w_x: jax.Array
    b: jax.Array
    w_y: jax.Array
    b_y: jax.Array


def init(key):
    key_h, key_x, key_y = jax.random.split(key, 3)
    return Recurrent(
        w_h=jax.random.normal(key_h, (WIDTH, WIDTH)) / WIDTH**0.5,
        w_x=jax.random.normal(key_x, (WIDTH,)),
        b=jnp.zeros(WIDTH),
        w_y=jax.random.normal(key_y, (WIDTH,)) / WIDTH**0.5,
        b_y=jnp.zeros(()),
    )


def apply(params, bits):
    """Return a logit after each bit, (rows, length), for bits of the same shape."""

    def read(h, bit):
        h = jnp.tanh(h @ params.w_h + bit[:, None] * params.w_x + params.b)
        return h, h @ params.w_y + params.b_y

    start = jnp.zeros((bits.shape[0], WIDTH))
    _, logits = jax.lax.scan(read, start, bits.T)
    return logits.T


def draw(key, rows, length):
    """Return bits and their running parity, each (rows, length), as floats."""
    bits = jax.random.bernoulli(key, shape=(rows, length)).astype(float)
    return bits, jnp.cumsum(bits, axis=1) % 2


def main():
    model = fg.Model(init, apply)
    objective = fg.objective(model, fg.binary_cross_entropy)
    params = model.init(jax.random.key(0))

    assert_gradients(objective, params, draw(jax.random.key(1), rows=4, length=3))
    print("gradient: proven on 4 rows of 3 bits")

    run = fg.fit(
        objective,
        optax.adam(optax.linear_schedule(0.05, 0.005, STEPS)),
        params,
        draw(jax.random.key(2), rows=512, length=8),
        steps=STEPS,
        batch_size=64,
        key=jax.random.key(3),
    )
    loss = run.history.loss
    print(f"loss: {loss[0]:.2f} at first, {loss[-1]:.4f} at last")

    bits, parity = draw(jax.random.key(4), rows=1000, length=24)
    right = (model.apply(run.state.params, bits) > 0) == (parity == 1)
    print(f"right on {right[:, -1].mean():.1%} of 1,000 rows of 24 bits")


if __name__ == "__main__":
    main()
