"""160 random programs, most with a wrong rule or at an odd point, end in a verdict.

Which one it is, the other tests say; here nothing may raise, and what is blamed must
be named. The programs have empty and scalar leaves, loops, branches, rules that close
over arrays, infinities and ties.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_random_programs import SAME_SHAPE

from funcgrad.testing import check_gradients
from funcgrad.testing.report import MEANINGS

PROGRAMS_PER_PART, PARTS = 10, 16

SHAPES = [(), (0,), (1,), (3,), (2, 3), (2, 0), (0, 3), (4, 1), (2, 2, 2), (17,)]

# What a wrong rule makes of the right cotangent.
FAULTS = {
    "none": lambda g: g,
    "twice": lambda g: 2 * g,
    "sign": lambda g: -g,
    "zero": lambda g: 0 * g,
    "nan": lambda g: g * jnp.nan,
    "infinite": lambda g: g / jnp.zeros_like(g),
    "a bit": lambda g: g * (1 + 2.0**-6),
    "rolled": lambda g: jnp.roll(g, 1),
    "plus one": lambda g: g + 1,
}


def by_vjp(f, fault, shape):
    @jax.custom_vjp
    def wrong(x):
        return f(x)

    wrong.defvjp(lambda x: (f(x), x), lambda x, g: (fault(jax.vjp(f, x)[1](g)[0]),))
    return wrong


def by_jvp(f, fault, shape):
    @jax.custom_jvp
    def wrong(x):
        return f(x)

    # A factor is linear, as the tangent of a custom_jvp must be.
    factor = fault(jnp.ones(()))
    wrong.defjvp(lambda p, t: (f(*p), jax.jvp(f, p, t)[1] * factor.astype(t[0].dtype)))
    return wrong


def closing_over(f, fault, shape):
    ramp = jnp.arange(1.0, 1 + np.prod(shape)).reshape(shape) / 8
    return by_vjp(lambda x: f(x * ramp.astype(x.dtype)), fault, shape)


def gradient_by_hand(f, fault, shape):
    @jax.custom_gradient
    def wrong(x):
        y, pull = jax.vjp(f, x)
        return y, lambda g: fault(pull(g)[0])

    return wrong


PLANTED = [by_vjp, by_jvp, closing_over, gradient_by_hand]


def beside_a_while(f):
    """Return f times itself in a `while` loop, which no gradient goes through."""

    def both(x):
        start = lax.stop_gradient(x), 0
        loop = lax.while_loop(lambda s: s[1] < 2, lambda s: (f(s[0]), s[1] + 1), start)
        return f(x) * loop[0]

    return both


# Places to put a function of an array into.
AROUND = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "cond": lambda f: lambda x: lax.cond(x.sum() > 0, f, jnp.cos, x),
    "switch": lambda f: lambda x: lax.switch(x.size % 3, [jnp.sin, f, jnp.cos], x),
    "fori": lambda f: lambda x: lax.fori_loop(0, 2, lambda i, c: f(c), x),
    "scan": lambda f: (
        lambda x: lax.scan(lambda c, t: (f(c) * t, t), x, jnp.ones(2, x.dtype))[0]
    ),
    "no turns": lambda f: (
        lambda x: x + lax.scan(lambda c, t: (f(c), c), x, None, length=0)[0]
    ),
    "rows": lambda f: (
        lambda x: lax.scan(
            lambda c, t: ((c[0] + 1, f(c[1])), (c[0], c[1].sum())),
            (0, x),
            None,
            length=3,
        )[1][1]
    ),
    "while": beside_a_while,
    "square": lambda f: lambda x: f(x) ** 2,
    "with its own": lambda f: lambda x: f(x) + x.sum(),
}

# Beside what is random already: ends of ranges, ties, whole numbers, nothing at all.
ODD = {
    "overflow": lambda x: jnp.exp(300 * x),
    "pole": lambda x: 1 / (x - x),
    "root": lambda x: jnp.where(x > 0, jnp.sqrt(x), 0),
    "log": jnp.log,
    "abs": jnp.abs,
    "round": lambda x: jnp.round(4 * x) * x,
    "floor": lambda x: jnp.floor(4 * x) * x,
    "rest": lambda x: x % 0.25,
    "whole": lambda x: x * (4 * x).astype(int),
    "ties": lambda x: jnp.maximum(x, x.ravel()[:1].sum()),
    "empty": lambda x: x + x.ravel()[:0].sum() + jnp.max(x.ravel()[:0], initial=0),
    "cumulative": lambda x: lax.cummax(x.ravel()).reshape(x.shape) * x,
    "product": lambda x: x * jnp.prod(x),
    "where": lambda x: jnp.where((x > 0) & (x < 1) | (x < -1), x, x * x),
    "index": lambda x: x * jnp.argmax(jnp.append(x.ravel(), 0)),
    "half": lambda x: x.astype(jnp.float16).astype(x.dtype),
    "noise": lambda x: x * jax.random.normal(jax.random.key(0), x.shape, x.dtype),
    "uncovered": lambda x: lax.cumlogsumexp(x.ravel()).reshape(x.shape),
    "clamp": lambda x: lax.clamp(jnp.asarray(-0.5, x.dtype), x, x + 1),
}

# What takes arrays without numbers or axes too.
ANY_SHAPE = ["tanh", "sin", "relu", "square", "remat", "cond", "loop", "lower"]


def build(number):
    """Return a function, its argument, and what it was made of."""
    draw = np.random.RandomState(number)

    def one_of(names):
        names = list(names)
        return names[draw.randint(len(names))]

    shape = one_of(SHAPES)
    rows = len(shape) > 0 and 0 not in shape
    usual = list(SAME_SHAPE) if rows else ANY_SHAPE
    odd = [n for n in ODD if rows or n != "cumulative"]
    names = [
        one_of(odd if draw.rand() < 0.3 else usual) for _ in range(draw.randint(1, 4))
    ]
    parts = [ODD[n] if n in ODD else SAME_SHAPE[n] for n in names]
    where, fault = draw.randint(len(parts)), one_of(FAULTS)
    plant, around = one_of(PLANTED), one_of(AROUND)
    if around == "rows":  # whose result has another shape
        where = len(parts) - 1
    inner = plant(parts[where], FAULTS[fault], shape)
    parts[where] = AROUND[around](inner)
    names[where] = f"{around} of {plant.__name__} of {names[where]}, {fault}"
    scale = one_of([0.5, 1, 4, 0])  # 0: all tied
    dtype = one_of(["float32", "float32", "bfloat16", "float16"])
    x = jnp.asarray(draw.standard_normal(shape) * scale, dtype)

    def f(x):
        for part in parts:
            x = part(x)
        return x

    return f, x, names


@pytest.mark.parametrize(
    ("part", "programs"),
    [
        pytest.param(0, 5, id="brief"),
        *(
            pytest.param(part, PROGRAMS_PER_PART, marks=pytest.mark.exhaustive)
            for part in range(PARTS)
        ),
    ],
)
def test_random_faults_end_in_a_verdict(part, programs):
    start = part * PROGRAMS_PER_PART
    for number in range(start, start + programs):
        f, x, names = build(number)
        report = check_gradients(f, x)
        assert report.verdict in MEANINGS
        assert f"gradient: {report.verdict}" in str(report)
        if report.verdict in ("rule", "pole", "compiler"):
            assert report.culprit, f"{number}: {names}"
    jax.clear_caches()


def test_at_least_160():
    assert PROGRAMS_PER_PART * PARTS >= 160
