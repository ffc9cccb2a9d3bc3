"""Right rules with rounded constants are right, and wrong ones stay wrong."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hand_rules import all_rules, gelu_by_erf, with_rule
from jax.scipy.stats import norm

from funcgrad.testing import check_gradients
from funcgrad.testing.constant_search import Point, explain
from funcgrad.testing.constants import Constant, Written, known, off, rounded
from funcgrad.testing.flint import flint, precision

X = np.array([0.5, -1.25, 2.0])
NAMES = list(all_rules(np.dtype("float32")))


def checked(rule, pull):
    every = tuple(range(len(rule.args)))
    return check_gradients(with_rule(rule.f, pull), *rule.args, argnums=every)


@functools.cache
def rules(dtype):
    with jax.enable_x64(dtype == "float64"):
        return all_rules(np.dtype(dtype))


def in_both_types(every):
    """Return (dtype, name) of all rules; all but every so manieth are exhaustive."""
    return [
        pytest.param(
            dtype, name, marks=[] if (i + k) % every == 0 else pytest.mark.exhaustive
        )
        for i, name in enumerate(NAMES)
        for k, dtype in enumerate(("float32", "float64"))
    ]


def test_there_are_many_rules_each_with_wrong_ones_beside_it():
    assert len(NAMES) >= 45
    assert all(len(rule.wrong) >= 2 for rule in rules("float32").values())


@pytest.mark.exhaustive
@pytest.mark.parametrize(("dtype", "name"), in_both_types(every=2))
def test_right_rule_is_not_accused(dtype, name):
    with jax.enable_x64(dtype == "float64"):
        rule = rules(dtype)[name]
        report = checked(rule, rule.pull)
    assert report.ok, str(report)


@pytest.mark.parametrize(("dtype", "name"), in_both_types(every=6))
def test_wrong_rule_is_not_passed(dtype, name):
    with jax.enable_x64(dtype == "float64"):
        rule = rules(dtype)[name]
        factor = 1 + float(jnp.finfo(dtype).eps)

        def last_bit(args, g):
            return tuple(factor * x for x in rule.pull(args, g))

        for wrong, pull in {**rule.wrong, "last bit": last_bit}.items():
            report = checked(rule, pull)
            assert report.verdict == "rule", f"{wrong}: {report}"
            assert "custom_vjp `by_hand`" in report.culprit


# As grad=, for JAX's own function -----------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_cdf_and_pdf_as_the_gradient_of_gelu(dtype, shape):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X[: len(shape) * 3] if shape else 0.3, dtype)
        factor = 1 + float(jnp.finfo(dtype).eps)

        def gelu(x):
            return jax.nn.gelu(x, approximate=False).sum()

        def slope(x):
            return norm.cdf(x) + x * norm.pdf(x)

        right = check_gradients(gelu, x, grad=slope)
        wrong = check_gradients(gelu, x, grad=lambda x: factor * slope(x))
    assert right.ok, str(right)
    assert wrong.verdict == "rule"


def test_report_names_the_constants_and_what_they_explain():
    def gelu(x):
        return jax.nn.gelu(x, approximate=False).sum()

    report = check_gradients(gelu, jnp.float32(X), grad=gelu_by_erf)
    assert report.ok
    # Found from sqrt(1/2) and 2 pi in 60 digits: 0.2 and 0.37 ulps off in float32.
    (note,) = report.notes
    assert "0.70710677 (0.2 ulp)" in note and "6.2831855 (0.37 ulp)" in note
    assert 0 < report.explained < 2
    assert f"up to {report.explained:.2g} ulps" in str(report)
    assert [leaf.rule_error for leaf in report.leaves] == ["0"]


def test_nothing_is_explained_where_nothing_is_wrong():
    report = check_gradients(lambda x: jnp.sin(0.3 * x).sum(), jnp.float32(X))
    assert report.ok and report.explained == 0 and report.notes == ()


# What is a rounded constant -----------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_short_numbers_and_their_neighbours_are_meant_as_they_are(dtype):
    dtype = jnp.dtype(dtype)
    eps = float(jnp.finfo(dtype).eps)
    exact = [0, 1, -3, 0.5, 0.125, 1.5, 7, 100, math.inf, math.nan]
    beside = [1 + eps, 1 - eps / 2, 2 + 2 * eps, 0.5 - eps / 4, 1.5 + eps]
    assert [x for x in exact + beside if rounded(x, dtype) is not None] == []
    for x in (0.7, 1 / 3, math.pi, 1.702, 0.044715, -1.1283791670955126):
        assert rounded(float(np.asarray(x, dtype)), dtype) is not None


def test_signs_and_powers_of_two_do_not_make_another_constant():
    double = np.dtype("float64")
    assert len({rounded(s * 0.3, double) for s in (1, -1, 2, -8, 0.25)}) == 1
    assert rounded(0.3, double) != rounded(0.1, double)


def scaled_gelu(half):
    """Return whether gelu's gradient with this for 1 / sqrt(2) passes at X."""

    def gelu(x):
        return jax.nn.gelu(x, approximate=False).sum()

    return check_gradients(
        gelu, jnp.float32(X), grad=lambda x: gelu_by_erf(x, half=half)
    ).ok


