"""Derivatives as people write them by hand, with constants that they rounded.

Every rule is right; beside it stand wrong ones, close enough to pass for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import sigmoid
from jax.scipy.stats import norm


class HandRule(NamedTuple):
    """A function, its arguments, and its vector-Jacobian product by hand.

    `pull(args, g)` returns one cotangent for each argument; each of `wrong` does so.
    """

    f: Callable[..., Any]
    args: tuple[Any, ...]
    pull: Callable[..., tuple[Any, ...]]
    wrong: dict[str, Callable[..., tuple[Any, ...]]]


def with_rule(f, pull):
    """Return f with `pull` as its derivative."""

    @jax.custom_vjp
    def by_hand(*args):
        return f(*args)

    by_hand.defvjp(lambda *args: (f(*args), args), pull)
    return by_hand


def elementwise(f, slope, x, /, **wrong):
    def pull(slope):
        return lambda args, g: (g * slope(*args),)

    return HandRule(f, (x,), pull(slope), {k: pull(w) for k, w in wrong.items()})


def draw(*shape, dtype, seed=0):
    # By NumPy: JAX would compile a program for each shape and type.
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), dtype)


ROOT_HALF, ROOT_THIRD = 1 / math.sqrt(2), 1 / math.sqrt(3)
ROOT_OF_TWO_OVER_PI = math.sqrt(2 / math.pi)


# Activations --------------------------------------------------------------------------


def gelu_by_erf(x, half=ROOT_HALF, root=None):
    root = jnp.sqrt(2 * jnp.pi) if root is None else root
    return 0.5 * (1 + lax.erf(x * half)) + x * jnp.exp(-x * x / 2) / root


def gelu_by_tanh(x, scale=ROOT_OF_TWO_OVER_PI, cubic=0.044715, slope=0.134145):
    t = jnp.tanh(scale * (x + cubic * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale * (1 + slope * x * x)


def mish_slope(x):
    t, s = jnp.tanh(jax.nn.softplus(x)), sigmoid(x)
    return t + x * s * (1 - t * t)


def selu_slope(x, scale=1.0507009873554805, product=1.7580993408473766):
    return jnp.where(x > 0, scale, product * jnp.exp(x))


def activations(dtype):
    x = jnp.array([0.5, -1.25, 2.0, -0.1875], dtype)

    def quick_gelu(x):
        return x * sigmoid(1.702 * x)

    def quick_slope(x, rate=1.702):
        s = sigmoid(rate * x)
        return s + rate * x * s * (1 - s)

    def soft(x):
        return jnp.log1p(jnp.exp(0.3 * x)) / 0.3

    def logcosh(x):
        return x + jax.nn.softplus(-2 * x) - math.log(2)

    def lecun(x):
        return 1.7159 * jnp.tanh(2 / 3 * x)

    def lecun_slope(x, product=1.7159 * 2 / 3):
        return product * (1 - jnp.tanh(2 / 3 * x) ** 2)

    def exact_gelu(x):
        return jax.nn.gelu(x, approximate=False)

    def tanh_gelu(x):
        return jax.nn.gelu(x, approximate=True)

    return {
        "gelu by cdf and pdf": elementwise(
            exact_gelu,
            lambda x: norm.cdf(x) + x * norm.pdf(x),
            x,
            sign=lambda x: norm.cdf(x) - x * norm.pdf(x),
            no_x=lambda x: norm.cdf(x) + norm.pdf(x),
            sigma=lambda x: norm.cdf(x) + x * norm.pdf(x, scale=1.0000001),
        ),
        "gelu by erf": elementwise(
            exact_gelu,
            gelu_by_erf,
            x,
            half=lambda x: gelu_by_erf(x, half=0.70710691),
            root=lambda x: gelu_by_erf(x, root=2.5066289),
        ),
        "gelu by tanh, folded": elementwise(
            tanh_gelu,
            gelu_by_tanh,
            x,
            slope=lambda x: gelu_by_tanh(x, slope=0.13414503),
            scale=lambda x: gelu_by_tanh(x, scale=0.79788470),
            cubic=lambda x: gelu_by_tanh(x, cubic=0.04471502),
            no_three=lambda x: gelu_by_tanh(x, slope=0.044715),
        ),
        "gelu by tanh, not folded": elementwise(
            tanh_gelu,
            lambda x: gelu_by_tanh(
                x, math.sqrt(2) / math.sqrt(math.pi), slope=3 * 0.044715
            ),
            x,
            two=lambda x: gelu_by_tanh(x, ROOT_OF_TWO_OVER_PI, slope=2 * 0.044715),
            scale=lambda x: gelu_by_tanh(x, 0.79788441, slope=3 * 0.044715),
        ),
        "quick gelu": elementwise(
            quick_gelu,
            quick_slope,
            x,
            rate=lambda x: quick_slope(x, rate=1.7020003),
            no_rate=lambda x: (
                sigmoid(1.702 * x) + x * sigmoid(1.702 * x) * sigmoid(-1.702 * x)
            ),
        ),
        "silu": elementwise(
            jax.nn.silu,
            lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
            x,
            no_one=lambda x: sigmoid(x) * (x * (1 - sigmoid(x))),
            square=lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x) ** 2)),
        ),
        "softplus": elementwise(
            jax.nn.softplus,
            sigmoid,
            x,
            sign=lambda x: sigmoid(-x),
            tanh=jnp.tanh,
        ),
        "softplus with a sharpness": elementwise(
            soft,
            lambda x: sigmoid(0.3 * x),
            x,
            sharper=lambda x: sigmoid(0.30000006 * x),
            scaled=lambda x: 0.3 * sigmoid(0.3 * x),
        ),
        "mish": elementwise(
            lambda x: x * jnp.tanh(jax.nn.softplus(x)),
            mish_slope,
            x,
            half=lambda x: mish_slope(x) - jnp.tanh(jax.nn.softplus(x)),
            log=lambda x: mish_slope(x) + 1e-7 * sigmoid(x),
        ),
        "log cosh": elementwise(
            logcosh,
            jnp.tanh,
            x,
            sinh=jnp.sinh,
            double=lambda x: jnp.tanh(2 * x),
        ),
        "tanh of LeCun": elementwise(
            lecun,
            lecun_slope,
            x,
            product=lambda x: lecun_slope(x, product=1.1439336),
            no_scale=lambda x: lecun_slope(x, product=1.7159),
        ),
        "selu, folded": elementwise(
            jax.nn.selu,
            selu_slope,
            x,
            scale=lambda x: selu_slope(x, scale=1.0507013),
            product=lambda x: selu_slope(x, product=1.6732632),
        ),
        "elu": elementwise(
            lambda x: jax.nn.elu(x, 1.3),
            lambda x: jnp.where(x > 0, 1, 1.3 * jnp.exp(x)),
            x,
            no_alpha=lambda x: jnp.where(x > 0, 1, jnp.exp(x)),
            alpha=lambda x: jnp.where(x > 0, 1, 1.3000003 * jnp.exp(x)),
        ),
        "leaky relu": elementwise(
            lambda x: jax.nn.leaky_relu(x, 0.01),
            lambda x: jnp.where(x > 0, 1.0, 0.01),
            x,
            slope=lambda x: jnp.where(x > 0, 1.0, 0.010000002),
            relu=lambda x: jnp.where(x > 0, 1.0, 0.0),
        ),
        "hard swish": elementwise(
            lambda x: x * jnp.clip(x + 3, 0, 6) / 6,
            lambda x: jnp.where(abs(x) < 3, 0.3333333333333333 * x + 0.5, x > 0),
            x,
            third=lambda x: jnp.where(abs(x) < 3, 0.3333334 * x + 0.5, x > 0),
            no_half=lambda x: jnp.where(abs(x) < 3, 0.3333333333333333 * x, x > 0),
        ),
    }


# Functions ----------------------------------------------------------------------------


def functions(dtype):
    x = jnp.array([0.5, -1.25, 2.0, -0.1875], dtype)
    positive = jnp.array([0.5, 1.25, 2.75, 0.1875], dtype)

    def bell(x):
        return jnp.exp(-0.5 * (x / 0.3) ** 2)

    def pseudo_huber(x):
        return 0.7**2 * (jnp.sqrt(1 + (x / 0.7) ** 2) - 1)

    def sine_of_degrees(x):
        return jnp.sin(jnp.deg2rad(x))

    return {
        "erf": elementwise(
            lax.erf,
            lambda x: 2 / math.sqrt(math.pi) * jnp.exp(-x * x),
            x,
            digit=lambda x: 1.1283794 * jnp.exp(-x * x),
            root=lambda x: 2 / math.sqrt(2 * math.pi) * jnp.exp(-x * x),
        ),
        "erf, by a staged root": elementwise(
            lax.erf,
            lambda x: 2 * jnp.exp(-x * x) / jnp.sqrt(jnp.pi),
            x,
            pi=lambda x: 2 * jnp.exp(-x * x) / jnp.sqrt(3.1415935),
            half=lambda x: 2 * jnp.exp(-x * x / 2) / jnp.sqrt(jnp.pi),
        ),
        "erfc": elementwise(
            lax.erfc,
            lambda x: -1.1283791670955126 * jnp.exp(-x * x),
            x,
            sign=lambda x: 1.1283791670955126 * jnp.exp(-x * x),
            digit=lambda x: -1.1283789 * jnp.exp(-x * x),
        ),
        "normal cdf": elementwise(
            norm.cdf,
            lambda x: 0.3989422804014327 * jnp.exp(-0.5 * x * x),
            x,
            digit=lambda x: 0.39894238 * jnp.exp(-0.5 * x * x),
            no_half=lambda x: 0.3989422804014327 * jnp.exp(-x * x),
        ),
        "normal pdf": elementwise(
            norm.pdf,
            lambda x: -x / math.sqrt(2 * math.pi) * jnp.exp(-0.5 * x * x),
            x,
            sign=lambda x: x / math.sqrt(2 * math.pi) * jnp.exp(-0.5 * x * x),
            digit=lambda x: -x / 2.5066285 * jnp.exp(-0.5 * x * x),
        ),
        "log of the normal cdf": elementwise(
            lambda x: jnp.log(norm.cdf(x)),
            lambda x: norm.pdf(x) / norm.cdf(x),
            x,
            tail=lambda x: norm.pdf(x) / norm.cdf(-x),
            scale=lambda x: norm.pdf(x, scale=1.0000001) / norm.cdf(x),
        ),
        "bell": elementwise(
            bell,
            lambda x: -x / 0.09 * bell(x),
            x,
            width=lambda x: -x / 0.090000021 * bell(x),
            sign=lambda x: x / 0.09 * bell(x),
        ),
        "log2": elementwise(
            jnp.log2,
            lambda x: 1.4426950408889634 / x,
            positive,
            digit=lambda x: 1.4426953 / x,
            natural=lambda x: 1 / x,
        ),
        "log10": elementwise(
            jnp.log10,
            lambda x: 1 / (math.log(10) * x),
            positive,
            digit=lambda x: 1 / (2.3025856 * x),
            inverse=lambda x: math.log(10) / x,
        ),
        "exp2": elementwise(
            jnp.exp2,
            lambda x: 0.6931471805599453 * jnp.exp2(x),
            x,
            digit=lambda x: 0.69314730 * jnp.exp2(x),
            natural=lambda x: jnp.exp2(x),
        ),
        "ten to the x": elementwise(
            lambda x: jnp.exp(x * math.log(10)),
            lambda x: math.log(10) * 10.0**x,
            x,
            digit=lambda x: 2.3025856 * 10.0**x,
            natural=lambda x: 10.0**x,
        ),
        "cube root": elementwise(
            jnp.cbrt,
            lambda x: 0.3333333333333333 / jnp.cbrt(x) ** 2,
            positive,
            digit=lambda x: 0.33333339 / jnp.cbrt(x) ** 2,
            power=lambda x: 0.3333333333333333 / jnp.cbrt(x),
        ),
        "power of 1.7": elementwise(
            lambda x: x**1.7,
            lambda x: 1.7 * x**0.7,
            positive,
            factor=lambda x: 1.7000004 * x**0.7,
            power=lambda x: 1.7 * x**0.70000021,
        ),
        "sine of degrees": elementwise(
            sine_of_degrees,
            lambda x: math.pi / 180 * jnp.cos(x * (math.pi / 180)),
            10 * x,
            digit=lambda x: 0.017453297 * jnp.cos(x * (math.pi / 180)),
            radians=lambda x: jnp.cos(x * (math.pi / 180)),
        ),
        "pseudo-Huber, folded": elementwise(
            pseudo_huber,
            lambda x: x / jnp.sqrt(1 + x**2 / 0.49),
            x,
            width=lambda x: x / jnp.sqrt(1 + x**2 / 0.49000009),
            not_squared=lambda x: x / jnp.sqrt(1 + x**2 / 0.7),
        ),
        "entropy in bits": elementwise(
            lambda x: -x * jnp.log2(x),
            lambda x: -(jnp.log(x) + 1) * 1.4426950408889634,
            positive,
            no_one=lambda x: -jnp.log(x) * 1.4426950408889634,
            digit=lambda x: -(jnp.log(x) + 1) * 1.4426953,
        ),
    }


# Layers -------------------------------------------------------------------------------


def standardized(x, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def standardized_pull(x, g, eps=1e-5, middle=1, scale=1):
    """Return g pulled back through the standardization of the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = lax.rsqrt((centred**2).mean(-1, keepdims=True) + eps)
    hat = centred * inverse
    along = (g * hat).mean(-1, keepdims=True)
    return scale * inverse * (g - middle * g.mean(-1, keepdims=True) - hat * along)


