"""What a Value can hold: kinds that meet, and balls that are rounded or compared."""

import math
import operator
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reference import Ball, Value, numbers
from reference.numbers import Undecided, same_kind


@pytest.fixture
def precision():
    """Yield flint's context, and put its precision back."""
    import flint

    Ball(0)  # the first ball sets the precision
    before = flint.ctx.prec
    yield flint.ctx
    flint.ctx.prec = before


def third():
    return Ball(1) / 3


# Kinds that meet


def test_same_kind_leaves_ints_and_floats_alone():
    for a, b in [(1, 2), (1, 0.5), (0.5, 1), (True, 2)]:
        assert [(type(x), x) for x in same_kind(a, b)] == [(type(a), a), (type(b), b)]


def test_the_more_exact_kind_wins():
    tenth = Fraction(0.1)  # the float itself, not 1/10
    assert same_kind(Fraction(1, 3), 0.1) == (Fraction(1, 3), tenth)
    assert same_kind(2, Fraction(1, 3)) == (Fraction(2), Fraction(1, 3))
    a, b = same_kind(0.1, Ball(1))
    assert type(a) is type(b) is Ball
    assert a == tenth
    a, b = same_kind(Ball(1), Fraction(1, 3))
    assert type(a) is type(b) is Ball
    assert a > Fraction(0.3) and b.arb.overlaps(third().arb)


@pytest.mark.parametrize("x", [math.inf, math.nan])
def test_only_floats_hold_infinity_and_nan(x):
    assert type((Value(x) + 1).data) is float
    with pytest.raises((OverflowError, ValueError), match="cannot convert"):
        Value(Fraction(1)) + x
    with pytest.raises(ValueError, match="a Ball holds a finite number, got"):
        Value(Ball(1)) + x


def test_ints_stay_exact_beyond_floats():
    assert (Value(2**60 + 1) + Fraction(1, 2)).data == Fraction(2**61 + 3, 2)
    assert (Value(Ball(2**60)) + 1).data == 2**60 + 1


# Balls


@pytest.mark.parametrize(
    "operation",
    [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow],
)
def test_ball_arithmetic_holds_the_truth(operation):
    a, n = Fraction(2, 7), 3
    truth = Ball(operation(a, n))
    for result in (operation(Ball(a), n), operation(Ball(a), Ball(n))):
        assert result.arb.overlaps(truth.arb)
        assert result.arb.rad() < 1e-36
    if operation is not operator.pow:
        assert operation(n, Ball(a)).arb.overlaps(Ball(operation(n, a)).arb)


def test_balls_from_numbers_and_text():
    assert Ball() == 0
    assert Ball(0.1) == Fraction(0.1)
    assert Ball("0.1").arb.overlaps(Ball(Fraction(1, 10)).arb)
    assert Ball("0.1") != 0.1
    assert Ball(np.float32(0.1)) == float(np.float32(0.1))
    assert Ball(2**200 + 1) == 2**200 + 1


@pytest.mark.parametrize("wrong", [None, 1j, [1]])
def test_balls_from_nothing(wrong):
    with pytest.raises(TypeError):
        Ball(wrong)


@pytest.mark.parametrize("wrong", ["0.1", None, [1]])
def test_ball_operators_leave_strangers_alone(wrong):
    for operation in (operator.add, operator.mul, operator.pow, operator.lt):
        with pytest.raises(
            TypeError, match=r"not supported|unsupported|can't multiply"
        ):
            operation(Ball(1), wrong)
    assert Ball(1) != wrong


def test_zero_divisors():
    with pytest.raises(ZeroDivisionError, match="divided by zero"):
        Ball(1) / 0
    with pytest.raises(ZeroDivisionError, match="divided by zero"):
        1 / Ball(0)
    with pytest.raises(ZeroDivisionError, match="zero to the power"):
        Ball(0) ** -1
    unbounded = 1 / (third() * 3 - 1)
    with pytest.raises(Undecided, match="has no bounds"):
        float(unbounded)


def test_comparisons_that_are_decided():
    assert third() < Fraction(34, 100)
    assert Fraction(34, 100) > third()
    assert third() > 0.3
    assert third() >= 0 and third() <= 1
    assert Ball(2) == 2 and Ball(2) != 3 and Ball(2) <= 2 and Ball(2) >= 2
    assert not Ball(2) < 2 and not Ball(2) > 2
    assert Ball(3) < math.inf


@pytest.mark.parametrize(
    "compare",
    [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne],
)
def test_comparisons_that_are_not(compare):
    with pytest.raises(Undecided, match=r"not known: raise .* flint\.ctx\.prec = 256"):
        compare(third() * 3, 1)
    with pytest.raises(Undecided):
        compare(Value(third() * 3).data, Value(1).data)