def test_closed_over_scalars_are_constants_and_arrays_with_axes_are_data():
    nearest = np.float32(math.sqrt(0.5))
    assert scaled_gelu(nearest)
    assert scaled_gelu(jnp.asarray(nearest))
    assert not scaled_gelu(jnp.asarray([nearest]))
    assert not scaled_gelu(np.array([nearest]))


def test_arguments_are_data():
    half = jnp.float32(math.sqrt(0.5))
    report = check_gradients(
        lambda x, half: jax.nn.gelu(x, approximate=False).sum(),
        jnp.float32(X),
        half,
        grad=gelu_by_erf,
    )
    assert report.verdict == "rule"
    assert scaled_gelu(half)


def test_constant_computed_in_float32_may_be_second_nearest():
    """0.7978845 is the float32 square root of the float32 2 / pi, 0.69 ulps off."""
    computed = jnp.sqrt(jnp.float32(2 / math.pi))
    assert float(computed) != float(np.float32(math.sqrt(2 / math.pi)))

    def slope(x, scale):
        t = jnp.tanh(scale * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * scale * (1 + 0.134145 * x * x)

    def check(scale):
        return check_gradients(
            lambda x: jax.nn.gelu(x, approximate=True).sum(),
            jnp.float32(X),
            grad=lambda x: slope(x, scale),
        ).verdict

    assert check(computed) == "ok"
    assert check(float(computed)) == "rule"  # as a literal it is rounded once
    assert check(computed * jnp.float32(1 - 2**-22)) == "rule"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.7071067811865475", lambda arb: arb(2).sqrt() / 2),
        ("1.1283791670955126", lambda arb: 2 / arb.pi().sqrt()),
        ("0.6931471805599453", lambda arb: arb(2).log()),
        ("0.044715", lambda arb: arb("0.044715")),
        ("-0.3", lambda arb: arb("-0.3")),
        ("0.7978845608028655", lambda arb: (2 / arb.pi()).sqrt()),  # 3 roundings
    ],
)
def test_known_numbers(text, number):
    constant = rounded(float(text), np.dtype("float64"))
    with precision(256):
        found = known({constant: Written(float(text), text, False)})[constant]
        real = found.real * flint().arb(float(text) / constant.mantissa)
        assert found.sure
        assert real.overlaps(number(flint().arb))
        assert real.rad() < 1e-70  # of 256 bits, a few are lost


def test_numbers_that_python_folded_are_known_by_the_others():
    double = np.dtype("float64")
    texts = ["0.7", "0.48999999999999994", "0.9", "0.09999999999999998"]
    met = {rounded(float(t), double): Written(float(t), t, False) for t in texts}
    with precision(256):
        found = known(met)
        square, rest = (found[rounded(float(t), double)].real for t in texts[1::2])
        # Their mantissas: 0.49 * 2 and 0.1 * 8.
        assert square.overlaps(flint().arb("0.98")) and square.rad() < 1e-70
        assert rest.overlaps(flint().arb("0.8")) and rest.rad() < 1e-70


def test_unknown_numbers_are_free_and_then_no_float64_is_sure():
    double = np.dtype("float64")
    texts = ["0.3", "1.2345678901234567"]
    met = {rounded(float(t), double): Written(float(t), t, False) for t in texts}
    with precision(256):
        found = known(met)
    assert [k.sure for k in found.values()] == [False]


# The search ---------------------------------------------------------------------------

A, B = (Constant(m, np.dtype("float32")) for m in (0.7, 0.6))


def point(error):
    """Return a point with one element, `error(a, b)` in half ulps of the constants."""

    def errors(reals):
        out = np.empty(1, object)
        out[0] = error(*(off(c, reals[c]) for c in (A, B)))
        return out

    def are_zero(found):
        return np.array([abs(e) < 2.0**-200 for e in found])

    return Point(errors, are_zero, np.ones(1, object))


