"""Residues against Python's integers."""

from fractions import Fraction
from random import Random

import numpy as np
import pytest

from funcgrad.testing.numbers.field import BEYOND, SMALLEST, Field, draw_prime, is_prime
from funcgrad.testing.numbers.modular import Modular
from funcgrad.testing.numbers.residues import LIMIT, Accident, Residues, halves

P = draw_prime(Random(1))
FIELD = Field(P, seed=5)
ODD = ["tanh", "sin", "tan", "erf", "asin", "atan", "sinh", "asinh", "atanh", "cbrt"]


def random(*shape, seed=0):
    return FIELD.random(shape, np.random.default_rng(seed))


def integers(x):
    """Return the residues from 0 to p - 1 as Python integers."""
    return [int(n) % P for n in np.ravel(x.data)]


def of_fraction(x):
    fraction = Fraction(x)
    return fraction.numerator * pow(fraction.denominator, -1, P) % P


@pytest.mark.parametrize("seed", range(5))
def test_primes_are_what_they_are_drawn_for(seed):
    p = draw_prime(Random(seed))
    assert SMALLEST <= p < BEYOND
    assert is_prime(p)
    assert p % 4 == 3
    p = draw_prime(Random(seed), with_exponents=True)
    assert is_prime(p)
    assert p % 4 == 1
    assert is_prime((p - 1) // 4)


def test_floats_are_lifted_exactly():
    values = [0.0, 1.0, -1.0, 0.1, -0.3, 1e300, -1e-300, 5e-324, 2.0**80 + 2.0**30,
              1 / 3, 1.7976931348623157e308]  # fmt: skip
    values += np.random.default_rng(0).standard_normal(100).tolist()
    assert integers(FIELD.lift(np.array(values))) == [of_fraction(x) for x in values]
    for x in values:
        assert integers(FIELD.lift(x)) == [of_fraction(x)]
    assert integers(FIELD.lift(np.float32(0.1))) == [
        of_fraction(float(np.float32(0.1)))
    ]
    assert integers(FIELD.lift(3**80)) == [3**80 % P]


def test_what_is_not_finite_is_lifted_to_0():
    assert integers(FIELD.lift(np.array([np.inf, -np.inf, np.nan, 0.5]))) == [
        0, 0, 0, of_fraction(0.5)
    ]  # fmt: skip


def test_arithmetic_agrees_with_integers():
    x, y = random(1000), random(1000, seed=1)
    a, b = integers(x), integers(y)
    # Long enough that every operation meets numbers that must be reduced.
    for _ in range(6):
        x, a = x * y + x - 3, [(m * n + m - 3) % P for m, n in zip(a, b, strict=True)]
        y, b = 2 - y * x * y, [(2 - n * m * n) % P for m, n in zip(a, b, strict=True)]
        assert x.most <= LIMIT
        assert np.abs(x.data).max() <= x.most
    assert integers(x) == a
    assert integers(y) == b
    assert integers(-x) == [-m % P for m in a]
    assert integers(x**5) == [pow(m, 5, P) for m in a]
    assert integers(x**0) == [1] * 1000
    assert integers(0.5 * x) == [m * pow(2, -1, P) % P for m in a]
    assert integers(np.full(1000, 3.0) * x) == [3 * m % P for m in a]


@pytest.mark.parametrize("start", [0.0, 2.0**40, 2.0**52, LIMIT - 2.0**12])
def test_reduction_is_exact_up_to_its_limit(start):
    values = start + np.arange(4096.0)
    both = Residues(FIELD, np.concatenate([values, -values]), LIMIT)
    assert integers(both.reduced()) == [int(v) % P for v in both.data]
    assert np.abs(both.reduced().data).max() <= P / 2 + 3
    canonical = both.canonical()
    assert np.abs(canonical).max() <= (P - 1) // 2
    assert [int(n) % P for n in canonical] == integers(both)


def test_canonical_is_right_beside_every_half():
    """Where v / p is next to a half, a rounded quotient may be off by one."""
    multiples = np.arange(1, 2**21, 1009, dtype=np.float64)
    for offset in (-1.0, 0.0, 1.0):
        values = multiples * P + (P - 1) / 2 + offset
        canonical = Residues(FIELD, values, LIMIT).canonical()
        assert np.abs(canonical).max() <= (P - 1) // 2


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1001])
def test_inverses(n):
    x = random(n)
    assert integers(x.inverse()) == [pow(m, -1, P) for m in integers(x)]
    assert integers(1 / x * x) == [1] * n
    assert integers(x**-2) == [pow(m, -2, P) for m in integers(x)]