def rms_norm(x, gain):
    return gain * x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def rms_norm_pull(args, g, eps=1e-6, third=1 / 3):
    x, gain = args
    inverse = lax.rsqrt((x * x).mean(-1, keepdims=True) + eps)
    along = (g * gain * x).sum(-1, keepdims=True) * third
    return inverse * (g * gain - x * inverse**2 * along), (g * x * inverse).sum(0)


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / math.sqrt(3)) @ v


def attention_pull(args, g, scale=ROOT_THIRD, centre=1):
    q, k, v = args
    p = jax.nn.softmax(q @ k.T * scale)
    along = g @ v.T
    scores = p * (along - centre * (along * p).sum(-1, keepdims=True)) * scale
    return scores @ k, scores.T @ q, p.T @ g


def rotary(x):
    c, s = jnp.cos(0.7), jnp.sin(0.7)
    return jnp.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], -1)


def rotary_pull(args, g, angle=0.7, sign=1):
    c, s = math.cos(angle), sign * math.sin(angle)
    return (jnp.stack([c * g[:, 0] + s * g[:, 1], c * g[:, 1] - s * g[:, 0]], -1),)


def swiglu(x, gate):
    return x * gate * sigmoid(1.3 * gate)


def swiglu_pull(args, g, rate=1.3):
    x, gate = args
    s = sigmoid(rate * gate)
    return g * gate * s, g * x * (s + rate * gate * s * (1 - s))