def searched(*errors):
    here, *further = map(point, errors)
    with precision(256):
        start = {c: flint().arb(c.mantissa) for c in (A, B)}
        found = explain(start, [A, B], here, lambda rows: further)
        return found and [float(off(c, found[c]).mid()) for c in (A, B)]


def test_search_finds_the_numbers_and_curvature_does_no_harm():
    found = searched(
        lambda a, b: a + b - 0.5 + a * b / 2**20,
        lambda a, b: a - b + 0.25 - a * a / 2**20,
    )
    assert found == pytest.approx([0.125, 0.375], abs=1e-5)  # the curvature moves them


def test_search_stays_within_half_an_ulp():
    assert searched(lambda a, b: a + b - 1.99) is not None
    assert searched(lambda a, b: a + b - 2) is None
    # The shortest way, 1.9 * (10, 1) / 101 * 10, would take the first one too far.
    assert searched(lambda a, b: 1.2 * a + 0.9 * b - 1.9) is not None
    assert searched(lambda a, b: a - 1.01 + 0 * b) is None


def test_numbers_must_do_at_moved_points_too():
    assert searched(lambda a, b: a + b - 0.5) is not None
    assert searched(lambda a, b: a + b - 0.5, lambda a, b: a + b - 0.75) is None


@pytest.mark.parametrize("x", [0.8, X])
def test_a_wrong_term_that_rounding_could_hide_at_one_number_is_caught(x):
    """3 a / 3 and 7 b / 7 are free, so that a' + b' x takes any value nearby."""
    a, b = 1.2345678, 0.7654321

    def f(x):
        return (a * x + b * x * x).sum()

    def slope(x):
        return (a * 3) / 3.0 * jnp.ones_like(x) * 1 + 2 * (b * 7) * x / 7

    x = jnp.float32(x)
    assert check_gradients(f, x, grad=slope).ok
    wrong = check_gradients(f, x, grad=lambda x: slope(x) + 2**-25 * x * x)
    assert wrong.verdict == "rule"


def test_a_tie_beside_a_rounded_constant():
    @jax.custom_jvp
    def gelu(x):
        return jax.nn.gelu(x, approximate=False)

    gelu.defjvp(lambda p, t: (gelu(*p), gelu_by_erf(*p) * t[0]))
    x = jnp.float32([0.0, 1.0, -0.5])
    assert check_gradients(lambda x: (jax.nn.relu(x) + gelu(x)).sum(), x).ok
    report = check_gradients(lambda x: (jnp.maximum(x, -x) * gelu(x + 1)).sum(), x)
    assert report.ok, str(report)


def test_a_right_leaf_is_told_from_a_wrong_one():
    def f(x, y):
        return (jax.nn.gelu(x, approximate=False) + jnp.sin(y)).sum()

    x = jnp.float32(X)
    report = check_gradients(
        f,
        x,
        x,
        argnums=(0, 1),
        grad=lambda x, y: (gelu_by_erf(x, half=0.70710678), 1.5 * jnp.cos(y)),
    )
    assert [leaf.verdict for leaf in report.leaves] == ["ok", "rule"]
    assert report.verdict == "rule" and report.explained > 0


def test_a_program_that_has_too_few_digits_for_names_is_not_accused():
    """In bfloat16 many numbers lie within half an ulp of a name; none is sure."""
    x = jnp.asarray(X, jnp.bfloat16)

    def f(x):
        return (jnp.exp(-0.7 * x * x) / 0.3).sum()

    def slope(x, factor=2 * 0.7 / 0.3):
        return -factor * x * jnp.exp(-0.7 * x * x)

    assert check_gradients(f, x, grad=slope).ok
    assert not check_gradients(f, x, grad=lambda x: slope(x, 2 * 0.7 / 0.31)).ok


def test_a_number_that_f_was_given_is_data():
    """A product of it, wrong in its last bit, is a wrong rule; a constant is free."""
    a = 0.7234567880630493  # a float32 whose digits fill it
    folded = np.nextafter(np.float32(3 * a), np.float32(9))

    @jax.custom_vjp
    def thrice(x, factor):
        return 3 * (factor * x)

    def backward(factor, g):
        return g * folded, None

    thrice.defvjp(lambda x, factor: (thrice(x, factor), None), backward)
    x = jnp.array([0.5, 2.0])
    assert check_gradients(thrice, x, a).verdict == "rule"
    assert check_gradients(thrice, x, np.float32(a)).verdict == "rule"
    assert check_gradients(lambda x: thrice(x, a), x).verdict == "ok"
