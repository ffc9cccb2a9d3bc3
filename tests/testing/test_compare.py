"""The scalar engine, the array walk and mpmath agree on small programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.testing.compare import exact, truth
from funcgrad.testing.flint import precision
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.program import trace
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.walk import Walk
from reference import MLP, Ball, Value

mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")

PROGRAMS = {
    "tanh x exp": (
        lambda x: jnp.tanh(x[0] * x[1]) * jnp.exp(x[2]),
        lambda a, b, c: mpmath.tanh(a * b) * mpmath.exp(c),
    ),
    "log of squares": (
        lambda x: jnp.log((x * x).sum()),
        lambda a, b, c: mpmath.log(a * a + b * b + c * c),
    ),
    "sine over root": (
        lambda x: jnp.sin(x[0]) / jnp.sqrt(x[1] ** 2 + x[2] ** 2),
        lambda a, b, c: mpmath.sin(a) / mpmath.sqrt(b**2 + c**2),
    ),
    "erf of power": (
        lambda x: jax.lax.erf(x[0]) * jnp.abs(x[1]) ** 2.5 + jnp.arctan(x[2]),
        lambda a, b, c: mpmath.erf(a) * abs(b) ** 2.5 + mpmath.atan(c),
    ),
    "softmax": (
        lambda x: jax.nn.softmax(x)[0],
        lambda a, b, c: mpmath.exp(a) / (mpmath.exp(a) + mpmath.exp(b) + mpmath.exp(c)),
    ),
}


def walked(f, x):
    """Return (truth, exact(g)) as arrays of balls of 256 bits."""
    program = trace(f, (x,))
    with precision(256):
        right = truth(program).values[0]
        made = exact(program, Walk(Exact()))[0]
    return right, made


@pytest.mark.parametrize("name", PROGRAMS)
def test_mpmath_agrees_to_fifty_digits(name):
    f, same = PROGRAMS[name]
    with jax.enable_x64(True):
        x = jnp.array([0.3, -1.7, 0.9])
        right, _ = walked(f, x)
    with mpmath.workdps(100):
        point = [mpmath.mpf(float(v)) for v in x]
        for i, r in enumerate(right):
            order = tuple(int(i == j) for j in range(3))
            slope = mpmath.diff(same, tuple(point), order)
            # mpmath differentiates numerically, with a step of 1e-50 or so.
            assert (
                abs(mpmath.mpf(r.str(90, radius=False)) - slope) < mpmath.mpf(10) ** -45
            )


def test_scalar_network_agrees_with_the_walk_of_the_array_network():
    w1, b1 = np.float32([[0.5, -1, 2], [0.25, 3, -0.5]]), np.float32([0.1, -0.2, 0.3])
    w2, b2 = np.float32([[1.5], [-0.75], [0.125]]), np.float32([0.5])
    x = np.float32([0.75, -1.25])

    def net(params):
        (w1, b1), (w2, b2) = params
        return (jnp.tanh(jnp.tanh(x @ w1 + b1) @ w2 + b2) ** 2).sum()

    params = [(w1, b1), (w2, b2)]
    program = trace(net, (params,))
    with precision(256):
        right = truth(program).values
        made = exact(program, Walk(Exact()))
        lists = [(w.tolist(), b.tolist()) for w, b in params]
        scalars = MLP.from_params(lists, number=Ball)
        loss = scalars([Value(Ball(v)) for v in x.tolist()]) ** 2
        loss.backward()
        by_hand = [
            np.array(leaf, object).ravel()
            for layer in scalars.to_params("grad")
            for leaf in layer
        ]
        for hand, ts, es in zip(by_hand, right, made, strict=True):
            for h, t, e in zip(hand, ts.ravel(), es.ravel(), strict=True):
                assert h.arb.overlaps(t) and t.overlaps(e)
                # 256 bits leave 1e-70 after a network of this size.
                assert (h.arb - t).abs_upper() < 1e-65
                assert (e - t).abs_upper() < 1e-65


def test_engines_disagree_where_one_is_broken(monkeypatch):
    broken = ELEMENTWISE["sin"]._replace(slopes=lambda k, x, y: (k.sin(x),))
    monkeypatch.setitem(ELEMENTWISE, "sin", broken)
    right, made = walked(lambda x: jnp.sin(x).sum(), jnp.array([0.5]))
    assert not right[0].overlaps(made[0])
