"""Every verdict can be reached, says what to blame, and reads well."""

import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

from funcgrad.testing import add_rule, assert_gradients, check_gradients
from funcgrad.testing.rules.elementwise import ELEMENTWISE


@jax.custom_vjp
def doubled_sine(x):
    return jnp.sin(x)


doubled_sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))

X = jnp.array([0.5, -1.25, 2.0])


def test_ok_names_each_leaf():
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    report = check_gradients(
        lambda p, x: jnp.tanh(x @ p["w"] + p["b"]).sum(), params, X[:2]
    )
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["['b']", "['w']"]
    assert [leaf.shape for leaf in report.leaves] == [(3,), (2, 3)]
    assert all(leaf.rule_error == "0" for leaf in report.leaves)
    assert str(report).startswith("gradient: ok")


def test_wrong_custom_vjp_is_a_rule():
    report = check_gradients(lambda x: (x * doubled_sine(x)).sum(), X)
    assert report.verdict == "rule"
    assert "custom_vjp `doubled_sine`" in report.culprit
    assert "x * doubled_sine(x)" in report.culprit


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: lambda x: jax.lax.cond(x[0] > 0, f, jnp.cos, x),
        lambda f: lambda x: jax.lax.scan(lambda c, t: (f(c) + t, f(t)), x[0], x)[1],
        jax.vmap,
        lambda f: lambda x: jax.lax.fori_loop(0, 2, lambda i, c: f(c), x),
    ],
    ids=["jit", "remat", "cond", "scan", "vmap", "fori_loop"],
)
def test_culprit_is_found_inside(wrap):
    report = check_gradients(lambda x: wrap(lambda y: doubled_sine(y))(x), X)
    assert report.verdict == "rule"
    assert "doubled_sine" in report.culprit
    assert "test_verdict.py" in report.culprit


def test_nan_behind_where_is_a_pole():
    def f(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0).sum()

    report = check_gradients(f, jnp.array([0.0, 4.0]))
    assert report.verdict == "pole"
    assert "jnp.sqrt(x)" in report.culprit
    assert report.leaves[0].truth == "0"
    assert report.leaves[0].value == "nan"


def test_overflow_is_a_pole_at_the_equation_that_overflows():
    report = check_gradients(
        lambda x: jnp.log(jnp.exp(x).sum()), jnp.array([1.0, 500.0])
    )
    assert report.verdict == "pole"
    assert "`exp`" in report.culprit
    assert "range" in report.culprit


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.where(x == 0, x, 2 * x).sum(),
        lambda x: (jax.nn.relu(x) - jax.nn.relu(-x)).sum(),
        lambda x: jnp.where(jnp.abs(x) > 0, jnp.abs(x) ** 2 + x, 0).sum(),
    ],
)
def test_tie_outside_the_one_sided_derivatives_is_a_kink(f):
    report = check_gradients(f, jnp.array([0.0, 1.0]))
    assert report.verdict == "kink"
    assert report.leaves[0].worst == (0,)
    assert "tie in" in report.culprit


@pytest.mark.parametrize(
    "f",
    [jax.nn.relu, jnp.abs, lambda x: jnp.maximum(x, 0), jnp.max, jnp.sort, jnp.sign],
)
def test_harmless_tie_is_ok_and_noted(f):
    report = check_gradients(f, jnp.zeros(3))
    assert report.ok, str(report)
    assert any("exactly tied" in note for note in report.notes)


def test_wrong_share_at_a_tie_is_a_kink():
    @jax.custom_jvp
    def greedy_max(a, b):
        return jnp.maximum(a, b)

    greedy_max.defjvp(lambda p, t: (jnp.maximum(*p), t[0] + t[1]))
    report = check_gradients(lambda a, b: greedy_max(a, b).sum(), X, X, argnums=(0, 1))
    assert report.verdict == "kink"