def cosine(x, y):
    return (x * y).sum() / (
        jnp.sqrt((x * x).sum() + 1e-6) * jnp.sqrt((y * y).sum() + 1e-6)
    )


def cosine_pull(args, g, eps=1e-6, sign=-1):
    x, y = args
    xx, yy, xy = (x * x).sum() + eps, (y * y).sum() + eps, (x * y).sum()
    both = lax.rsqrt(xx) * lax.rsqrt(yy)
    return (
        g * both * (y + sign * xy / xx * x),
        g * both * (x + sign * xy / yy * y),
    )


def luminance(x):
    return 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]


def luminance_pull(args, g, red=0.299, blue=0.114):
    return (jnp.stack([red * g, 0.587 * g, blue * g], -1),)


def layers(dtype):
    x, g = draw(2, 3, dtype=dtype), 1 + draw(3, dtype=dtype, seed=1) / 4
    q, k, v = (draw(2, 3, dtype=dtype, seed=i) for i in range(3))
    groups = draw(2, 2, 3, dtype=dtype)

    def layer_norm(x, gain):
        return gain * standardized(x)

    def layer_norm_pull(args, g, **wrong):
        x, gain = args
        return standardized_pull(x, g * gain, **wrong), (g * standardized(x)).sum(0)

    return {
        "layer norm": HandRule(
            layer_norm,
            (x, g),
            layer_norm_pull,
            {
                "eps": lambda a, g: layer_norm_pull(a, g, eps=1.0000002e-5),
                "no mean": lambda a, g: layer_norm_pull(a, g, middle=0),
                "scale": lambda a, g: layer_norm_pull(a, g, scale=1.0000002),
            },
        ),
        "rms norm": HandRule(
            rms_norm,
            (x, g),
            rms_norm_pull,
            {
                "eps": lambda a, g: rms_norm_pull(a, g, eps=1e-5),
                "third": lambda a, g: rms_norm_pull(a, g, third=0.33333339),
            },
        ),
        "group norm": HandRule(
            standardized,
            (groups,),
            lambda a, g: (standardized_pull(*a, g),),
            {
                "eps": lambda a, g: (standardized_pull(*a, g, eps=1.0000002e-5),),
                "mean": lambda a, g: (standardized_pull(*a, g, middle=0.9999998),),
            },
        ),
        "attention": HandRule(
            attention,
            (q, k, v),
            attention_pull,
            {
                "scale": lambda a, g: attention_pull(a, g, scale=0.57735033),
                "no scale": lambda a, g: attention_pull(a, g, scale=1),
                "centre": lambda a, g: attention_pull(a, g, centre=0),
            },
        ),
        "rotary": HandRule(
            rotary,
            (x[:, :2],),
            rotary_pull,
            {
                "sign": lambda a, g: rotary_pull(a, g, sign=-1),
                "angle": lambda a, g: rotary_pull(a, g, angle=0.7000004),
            },
        ),
        "swiglu": HandRule(
            swiglu,
            (x, x[::-1]),
            swiglu_pull,
            {
                "rate": lambda a, g: swiglu_pull(a, g, rate=1.3000003),
                "swapped": lambda a, g: swiglu_pull(a, g)[::-1],
            },
        ),
        "cosine similarity": HandRule(
            cosine,
            (x[0], x[1]),
            cosine_pull,
            {
                "eps": lambda a, g: cosine_pull(a, g, eps=1e-7),
                "sign": lambda a, g: cosine_pull(a, g, sign=1),
            },
        ),
        "luminance": HandRule(
            luminance,
            (x,),
            luminance_pull,
            {
                "red": lambda a, g: luminance_pull(a, g, red=0.29900008),
                "swapped": lambda a, g: luminance_pull(a, g, 0.114, 0.299),
            },
        ),
        "mean of three": HandRule(
            lambda x: x.mean(-1),
            (x,),
            lambda a, g: (jnp.broadcast_to(g[:, None] * (1 / 3), (2, 3)),),
            {
                "two": lambda a, g: (jnp.broadcast_to(g[:, None] / 2, (2, 3)),),
                "digit": lambda a, g: (
                    jnp.broadcast_to(g[:, None] * 0.33333339, (2, 3)),
                ),
            },
        ),
    }


