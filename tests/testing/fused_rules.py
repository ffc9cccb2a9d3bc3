"""Parts of a transformer with derivatives by hand, as fused kernels have them.

Each function takes the name of a mistake, one of those in MISTAKES, or "" for none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

EPSILON, SMOOTHING, BLOCK = 1e-5, 0.1, 4

MISTAKES = {
    "layer_norm": (
        "no mean of g",
        "no mean of g y",
        "variance of n - 1",
        "no epsilon",
        "gain's g without y",
        "bias's g as a mean",
        "gain forgotten",
    ),
    "flash_attention": (
        "no sum of o g",
        "no scale in q's g",
        "no scale in k's g",
        "maximum for logsumexp",
        "no mask in v's g",
        "mask off by one",
        "last block left out",
        "k's g of one block",
        "g for o",
    ),
    "cross_entropy": (
        "sum for mean",
        "no target",
        "no smoothing",
        "masked rows count",
        "w's g without a row",
        "targets off by one",
    ),
    "swiglu": ("no slope of x", "sigmoid for silu", "swapped", "stale gate"),
    "rotary": ("turned twice", "positions off by one", "halves swapped", "no minus"),
}


def layer_norm(mistake=""):
    def normal(x, n=0, epsilon=EPSILON):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).sum(-1, keepdims=True) / (x.shape[-1] - n)
        return centred, 1 / jnp.sqrt(variance + epsilon)

    @jax.custom_vjp
    def fused(x, gain, bias):
        centred, scale = normal(x)
        return centred * scale * gain + bias

    def backward(kept, g):
        x, gain = kept
        centred, scale = normal(
            x,
            n=mistake == "variance of n - 1",
            epsilon=0 if mistake == "no epsilon" else EPSILON,
        )
        y, rows = centred * scale, tuple(range(x.ndim - 1))
        of_bias = g.mean(rows) if mistake == "bias's g as a mean" else g.sum(rows)
        of_gain = (g if mistake == "gain's g without y" else g * y).sum(rows)
        h = g if mistake == "gain forgotten" else g * gain
        mean = 0 if mistake == "no mean of g" else h.mean(-1, keepdims=True)
        along = 0 if mistake == "no mean of g y" else (h * y).mean(-1, keepdims=True)
        return scale * (h - mean - y * along), of_gain, of_bias

    fused.defvjp(lambda x, gain, bias: (fused(x, gain, bias), (x, gain)), backward)
    return fused


def flash_attention(mistake=""):
    """Attention over (..., n, d), causal, a block of keys at a time."""

    def scores(q, k, start, shift=0):
        rows, columns = jnp.arange(q.shape[-2]), start + jnp.arange(k.shape[-2])
        seen = rows[:, None] >= columns[None, :] + shift
        return jnp.where(seen, q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5, -jnp.inf)

    def blocks(n):
        return range(0, n, BLOCK)

    def run(q, k, v):
        top = jnp.full((*q.shape[:-1], 1), -jnp.inf, q.dtype)
        total, out = jnp.zeros_like(top), jnp.zeros_like(q)
        for start in blocks(q.shape[-2]):
            at = slice(start, start + BLOCK)
            s = scores(q, k[..., at, :], start)
            above = jnp.maximum(top, s.max(-1, keepdims=True))
            weights, shrunk = jnp.exp(s - above), jnp.exp(top - above)
            total = shrunk * total + weights.sum(-1, keepdims=True)
            out = shrunk * out + weights @ v[..., at, :]
            top = above
        return out / total, top, total

    @jax.custom_vjp
    def fused(q, k, v):
        return run(q, k, v)[0]

    def forward(q, k, v):
        out, top, total = run(q, k, v)
        above = top if mistake == "maximum for logsumexp" else top + jnp.log(total)
        return out, (q, k, v, out, above)

    def backward(kept, g):
        q, k, v, out, above = kept
        scale = q.shape[-1] ** -0.5
        along = (g if mistake == "g for o" else out) * g
        along = 0 if mistake == "no sum of o g" else along.sum(-1, keepdims=True)
        of_q, of_k, of_v = jnp.zeros_like(q), [], []
        for start in blocks(q.shape[-2]):
            at = slice(start, start + BLOCK)
            s = scores(q, k[..., at, :], start, mistake == "mask off by one")
            p = jnp.exp(s - above)
            left = jnp.exp(jnp.where(s == -jnp.inf, 0, s) - above)
            of_v.append((left if mistake == "no mask in v's g" else p).mT @ g)
            of_s = p * (g @ v[..., at, :].mT - along)
            if not (mistake == "last block left out" and start + BLOCK >= q.shape[-2]):
                by_q = 1 if mistake == "no scale in q's g" else scale
                of_q = of_q + of_s @ k[..., at, :] * by_q
            rows = slice(0, BLOCK if mistake == "k's g of one block" else None)
            by_k = 1 if mistake == "no scale in k's g" else scale
            of_k.append(of_s[..., rows, :].mT @ q[..., rows, :] * by_k)
        return of_q, jnp.concatenate(of_k, -2), jnp.concatenate(of_v, -2)

    fused.defvjp(forward, backward)
    return fused


def cross_entropy(mistake=""):
    """Mean cross-entropy of x @ w, smoothed; targets below 0 do not count."""

    def wanted(targets, n):
        exact = jax.nn.one_hot(targets, n)
        return exact if mistake == "no smoothing" else smoothed(exact, n)

    def smoothed(exact, n):
        return (1 - SMOOTHING) * exact + SMOOTHING / n

    @jax.custom_vjp
    def fused(x, w, targets):
        logits = x @ w
        each = jax.nn.logsumexp(logits, -1) - (
            smoothed(jax.nn.one_hot(targets, w.shape[-1]), w.shape[-1]) * logits
        ).sum(-1)
        return jnp.where(targets >= 0, each, 0).sum() / (targets >= 0).sum()

    def backward(kept, g):
        x, w, targets = kept
        counts = targets >= 0
        if mistake == "masked rows count":
            counts = jnp.ones_like(counts)
        of_logits = jax.nn.softmax(x @ w)
        if mistake != "no target":
            shifted = targets + (mistake == "targets off by one")
            of_logits = of_logits - wanted(shifted, w.shape[-1])
        rows = 1 if mistake == "sum for mean" else (targets >= 0).sum()
        of_logits = of_logits * (g * counts / rows)[..., None]
        skip = 1 if mistake == "w's g without a row" else 0
        of_w = jnp.einsum("...i,...j->ij", x[..., skip:, :], of_logits[..., skip:, :])
        none = np.zeros(targets.shape, jax.dtypes.float0)
        return of_logits @ w.T, of_w, none

    fused.defvjp(lambda *args: (fused(*args), args), backward)
    return fused


def swiglu(mistake=""):
    @jax.custom_vjp
    def fused(gate, up):
        return gate * jax.nn.sigmoid(gate) * up

    def backward(kept, g):
        gate, up = kept
        if mistake == "stale gate":
            gate = gate * jax.nn.sigmoid(gate)
        s = jax.nn.sigmoid(gate)
        slope = s if mistake == "no slope of x" else s + gate * s * (1 - s)
        of_up = g * (s if mistake == "sigmoid for silu" else gate * s)
        of_gate = g * up * slope
        return (of_up, of_gate) if mistake == "swapped" else (of_gate, of_up)

    fused.defvjp(lambda gate, up: (fused(gate, up), (gate, up)), backward)
    return fused


def rotary(mistake=""):
    """Turn pairs of (..., n, d), those of d / 2 apart, by their position's angles."""

    def turned(x, sign, shift=0):
        n, half = x.shape[-2], x.shape[-1] // 2
        rates = 100.0 ** (-jnp.arange(half) / half)
        angles = ((jnp.arange(n) + shift)[:, None] * rates).astype(x.dtype)
        c, s = jnp.cos(angles), sign * jnp.sin(angles)
        a, b = x[..., :half], x[..., half:]
        return a * c - b * s, a * s + b * c, s

    @jax.custom_vjp
    def fused(x):
        return jnp.concatenate(turned(x, 1)[:2], -1)

    def backward(_, g):
        sign = 1 if mistake == "turned twice" else -1
        a, b, s = turned(g, sign, mistake == "positions off by one")
        if mistake == "no minus":
            a = a + 2 * g[..., g.shape[-1] // 2 :] * s
        if mistake == "halves swapped":
            a, b = b, a
        return (jnp.concatenate([a, b], -1),)

    fused.defvjp(lambda x: (fused(x), None), backward)
    return fused


PARTS = {
    "layer_norm": layer_norm,
    "flash_attention": flash_attention,
    "cross_entropy": cross_entropy,
    "swiglu": swiglu,
    "rotary": rotary,
}


def transformer(part="", mistake="", *, rows=2, context=8, width=8, layers=1, tokens=7):
    """Return a loss whose parts are all fused, one of them with a mistake."""
    made = {name: make(mistake * (name == part)) for name, make in PARTS.items()}
    draw = np.random.RandomState(0)
    norm, heads = made["layer_norm"], 2

    def weights(*shape):
        return jnp.asarray(draw.standard_normal(shape) / np.sqrt(shape[0]))

    params = {
        "embedding": weights(tokens, width),
        "layers": [
            {
                "norms": [1 + weights(2, width), weights(2, width)],
                "qkv": weights(width, 3 * width),
                "out": weights(width, width),
                "gate": weights(width, 2 * width),
                "up": weights(width, 2 * width),
                "down": weights(2 * width, width),
            }
            for _ in range(layers)
        ],
        "logits": weights(width, tokens),
    }
    ids = draw.randint(0, tokens, (rows, context + 1))
    ids[-1, -1] = -1  # does not count

    def block(p, x):
        gains, biases = p["norms"]
        split = (*x.shape[:-1], heads, -1)
        qkv = jnp.split(norm(x, gains[0], biases[0]) @ p["qkv"], 3, -1)
        q, k, v = (a.reshape(split).swapaxes(-2, -3) for a in qkv)
        mixed = made["flash_attention"](made["rotary"](q), made["rotary"](k), v)
        x = x + mixed.swapaxes(-2, -3).reshape(x.shape) @ p["out"]
        h = norm(x, gains[1], biases[1])
        return x + made["swiglu"](h @ p["gate"], h @ p["up"]) @ p["down"]

    def loss(params, ids):
        x = params["embedding"][ids[:, :-1]]
        for p in params["layers"]:
            x = block(p, x)
        return made["cross_entropy"](x, params["logits"], ids[:, 1:])

    return loss, (params, ids)