def test_more_precision_decides(precision):
    almost = Fraction(1, 3) + Fraction(1, 2**140)
    with pytest.raises(Undecided):
        third() < almost  # noqa: B015
    precision.prec = 256
    assert third() < almost


def test_precision_is_only_ever_raised(precision):
    precision.prec = 300
    numbers.flint.cache_clear()
    Ball(1)
    assert precision.prec == 300
    precision.prec = 53
    numbers.flint.cache_clear()
    Ball(1)
    assert precision.prec == 128


# Rounding to float

SMALLEST = Fraction(2) ** -1074
LARGEST = Fraction(sys.float_info.max)


def is_even(x):
    return struct.unpack("<q", struct.pack("<d", x))[0] % 2 == 0


def is_nearest(x, exact):
    """Tell whether the float x is the nearest to a fraction, ties to the even one."""
    mine = abs(Fraction(x) - exact)
    for neighbour in (math.nextafter(x, math.inf), math.nextafter(x, -math.inf)):
        if math.isfinite(neighbour):
            other = abs(Fraction(neighbour) - exact)
            if other < mine or (other == mine and not is_even(x)):
                return False
    return True


wide = st.builds(
    lambda n, e, d: Fraction(n, d) * Fraction(2) ** e,
    st.integers(-(2**60), 2**60),
    st.integers(-1140, 950),
    st.sampled_from([1, 3, 7]),
)


@given(wide)
@example(1 + Fraction(1, 2**53))
@example(1 + Fraction(3, 2**53))
@example(-1 - Fraction(3, 2**53))
@example(SMALLEST / 2)
@example(SMALLEST / 2 + SMALLEST / 2**40)
@example(SMALLEST * Fraction(3, 2))
@example(SMALLEST * Fraction(5, 2))
@example(SMALLEST * Fraction(-7, 2))
@example(SMALLEST * (2**52 - Fraction(1, 2)))
@example(LARGEST)
@example(LARGEST + (LARGEST - Fraction(math.nextafter(float(LARGEST), 0))) / 4)
@example(Fraction(0))
def test_balls_round_to_the_nearest_float(exact):
    assert is_nearest(float(Ball(exact)), exact)


def test_the_rounding_check_can_fail():
    tie = 1 + Fraction(1, 2**53)
    assert is_nearest(1.0, tie)
    assert not is_nearest(math.nextafter(1.0, 2), tie)
    assert not is_nearest(0.0, SMALLEST)
    assert not is_nearest(float(SMALLEST), SMALLEST / 2)


def test_tiny_and_huge_balls():
    assert float(Ball(-(10**12)).exp()) == 0.0  # its exponent alone has 41 bits
    assert math.copysign(1, float(Ball(0))) == 1
    assert math.copysign(1, float(-Ball(-(10**12)).exp())) == -1
    with pytest.raises(OverflowError, match="above the largest float"):
        float(Ball(2) ** 1024)
    with pytest.raises(OverflowError, match="too large"):
        float(Ball(LARGEST * (1 + Fraction(1, 2**53))))


def test_rounding_that_is_not_decided():
    tie = third() * 3 + Fraction(1, 2**53)  # 1 + 2**-53, give or take
    with pytest.raises(Undecided, match=r"border between two floats: raise .* = 256"):
        float(tie)
    assert float(third() * 3) == 1.0


# Without python-flint


@pytest.fixture
def without_flint(monkeypatch):
    numbers.flint.cache_clear()
    monkeypatch.setitem(sys.modules, "flint", None)  # as if it were not installed
    yield
    numbers.flint.cache_clear()


def test_a_missing_extra_says_which(without_flint):
    with pytest.raises(ImportError, match=r'pip install "funcgrad\[testing\]"'):
        Ball(1)


def test_the_rest_works_without_flint(without_flint):
    for number in (float, Fraction):
        w = Value(number(3))
        ((w * 2 - 1).relu() ** 2).backward()
        assert w.grad == 20
    assert Value(0.0).tanh().data == 0


def test_a_bare_arb_is_computed_with_as_a_ball_is():
    def gradient(number):
        x = Value(number)
        ((2 * x + 1.5 - x * x).tanh().exp() / x + x**2).backward()
        return x.grad

    third = Fraction(1, 3)
    ball, arb = gradient(Ball(third)), gradient(Ball(third).arb)
    assert type(ball) is Ball and type(arb) is type(ball.arb)
    assert ball.arb.str() == arb.str()