def test_numbers_that_rounding_cannot_explain_are_the_compilers():
    def miscompiled(x):
        right = jax.grad(lambda x: (x**3).sum())(x)
        return right if isinstance(x, jax.core.Tracer) else right * (1 + 1e-4)

    report = check_gradients(lambda x: (x**3).sum(), X, grad=miscompiled)
    assert report.verdict == "compiler"
    assert "only when compiled together" in report.culprit
    assert report.leaves[0].ulps > report.leaves[0].bound


def test_compiler_culprit_is_the_primitive_that_is_off_by_itself():
    primitive = Primitive("funcgrad_sloppy_double")
    primitive.def_abstract_eval(lambda x: x)
    sloppy = mlir.lower_fun(lambda x: x * 2.001, multiple_results=False)
    mlir.register_lowering(primitive, sloppy)
    primitive.def_impl(jax.jit(lambda x: x * 2.001))
    ad.primitive_jvps[primitive] = lambda p, t: (
        primitive.bind(*p),
        primitive.bind(*t),
    )
    ad.primitive_transposes[primitive] = lambda g, x: (primitive.bind(g),)

    report = check_gradients(lambda x: (primitive.bind(x) * x).sum(), X)
    assert report.verdict == "uncovered"
    assert "funcgrad_sloppy_double" in report.culprit
    add_rule("funcgrad_sloppy_double", lambda k, x: 2 * x, lambda k, x, y: (2,))
    try:
        report = check_gradients(lambda x: (primitive.bind(x) * x).sum(), X)
    finally:
        del ELEMENTWISE["funcgrad_sloppy_double"]
    assert report.verdict == "compiler"
    assert "funcgrad_sloppy_double" in report.culprit


def test_ill_conditioned_but_right_is_ok_with_few_digits():
    def f(x):
        return ((1 - jnp.cos(x)) / x**2).sum()

    report = check_gradients(f, jnp.array([3e-2]))
    assert report.ok, str(report)
    assert report.leaves[0].digits < 4


def test_stop_gradient_is_honoured():
    report = check_gradients(lambda x: (jax.lax.stop_gradient(x) * x).sum(), X)
    assert report.ok
    assert float(report.leaves[0].truth) == float(report.leaves[0].value)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_factor_as_small_as_the_type_can_hold_is_caught(dtype):
    factor = 1 + 2.0**-50 if dtype == "float64" else 1 + 2.0**-22

    @jax.custom_jvp
    def f(x):
        return jnp.tanh(x)

    f.defjvp(lambda p, t: (f(*p), t[0] * (1 - f(*p) ** 2) * factor))
    with jax.enable_x64(dtype == "float64"):
        report = check_gradients(lambda x: f(x).sum(), jnp.array([0.3], dtype))
    assert report.verdict == "rule"
    assert "custom_jvp `f`" in report.culprit


# The API ------------------------------------------------------------------------------


def test_assertion_carries_the_report_and_ends_at_the_callers_line():
    with pytest.raises(AssertionError, match="gradient: rule") as caught:
        assert_gradients(lambda x: doubled_sine(x).sum(), X)
    shown = caught.traceback.filter(caught)
    assert "assert_gradients(lambda" in str(shown[-1].statement)
    hidden = traceback.extract_tb(caught.value.__traceback__)[len(shown) :]
    assert [frame.name for frame in hidden] == ["assert_gradients"]


def test_assertion_is_silent_where_all_is_well():
    assert_gradients(lambda x: jnp.sin(x).sum(), X)


def test_several_arguments_and_constants():
    def f(x, n, y, mask):
        return (x * n * y["a"] * mask).sum()

    args = (X, 3, {"a": X + 1}, jnp.array([True, False, True]))
    report = check_gradients(f, *args, argnums=(0, 2))
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["argument 0", "argument 2['a']"]


def test_cotangents_of_the_caller():
    seen = check_gradients(lambda x: x * 2, X, cotangents=jnp.array([1.0, 0.0, 0.0]))
    assert seen.ok
    with pytest.raises(ValueError, match="shapes of f's outputs"):
        check_gradients(lambda x: x * 2, X, cotangents=jnp.ones(2))


