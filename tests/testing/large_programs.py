"""Programs as they are trained, at a size of one's choice, in the default float type.

Each function returns another one and its arguments, of which the first is
differentiated.
"""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import funcgrad as fg


class Draw:
    """Random arrays, drawn by NumPy: JAX would compile a program for each shape."""

    def __init__(self):
        self._draw = np.random.RandomState(0)

    def __call__(self, *shape, scale=1.0):
        return jnp.asarray(scale * self._draw.standard_normal(shape))

    def weights(self, *shape):
        return self(*shape, scale=float(np.prod(shape[:-1])) ** -0.5)

    def labels(self, n, *shape):
        return self._draw.randint(0, n, shape)


def convolve(x, w, stride=1):
    return lax.conv_general_dilated(
        x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def batch_norm(x, gain, bias):
    axes = tuple(range(x.ndim - 1))
    centred = x - x.mean(axes)
    return gain * centred / jnp.sqrt((centred**2).mean(axes) + 1e-5) + bias


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def label_loss(logits, labels):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def mlp(rows=16, width=12, labels=5):
    model = fg.mlp([width, width, width, labels], final_activation=fg.linear)
    draw = Draw()
    params = jax.tree.map(
        lambda w: draw.weights(*w.shape), model.init(jax.random.key(0))
    )
    batch = draw(rows, width), draw.labels(labels, rows)
    return fg.objective(model, fg.cross_entropy), (params, batch)


def resnet(rows=4, size=8, width=4, blocks=1, labels=5):
    draw = Draw()

    def layer(n, m):
        return {"w": draw.weights(3, 3, n, m), "gain": 1 + draw(m), "bias": draw(m)}

    params = {
        "first": layer(3, width),
        "blocks": [[layer(width, width), layer(width, width)] for _ in range(blocks)],
        "down": layer(width, 2 * width),
        "last": draw.weights(2 * width, labels),
    }

    def apply(p, x, stride=1):
        return batch_norm(convolve(x, p["w"], stride), p["gain"], p["bias"])

    def f(params, x, labels):
        x = pooled(jax.nn.relu(apply(params["first"], x)))
        for first, second in params["blocks"]:
            x = jax.nn.relu(x + apply(second, jax.nn.relu(apply(first, x))))
        x = jax.nn.relu(apply(params["down"], x, 2))
        return label_loss(x.mean((1, 2)) @ params["last"], labels)

    return f, (params, draw(rows, size, size, 3), draw.labels(labels, rows))


def lstm(steps=6, rows=3, width=4, labels=5):
    draw = Draw()
    params = {
        "x": draw.weights(width, 4 * width),
        "h": draw.weights(width, 4 * width),
        "b": draw(4 * width),
        "out": draw.weights(width, labels),
    }

    def f(params, xs, labels):
        def cell(state, x):
            h, c = state
            gates = x @ params["x"] + h @ params["h"] + params["b"]
            i, f, g, o = jnp.split(gates, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((xs.shape[1], xs.shape[2]), xs.dtype)
        (h, _), all_h = lax.scan(cell, (zero, zero), xs)
        return label_loss(h @ params["out"], labels) + (all_h**2).mean()

    return f, (params, draw(steps, rows, width), draw.labels(labels, rows))


def u_net(rows=2, size=8, width=3):
    draw = Draw()
    params = {
        "in": draw.weights(3, 3, 2, width),
        "down": draw.weights(3, 3, width, 2 * width),
        "up": draw.weights(2, 2, 2 * width, width),
        "out": draw.weights(3, 3, 3 * width, 1),
        "gain": 1 + draw(2 * width),
        "bias": draw(2 * width),
    }

    def f(params, x, y):
        skip = jax.nn.silu(convolve(x, params["in"]))
        x = convolve(pooled(skip), params["down"])
        x = jax.nn.silu(batch_norm(x, params["gain"], params["bias"]))
        learned = lax.conv_transpose(x, params["up"], (2, 2), "SAME")
        rows, n, m, _ = skip.shape
        shape = rows, n, m, x.shape[-1] // 2
        resized = jax.image.resize(x[..., : shape[-1]], shape, "bilinear")
        both = jnp.concatenate([skip, learned, resized], -1)
        return ((convolve(both, params["out"]) - y) ** 2).mean()

    return f, (params, draw(rows, size, size, 2), draw(rows, size, size, 1))


def adam_step(rows=6, width=5):
    """Return the loss behind a step of Adam, as meta-learning differentiates it."""
    draw = Draw()
    params = [draw.weights(width, width), draw.weights(width, 1)]
    batch = draw(rows, width), draw(rows, 1)
    optimizer = optax.adam(1e-2)
    state = optimizer.init(params)
    for _ in range(3):  # the root of a second moment that is 0 has no slope
        seen = jax.tree.map(lambda w: draw(*w.shape), params)
        _, state = optimizer.update(seen, state)

    def loss(params, batch):
        x, y = batch
        return ((jnp.tanh(x @ params[0]) @ params[1] - y) ** 2).mean()

    def f(params, state, batch):
        updates, _ = optimizer.update(jax.grad(loss)(params, batch), state)
        return loss(optax.apply_updates(params, updates), batch)

    return f, (params, state, batch)


def gpt(rows=3, context=6, width=8, layers=1, tokens=7):
    model = fg.gpt(tokens, context=context, width=width, layers=layers, heads=2)
    draw = Draw()
    params = jax.tree.map(
        lambda w: draw(*w.shape, scale=max(w.shape[0], 4) ** -0.5),
        model.init(jax.random.key(0)),
    )
    return fg.next_token(model), (params, draw.labels(tokens, rows, context + 1))


# Of other libraries, as they come -----------------------------------------------------


def equinox_net(rows=2, size=8, width=4):
    """Return a net of a convolution, pooling, attention, a GRU and norms."""
    eqx = importlib.import_module("equinox")
    keys = iter(jax.random.split(jax.random.key(0), 8))

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        pool: eqx.nn.MaxPool2d
        group: eqx.nn.GroupNorm
        attention: eqx.nn.MultiheadAttention
        norm: eqx.nn.LayerNorm
        cell: eqx.nn.GRUCell
        mlp: eqx.nn.MLP

        def __call__(self, x):
            x = self.pool(jax.nn.gelu(self.group(self.conv(x))))
            x = x.reshape(x.shape[0], -1).T
            x = x + self.attention(x, x, x)
            x = jax.vmap(self.norm)(x)
            state, _ = lax.scan(
                lambda h, row: (self.cell(row, h), None), jnp.zeros(width), x
            )
            return self.mlp(state)

    net = Net(
        eqx.nn.Conv2d(3, width, 3, padding=1, key=next(keys)),
        eqx.nn.MaxPool2d(2, 2),
        eqx.nn.GroupNorm(2, width),
        eqx.nn.MultiheadAttention(2, width, key=next(keys)),
        eqx.nn.LayerNorm(width),
        eqx.nn.GRUCell(width, width, key=next(keys)),
        eqx.nn.MLP(width, 5, 2 * width, 2, key=next(keys)),
    )
    params, rest = eqx.partition(net, eqx.is_inexact_array)
    draw = Draw()

    def f(params, x, labels):
        return label_loss(jax.vmap(eqx.combine(params, rest))(x), labels)

    return f, (params, draw(rows, 3, size, size), draw.labels(5, rows))


def nnx_net(rows=4, size=8, width=4):
    """Return a net of a convolution, batch norm, dropout, attention and an LSTM."""
    nnx = importlib.import_module("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, width, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(width, rngs=rngs)
            self.dropout = nnx.Dropout(0.25, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
            self.recurrent = nnx.RNN(nnx.LSTMCell(width, width, rngs=rngs))
            self.last = nnx.Linear(width, 5, rngs=rngs)

        def __call__(self, x):
            x = nnx.relu(self.norm(self.conv(x)))
            x = self.dropout(nnx.avg_pool(x, (2, 2), (2, 2)))
            x = x.reshape(x.shape[0], -1, width)
            return self.last(self.recurrent(x + self.attention(x))[:, -1])

    definition, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)
    draw = Draw()

    def f(params, rest, x, labels):
        return label_loss(nnx.merge(definition, params, rest)(x), labels)

    return f, (params, rest, draw(rows, size, size, 3), draw.labels(5, rows))


def linen_net(rows=4, size=8, width=4):
    """Return a net of convolutions, norms, dropout, attention and a GRU."""
    nn = importlib.import_module("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(
                nn.BatchNorm(use_running_average=False)(nn.Conv(width, (3, 3))(x))
            )
            x = nn.Dropout(0.25, deterministic=False)(nn.max_pool(x, (2, 2), (2, 2)))
            x = nn.GroupNorm(2)(nn.ConvTranspose(width, (2, 2), (2, 2))(x))
            x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1, width)
            x = x + nn.MultiHeadDotProductAttention(2)(x, x)
            return nn.Dense(5)(nn.RNN(nn.GRUCell(width))(x)[:, -1])

    draw, net = Draw(), Net()
    x, labels = draw(rows, size, size, 3), draw.labels(5, rows)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = net.init(keys, x)

    def f(params, stats, x, labels):
        logits, _ = net.apply(
            {"params": params, "batch_stats": stats}, x,
            mutable=["batch_stats"], rngs={"dropout": keys["dropout"]},
        )  # fmt: skip
        return label_loss(logits, labels)

    return f, (variables["params"], variables["batch_stats"], x, labels)


PROGRAMS = {
    "mlp": mlp,
    "resnet": resnet,
    "lstm": lstm,
    "u_net": u_net,
    "adam_step": adam_step,
    "gpt": gpt,
}
LIBRARIES = {"equinox": equinox_net, "flax.nnx": nnx_net, "flax.linen": linen_net}