def test_nothing_is_divided_by_0():
    for values in ([1.0, 0.0], [float(P), 3.0], 0.0):
        with pytest.raises(Accident, match="residue 0"):
            Residues(FIELD, np.array(values), 2.0**30).inverse()


@pytest.mark.parametrize("terms", [0, 1, 5, 2047, 2048, 5000])
def test_products_of_matrices(terms):
    a, b = random(2, 3, terms), random(2, terms, 2, seed=1)
    left = a.data.astype(np.int64).astype(object)
    right = b.data.astype(np.int64).astype(object)
    expected = [left[i] @ right[i] for i in range(2)]
    out = Modular(FIELD).bilinear(np.matmul, a, b, terms, None)
    assert integers(out) == [int(n) % P for m in expected for n in np.ravel(m)]
    assert out.most <= LIMIT


def test_sums():
    x = random(3, 3000) * random(3, 3000, seed=1)
    rows = np.reshape(integers(x), (3, 3000)).astype(object)
    for add, expected in (
        (lambda a: a.sum(1), rows.sum(1)),
        (lambda a: np.cumsum(a, 1), np.cumsum(rows, 1).ravel()),
    ):
        added = Modular(FIELD).linear(add, x, 3000, None)
        assert integers(added) == [int(n) % P for n in expected]


def test_halves():
    x = random(100)
    high, low = halves(x)
    assert integers(2048 * high + low) == integers(x)
    assert np.abs(high.data).max() <= high.most
    assert np.abs(low.data).max() <= low.most


def test_models_have_the_symmetry_of_their_functions():
    x = random(500)
    for name in ODD:
        f = getattr(FIELD, name)
        assert integers(f(-x)) == integers(-f(x))
        assert integers(f(x)) != integers(f(x * 2))
    for name in ("cos", "cosh"):
        f = getattr(FIELD, name)
        assert integers(f(-x)) == integers(f(x))
    assert integers(FIELD.logistic(x) + FIELD.logistic(-x)) == [1] * 500
    assert integers(FIELD.rsqrt(x) * FIELD.sqrt(x)) == [1] * 500
    for name in ("exp", "log", "sqrt", "acos", "lgamma"):
        f = getattr(FIELD, name)
        both = np.array(integers(f(x))), np.array(integers(f(-x)))
        assert (both[0] != both[1]).mean() > 0.99
        assert ((both[0] + both[1]) % P != 0).mean() > 0.99


def test_a_model_depends_on_the_residue_alone_and_on_its_key():
    x = random(500)
    again = Residues(FIELD, x.data + P, 2.0**24)
    assert integers(FIELD.exp(again)) == integers(FIELD.exp(x))
    assert integers(FIELD.exp(x)) != integers(FIELD.log(x))
    other = Field(P, seed=6)
    assert integers(other.exp(Residues(other, x.data, P / 2))) != integers(FIELD.exp(x))


def test_a_model_takes_every_value_alike():
    """Of p values a random function takes 1 - 1 / e, up to three standard errors."""
    every = Residues(FIELD, np.arange(P, dtype=np.float64), float(P))
    taken = len(np.unique(FIELD.exp(every).canonical())) / P
    assert abs(taken - (1 - np.exp(-1))) < 3 * 0.35 / np.sqrt(P)


def test_powers():
    x, c = random(50), FIELD.lift(2.5)
    assert integers(FIELD.pow(x, c)) == integers(x * FIELD.pow(x, FIELD.lift(1.5)))
    assert integers(FIELD.pow(x, FIELD.lift(3.0))) == integers(x * x * x)
    assert integers(FIELD.pow(x, FIELD.lift(-2.0))) == integers(1 / (x * x))
    y = random(50, seed=1)
    assert integers(FIELD.pow(x, y)) == integers(x * FIELD.pow(x, y - 1))
    assert integers(FIELD.pow(x, c) * FIELD.pow(x, -c)) != [1] * 50


def test_rounded_constants_stand_for_their_numbers():
    for dtype in (np.float32, np.float64):
        log2 = FIELD.constant(np.asarray(np.log(2), dtype), dtype)
        over = FIELD.constant(np.asarray(-0.5 / np.log(2), dtype), dtype)
        assert integers(log2 * over * 2) == [P - 1]
        third = FIELD.constant(np.asarray(1 / 3, dtype), dtype)
        assert integers(third * 3) == [1]
        root = FIELD.constant(np.asarray(2 / np.sqrt(np.pi), dtype), dtype)
        half = FIELD.constant(np.asarray(np.sqrt(np.pi), dtype), dtype)
        assert integers(root * half) == [2]
        own = FIELD.constant(np.asarray(0.3, dtype), dtype)
        assert integers(own) == [of_fraction(float(dtype(0.3)))]
        assert integers(FIELD.constant(np.zeros((), dtype), dtype)) == [0]
