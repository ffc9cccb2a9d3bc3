"""The search for what is to blame ends in a name or a reason, and never raises."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

from funcgrad.testing import add_rule, check_gradients, culprit
from funcgrad.testing.flint import precision
from funcgrad.testing.numbers.exact import Exact
from funcgrad.testing.rules.elementwise import ELEMENTWISE
from funcgrad.testing.walk import Walk

X = jnp.array([0.5, -1.25, 2.0])
RAMP = jnp.array([1.0, 2.0, 3.0])


def with_rule(f, pull):
    @jax.custom_vjp
    def made(x):
        return f(x)

    made.defvjp(lambda x: (f(x), x), pull)
    return made


wrong = with_rule(jnp.sin, lambda x, g: (2 * g * jnp.cos(x),))
ramp = with_rule(lambda x: jnp.sin(x) * RAMP, lambda x, g: (g * jnp.cos(x) * RAMP,))
wrong_ramp = with_rule(lambda x: jnp.sin(x) * RAMP, lambda x, g: (g * jnp.cos(x),))


@pytest.mark.parametrize(
    ("f", "line"),
    [
        (lambda x: wrong(ramp(x)), "wrong(ramp(x))"),
        (lambda x: wrong_ramp(x) * x, "wrong_ramp(x) * x"),
        (lambda x: wrong(x).sum() + x[:0].sum(), "wrong(x).sum()"),
        (lambda x: wrong(x) + jnp.max(x[:0], initial=0.0), "wrong(x) + jnp.max"),
        (lambda x: jnp.append(wrong(x), wrong(x[:0])), "jnp.append(wrong(x)"),
        (lambda x: wrong(x) * (x @ x), "wrong(x) * (x @ x)"),
    ],
    ids=["beside", "itself", "empty sum", "empty max", "empty rule", "dot"],
)
def test_a_wrong_rule_is_named_beside_what_is_hard_to_try(f, line):
    report = check_gradients(f, X)
    assert report.verdict == "rule"
    assert "custom_vjp `made`" in report.culprit
    assert line in report.culprit


def test_what_is_custom_but_calls_no_program_is_named():
    def solve(x):
        return lax.custom_linear_solve(
            lambda v: (1 + RAMP) * v,
            x,
            lambda matvec, b: b / (1 + RAMP),
            lambda matvec, b: b / (1 + RAMP),
        )

    report = check_gradients(lambda x: wrong(solve(x)), X)
    assert report.verdict == "uncovered"
    assert "`custom_linear_solve` at" in report.culprit


def test_what_cannot_be_tried_by_itself_is_said(monkeypatch):
    def refuses(eqn, inputs):
        if eqn.primitive.name.startswith("custom_"):
            raise KeyError("not alone")
        return False

    monkeypatch.setattr(culprit, "differs", refuses)
    report = check_gradients(lambda x: jnp.exp(wrong(x)), X)
    assert report.verdict == "rule"
    assert "cannot be tried by itself: 'not alone'" in report.culprit
    assert "custom_vjp `made` at" in report.culprit


def test_a_primitive_that_runs_only_compiled_ends_the_search_in_words():
    primitive = Primitive("funcgrad_compiled_only")
    primitive.def_abstract_eval(lambda x: x)
    sloppy = mlir.lower_fun(lambda x: x * 2.001, multiple_results=False)
    mlir.register_lowering(primitive, sloppy)
    ad.deflinear2(primitive, lambda g, x: (primitive.bind(g),))
    add_rule("funcgrad_compiled_only", lambda k, x: 2 * x, lambda k, x, y: (2,))
    try:
        report = check_gradients(lambda x: (primitive.bind(x) * x).sum(), X)
    finally:
        del ELEMENTWISE["funcgrad_compiled_only"]
    assert report.verdict == "compiler"
    assert "cannot be run op by op" in report.culprit


# Operations on arrays without numbers, or with none along an axis.
EMPTY = jnp.zeros(0)
NO_ROWS, NO_COLUMNS = jnp.ones((0, 3)), jnp.ones((2, 0))
NOWHERE = jnp.zeros(0, int)

ON_EMPTY = {
    "sort": lambda x: jnp.sort(x[:0]),
    "sum": lambda x: x[:0].sum(),
    "max": lambda x: jnp.max(x[:0], initial=0.0),
    "prod": lambda x: x[0] * jnp.prod(x[:0]),
    "cumsum": lambda x: jnp.cumsum(NO_COLUMNS * x[0], 1),
    "cumprod": lambda x: jnp.cumprod(NO_COLUMNS * x[0], 1),
    "cummax": lambda x: lax.cummax(NO_ROWS * x),
    "argmax": lambda x: jnp.argmax(NO_ROWS * x, 1) * x[0],
    "top_k": lambda x: lax.top_k(x, 0)[0],
    "gather": lambda x: x[NOWHERE],
    "scatter": lambda x: x.at[NOWHERE].add(x[:0]),
    "scatter max": lambda x: x.at[NOWHERE].max(x[:0]),
    "segment_sum": lambda x: jax.ops.segment_sum(x[:0], NOWHERE, 2),
    "dot": lambda x: x[:0] @ x[:0] + x @ x,
    "matmul": lambda x: (NO_COLUMNS * x[0]) @ (NO_COLUMNS.T * x[1]),
    "no rows": lambda x: (NO_ROWS * x) @ x,
    "convolution of nothing": lambda x: lax.conv(
        jnp.ones((0, 1, 4, 4)) * x[0], jnp.ones((1, 1, 2, 2)) * x[1], (1, 1), "SAME"
    ),
    "convolution of no channels": lambda x: lax.conv(
        jnp.ones((1, 0, 4, 4)) * x[0], jnp.ones((1, 0, 2, 2)) * x[1], (1, 1), "SAME"
    ),
    "windows of nothing": lambda x: lax.reduce_window(
        NO_ROWS * x, -jnp.inf, lax.max, (1, 2), (1, 1), "VALID"
    ),
    "windows too large": lambda x: lax.reduce_window(
        x, 0.0, lax.add, (5,), (1,), "VALID"
    ),
    "vmap": lambda x: jax.vmap(jnp.tanh)(NO_ROWS * x),
    "scan": lambda x: lax.scan(lambda c, t: (c * t, c), x[0], x[:0])[0],
    "softmax": lambda x: jax.nn.softmax(NO_COLUMNS * x[0], axis=0),
    "integers": lambda x: (x[:0] * 4).astype(int) * x[:0],
    "pad": lambda x: jnp.pad(x[:0], 2),
}


@pytest.mark.parametrize("name", ON_EMPTY)
def test_nothing_is_no_reason_to_raise(name):
    report = check_gradients(lambda x: wrong(x).sum() + ON_EMPTY[name](x).sum(), X)
    assert report.verdict == "rule"
    assert "custom_vjp `made`" in report.culprit


def test_a_leaf_without_numbers():
    report = check_gradients(lambda p: [wrong(p[0]), p[1] * 2], (X, EMPTY))
    assert [leaf.verdict for leaf in report.leaves] == ["rule", "ok"]
    assert check_gradients(lambda x: wrong(x), EMPTY).ok


def test_floats_beyond_an_integer_type_become_its_last_number():
    x = jnp.array([1e20, -1e20, jnp.inf, 2.5])
    whole = x.astype(jnp.int32)
    report = check_gradients(lambda x: (x.astype(jnp.int32) * RAMP).sum(), x[:3])
    assert report.ok, str(report)
    program = jax.make_jaxpr(lambda x: x.astype(jnp.int32))(x)
    with precision(128):
        (made,) = Walk(Exact()).run(program, [Exact().lift(x)])
    assert made.tolist() == whole.tolist()


def test_a_nan_inside_flint_is_no_warning_of_numpy():
    """The tests turn warnings into errors, and so may a user."""

    def f(x):
        y = jnp.log(x)
        return jnp.maximum(y, y[:1].sum())

    assert check_gradients(f, jnp.array([-1.0, 2.0, 0.3])).verdict in ("pole", "ok")