def test_uniform_cotangents_would_hide_what_the_default_shows():
    @jax.custom_vjp
    def total(x):
        return x * 1

    total.defvjp(lambda x: (x, None), lambda _, g: (jnp.full_like(g, g.mean()),))
    assert check_gradients(total, X, cotangents=jnp.ones(3)).ok
    assert check_gradients(total, X).verdict == "rule"


def test_given_gradient_that_can_be_traced_is_judged_exactly():
    def cube(x):
        return (x**3).sum()

    assert check_gradients(cube, X, grad=lambda x: 3 * x**2).ok
    report = check_gradients(cube, X, grad=lambda x: 3.000001 * x**2)
    assert report.verdict == "rule"
    assert "grad=" in report.culprit


def test_given_gradient_that_cannot_be_traced_is_held_to_the_bound():
    def cube(x):
        return (x**3).sum()

    fine = check_gradients(cube, X, grad=lambda x: 3 * np.asarray(x) ** 2)
    assert fine.ok
    assert any("could not be traced" in note for note in fine.notes)
    off = check_gradients(cube, X, grad=lambda x: 3.0001 * np.asarray(x) ** 2)
    assert off.verdict == "rule"


def test_compiled_executable_as_given_gradient():
    def cube(x):
        return (x**3).sum()

    executable = jax.jit(jax.grad(cube)).lower(X).compile()
    assert check_gradients(cube, X, grad=executable).ok


def test_given_gradient_of_the_wrong_structure():
    with pytest.raises(ValueError, match="must return shape"):
        check_gradients(lambda x: x.sum(), X, grad=lambda x: x[:2])
    with pytest.raises(ValueError, match="is nothing at"):
        check_gradients(lambda p: p["a"].sum(), {"a": X}, grad=lambda p: {"b": X})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_gradients(jnp.sin, X, argnums=1), "argnums must name"),
        (lambda: check_gradients(lambda n: n * 1.0, 3), "nothing to differentiate"),
        (lambda: check_gradients(lambda x: x > 0, X), "returns no floats"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_too_large_a_program_is_refused_with_an_estimate():
    w = jnp.ones((300, 300))
    with pytest.raises(ValueError, match=r"would take about .* Check fewer rows"):
        check_gradients(lambda w: jnp.tanh(w @ w).sum(), w, seconds=0.01)


def test_a_tie_of_three_in_a_sort():
    """JAX is wrong where three are tied: the report says kink.

    At x0 x2 = x1^2 the sorted products are (p, p, q) on one side and (q, p, p) on the
    other, where p = x0 x2 and q = x1^2: the one in the middle is always p. JAX's stable
    sort leaves q there, and takes its slope.
    """
    x = jnp.array([-0.0625, 0.1875, -0.5625])

    def middle(x):
        return jnp.sort(x[::-1] * x)[1]

    assert jax.grad(middle)(x).tolist() == [0, 0.375, 0]  # q's slope, not p's
    assert check_gradients(middle, x).verdict == "kink"
    assert check_gradients(lambda x: jnp.sort(x[::-1] * x).sum(), x).ok


def test_missing_flint_names_the_extra(monkeypatch):
    import sys

    from funcgrad.testing import flint

    flint.flint.cache_clear()
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(ImportError, match=r"funcgrad\[testing\]"):
        check_gradients(jnp.sin, X)
    flint.flint.cache_clear()


def test_no_argument_is_a_tolerance():
    import inspect

    names = set(inspect.signature(check_gradients).parameters)
    assert names == {"f", "args", "argnums", "grad", "cotangents", "seconds"}


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "60"])
def test_seconds_are_a_number_above_0(seconds):
    with pytest.raises(ValueError, match=f"^seconds must .* 0, got {seconds!r}$"):
        check_gradients(jnp.sin, 1.0, seconds=seconds)


def test_what_is_no_function_has_no_gradient():
    with pytest.raises(ValueError, match=r"^f must be a function, such as"):
        check_gradients(jnp.ones(2), 1.0)


def test_a_function_without_arguments_is_said():
    with pytest.raises(ValueError, match=r"pass them after it, as in \(f, x\)$"):
        check_gradients(jnp.sin)