# Losses -------------------------------------------------------------------------------


def cross_entropy(logits, labels, smoothing=0.1):
    targets = jax.nn.one_hot(labels, 4, dtype=logits.dtype) * (1 - smoothing)
    return -((targets + smoothing / 4) * jax.nn.log_softmax(logits)).sum()


def smoothed_pull(logits, g, labels, kept=0.9, rest=0.025):
    one_hot = jax.nn.one_hot(labels, 4, dtype=logits.dtype)
    return (g * (jax.nn.softmax(logits) - kept * one_hot - rest),)


def tempered(logits):
    return jax.nn.logsumexp(logits / 0.07, -1).sum()


def huber(x, y):
    d = abs(x - y)
    return jnp.where(d < 0.3, 0.5 * d * d, 0.3 * d - 0.045).sum()


def huber_pull(args, g, width=0.3):
    d = g * jnp.clip(args[0] - args[1], -width, width)
    return d, -d


def weighted_pull(x, y, g, weight=1.3):
    s = sigmoid(x)
    return (g * (s * (1 - y) - weight * y * (1 - s)),)


def losses(dtype):
    logits, other = draw(3, 4, dtype=dtype), draw(3, 4, dtype=dtype, seed=1)
    labels, binary = jnp.array([0, 3, 1]), other > 0
    rows = jnp.arange(3)

    def plain(logits):
        return -jax.nn.log_softmax(logits)[rows, labels].mean()

    def plain_pull(a, g, third=1 / 3):
        p = jax.nn.softmax(a[0]).at[rows, labels].add(-1.0)
        return (g * third * p,)

    def weighted(x):
        return (
            jax.nn.softplus(x) * (1 - binary) + 1.3 * binary * jax.nn.softplus(-x)
        ).sum()

    def likelihood(x, scale):
        return (
            0.5 * math.log(2 * math.pi) + scale + 0.5 * (x / jnp.exp(scale)) ** 2
        ).sum()

    def likelihood_pull(a, g, two=2.0):
        x, scale = a
        ratio = x * jnp.exp(-scale)
        return g * ratio * jnp.exp(-scale), g * (1 - ratio**two)

    def tempered_pull(a, g, inverse=1 / 0.07):
        return (g * inverse * jax.nn.softmax(a[0] * inverse),)

    def average(x, y):
        return 0.9 * x + (1 - 0.9) * y

    return {
        "softmax cross-entropy": HandRule(
            plain,
            (logits,),
            plain_pull,
            {
                "digit": lambda a, g: plain_pull(a, g, third=0.33333339),
                "sum": lambda a, g: plain_pull(a, g, third=1),
            },
        ),
        "smoothed cross-entropy": HandRule(
            lambda x: cross_entropy(x, labels),
            (logits,),
            lambda a, g: smoothed_pull(*a, g, labels),
            {
                "kept": lambda a, g: smoothed_pull(*a, g, labels, kept=0.90000021),
                "rest": lambda a, g: smoothed_pull(*a, g, labels, rest=0.1 / 3),
            },
        ),
        "softmax at a temperature": HandRule(
            tempered,
            (logits / 8,),
            tempered_pull,
            {
                "inverse": lambda a, g: tempered_pull(a, g, inverse=14.285718),
                "no inverse": lambda a, g: (jax.nn.softmax(a[0] / 0.07),),
            },
        ),
        "huber": HandRule(
            huber,
            (logits, other),
            huber_pull,
            {
                "width": lambda a, g: huber_pull(a, g, width=0.30000006),
                "sign": lambda a, g: (huber_pull(a, g)[0],) * 2,
            },
        ),
        "weighted binary cross-entropy": HandRule(
            weighted,
            (logits,),
            lambda a, g: weighted_pull(*a, binary, g),
            {
                "weight": lambda a, g: weighted_pull(*a, binary, g, weight=1.3000003),
                "no weight": lambda a, g: weighted_pull(*a, binary, g, weight=1),
            },
        ),
        "normal likelihood": HandRule(
            likelihood,
            (logits, other / 4),
            likelihood_pull,
            {
                "not squared": lambda a, g: likelihood_pull(a, g, two=1.0),
                "swapped": lambda a, g: likelihood_pull(a, g)[::-1],
            },
        ),
        "moving average": HandRule(
            average,
            (logits, other),
            lambda a, g: (0.9 * g, 0.1 * g),
            {
                "swapped": lambda a, g: (0.1 * g, 0.9 * g),
                "digit": lambda a, g: (0.9 * g, 0.10000003 * g),
            },
        ),
    }


def all_rules(dtype):
    return {
        **activations(dtype),
        **functions(dtype),
        **layers(dtype),
        **losses(dtype),
    }
