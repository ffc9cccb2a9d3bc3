"""The rounding bound: XLA's functions keep to the table, and the bound can be left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from funcgrad.testing import check_gradients
from funcgrad.testing.compare import ulp_of
from funcgrad.testing.flint import flint, precision
from funcgrad.testing.numbers.real import REAL
from funcgrad.testing.rules.elementwise import ELEMENTWISE

WIDE = np.concatenate([np.geomspace(1e-6, 80, 400), -np.geomspace(1e-6, 80, 400)])
INSIDE = np.concatenate([np.linspace(-0.999, 0.999, 400), np.geomspace(1e-6, 0.9, 100)])
ABOVE = np.concatenate([np.geomspace(1e-6, 1e6, 600), np.linspace(0.5, 2, 300)])

FAR = np.linspace(-88, 88, 1001)

SWEEPS = {
    "exp": (lax.exp, WIDE),
    "exp2": (lax.exp2, FAR * 1.4),
    "expm1": (lax.expm1, WIDE),
    "log": (lax.log, ABOVE),
    "log1p": (lax.log1p, np.concatenate([ABOVE, INSIDE])),
    "tanh": (lax.tanh, WIDE),
    "logistic": (lax.logistic, WIDE),
    "sqrt": (lax.sqrt, ABOVE),
    "rsqrt": (lax.rsqrt, ABOVE),
    "cbrt": (lax.cbrt, ABOVE),
    "sin": (lax.sin, WIDE),
    "cos": (lax.cos, WIDE),
    "tan": (lax.tan, WIDE),
    "asin": (lax.asin, INSIDE),
    "acos": (lax.acos, INSIDE),
    "atan": (lax.atan, WIDE),
    "sinh": (lax.sinh, FAR),
    "cosh": (lax.cosh, FAR),
    "asinh": (lax.asinh, WIDE),
    "acosh": (lax.acosh, 1 + ABOVE),
    "atanh": (lax.atanh, INSIDE),
    "erf": (lax.erf, WIDE),
    "erfc": (lax.erfc, np.linspace(-3, 5, 400)),
    "erf_inv": (lax.erf_inv, INSIDE),
    "lgamma": (lax.lgamma, np.linspace(2.5, 40, 300)),
    "digamma": (lax.digamma, np.linspace(2.5, 40, 300)),
    "square": (lax.square, ABOVE),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SWEEPS)
def test_elementary_function_keeps_to_its_ulps(name, dtype, record_property):
    f, points = SWEEPS[name]
    rule = ELEMENTWISE[name]
    limit = rule.ulps[dtype] if isinstance(rule.ulps, dict) else rule.ulps
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(points, dtype)
        y = np.asarray(jax.jit(f)(x)).astype(np.float64)
    worst, at = 0.0, None
    with precision(256):
        for a, b in zip(np.asarray(x).astype(np.float64).tolist(), y, strict=True):
            exact = rule.value(REAL, flint().arb(a))
            tiny = float(jnp.finfo(dtype).tiny)
            if not np.isfinite(b) or abs(exact) < tiny:
                continue  # out of the range of the type: the bound knows that apart
            off = float((abs(flint().arb(b) - exact)).mid()) / ulp_of(exact, dtype)
            worst, at = max((worst, at), (off, a), key=lambda t: t[0])
    record_property(f"ulps of {name} in {dtype}", worst)
    assert worst <= limit, f"{worst:.3g} ulps at {at}, the table says {limit}"


def test_a_table_that_promises_too_much_is_found_out(monkeypatch):
    x = jnp.linspace(0.1, 3, 50)
    assert check_gradients(jnp.tanh, x).ok
    promise = ELEMENTWISE["tanh"]._replace(ulps=1e-4)
    monkeypatch.setitem(ELEMENTWISE, "tanh", promise)
    for name in ("mul", "sub", "square", "one_minus_square", "add", "add_any", "neg"):
        rule = ELEMENTWISE[name]._replace(ulps=1e-4)
        monkeypatch.setitem(ELEMENTWISE, name, rule)
    report = check_gradients(jnp.tanh, x)
    assert report.verdict == "compiler"
    assert "`tanh`" in report.culprit or "compiled together" in report.culprit


@pytest.mark.parametrize(
    "n",
    [
        10,
        *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (1, 1000, 5000)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sums_of_any_length_stay_inside(n, dtype):
    x = jax.random.normal(jax.random.key(n), (n,), dtype)
    assert check_gradients(lambda x: (x / (1 + (x * x).sum())).sum(), x).ok


def test_a_bound_that_ignored_the_length_would_be_left():
    """Naive summation in bfloat16 is off by far more than one rounding."""
    x = jnp.ones(1000, jnp.float32) * 1.001
    report = check_gradients(lambda x: (x * x).sum() ** 2, x)
    assert report.ok
    assert report.leaves[0].bound > 100


def test_flush_to_zero_is_inside_the_bound():
    x = jnp.array([1e-30, 3e-20], jnp.float32)
    assert check_gradients(lambda x: (x * x * x).sum(), x).ok


def test_infinite_bound_is_said():
    def f(x):
        return (1 / (x - 0.30000001)).sum()

    report = check_gradients(lambda x: f(jnp.sin(jnp.arcsin(x))), jnp.array([0.3]))
    assert not report.ok or any("no bound" in note for note in report.notes)


def test_powers_of_balls_around_zero_hold_their_numbers():
    """Flint itself gives no number where the middle of a ball is exactly 0."""
    with precision(256):
        ball = flint().arb(0, 1e-30)
        assert REAL.whole_power(ball, 2).contains(1e-60)
        assert not REAL.whole_power(ball, 2).contains(-1e-61)
        assert REAL.whole_power(ball, 3).contains(-1e-90)
        assert REAL.whole_power(flint().arb(3), -2) * 9 == 1 or REAL.whole_power(
            flint().arb(3), -2
        ).overlaps(flint().arb(1) / 9)
