"""Numbers by two residues: the identities that exponentials and powers have."""

from random import Random

import numpy as np
import pytest

from funcgrad.testing.numbers.dual import DualField
from funcgrad.testing.numbers.field import draw_prime
from funcgrad.testing.numbers.residues import Accident

FIELD = DualField(draw_prime(Random(3), with_exponents=True), seed=7)


def random(*shape, seed=0):
    return FIELD.random(shape, np.random.default_rng(seed))


def equal(a, b):
    """Return whether the first residues are the same everywhere."""
    return np.array_equal(
        *np.broadcast_arrays(a.first.canonical(), b.first.canonical())
    )


X, Y = random(200), random(200, seed=1)
ONE = FIELD.lift(1)


def test_exponentials():
    assert equal(FIELD.exp(X + Y), FIELD.exp(X) * FIELD.exp(Y))
    assert equal(FIELD.exp(-X), 1 / FIELD.exp(X))
    assert equal(FIELD.exp(FIELD.lift(0)), ONE)
    assert not equal(FIELD.exp(X * 2), FIELD.exp(X))
    assert equal(FIELD.expm1(X) + 1, FIELD.exp(X))


def test_functions_of_exponentials():
    exp = FIELD.exp(X)
    assert equal(FIELD.tanh(X), (exp - 1 / exp) / (exp + 1 / exp))
    assert equal(FIELD.logistic(X), 1 / (1 + 1 / exp))
    assert equal(FIELD.tanh(X), 2 * FIELD.logistic(2 * X) - 1)
    assert equal(FIELD.cosh(X) + FIELD.sinh(X), exp)
    sine, cosine = FIELD.sin(X), FIELD.cos(X)
    assert equal(sine**2 + cosine**2, ONE)
    assert equal(FIELD.sin(X + Y), sine * FIELD.cos(Y) + cosine * FIELD.sin(Y))
    assert equal(FIELD.tan(X), sine / cosine)
    assert not equal(FIELD.cosh(X), cosine)


@pytest.mark.parametrize("name", ["log", "sqrt", "rsqrt", "cbrt"])
def test_what_is_not_cut_is_a_model(name):
    f = getattr(FIELD, name)
    assert equal(f(X), f(X + 0))
    assert not equal(f(X) * f(X), X)
    assert not equal(FIELD.exp(f(X)), X)


def test_what_is_cut_is_a_power():
    x, y = FIELD.cut(X), FIELD.cut(Y)
    assert not equal(x, X)
    assert equal(x, FIELD.cut(X))
    assert equal(FIELD.exp(FIELD.log(x)), x)
    assert equal(FIELD.exp(FIELD.log(x) + FIELD.log(y)), x * y)
    assert equal(FIELD.sqrt(x) ** 2, x)
    assert equal(FIELD.rsqrt(x) ** 2 * x, ONE)
    assert equal(FIELD.cbrt(x) ** 3, x)
    half = FIELD.lift(0.5)
    assert equal(FIELD.pow(x, half), FIELD.sqrt(x))
    assert equal(FIELD.pow(x, Y), FIELD.exp(Y * FIELD.log(x)))
    assert equal(FIELD.pow(x, FIELD.lift(3)), x * x * x)


def test_log2():
    x = FIELD.cut(X)
    assert equal(FIELD.exp2(FIELD.log2(x)), x)


def test_an_unknown_exponent_is_an_accident_only_where_it_is_used():
    second = X.second.canonical().copy()
    second[3] = 0
    x = type(X)(FIELD, X.first, type(X.second)(X.second.field, second, 2.0**20))
    inverse = 1 / x
    assert equal(inverse * x, ONE)
    with pytest.raises(Accident, match="exponent"):
        FIELD.exp(inverse)
    FIELD.exp(1 / X)
