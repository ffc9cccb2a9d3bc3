"""What jax.grad takes, the proof takes: arguments go into the function as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from funcgrad.testing import check_gradients
from funcgrad.testing.program import trace

X = jnp.array([0.5, -1.25, 2.0, 0.75])
MASK = np.array([True, False, True, True])
LABELS = np.array([0, 1, 1, 2])


def repeated(x, n):
    for _ in range(n):
        x = jnp.sin(x)
    return x


def closing_over_nothing(x):
    return x[jnp.arange(4) > 1] ** 2


# Each needs numbers that a traced argument would not have.
PROGRAMS = {
    "range": (repeated, 3),
    "range of a NumPy int": (repeated, np.int64(2)),
    "range of an array": (repeated, jnp.array(2)),
    "a flag": (lambda x, flag: jnp.sin(x) if flag else x, True),
    "a float": (lambda x, rate: x * rate if rate > 0 else x, 0.1),
    "a string": (lambda x, name: getattr(jnp, name)(x), "tanh"),
    "a function": (lambda x, f: f(x), jnp.tanh),
    "None": (lambda x, bias: x**2 if bias is None else x + bias, None),
    "an object": (lambda x, config: x**config.real, 3),
    "options": (lambda x, c: x ** c["n"] if c["on"] else x, {"n": 3, "on": True}),
    "reshape": (lambda x, n: jnp.tanh(x.reshape(n, -1)).sum(0), 2),
    "an axis": (lambda x, axis: x.reshape(2, 2).sum(axis) ** 2, 0),
    "zeros": (lambda x, n: jnp.zeros(n).at[0].set(x[0] ** 2), 3),
    "split": (lambda x, i: jnp.split(x, i)[0] ** 2, np.array([2])),
    "repeat": (lambda x, n: jnp.repeat(x, n) ** 2, np.array([1, 0, 2, 1])),
    "mask": (lambda x, m: x[m] ** 2, MASK),
    "jnp mask": (lambda x, m: x[m] ** 2, jnp.asarray(MASK)),
    "mask with another": (lambda x, m: x[m & (jnp.arange(4) > 0)], jnp.asarray(MASK)),
    "unique": (lambda x, k: x[: jnp.unique(k).size] ** 2, LABELS),
    "jnp unique": (lambda x, k: x[: jnp.unique(k).size] ** 2, jnp.asarray(LABELS)),
    "nonzero": (lambda x, m: x[jnp.nonzero(m)] ** 2, MASK),
    "np.where": (lambda x, m: x[np.where(m)[0]] ** 2, MASK),
    "segment_sum": (lambda x, k: jax.ops.segment_sum(x, k) ** 2, LABELS),
    "jnp segment_sum": (
        lambda x, k: jax.ops.segment_sum(x, k) ** 2,
        jnp.asarray(LABELS),
    ),
    "item": (lambda x, a: x * a.item(), np.array(3.0)),
    "tolist": (lambda x, k: sum(x[i] ** 2 for i in k.tolist()), LABELS),
    "words": (lambda x, words: x * len(words[0]), np.array(["three"])),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_arguments_go_in_as_they_are(name):
    f, given = PROGRAMS[name]

    def total(x, given):
        return f(x, given).sum()

    report = check_gradients(total, X, given)
    assert report.ok, str(report)
    # The program that was judged is the one that jax.grad differentiates.
    slope = 2 * jax.grad(total)(X, given)
    report = check_gradients(total, X, given, grad=lambda *_: slope)
    assert report.verdict == "rule"


def test_a_python_float_has_the_type_that_it_is_used_in():
    """JAX keeps 0.1 in double precision where it multiplies a scalar by it."""
    report = check_gradients(lambda x, r: jax.lax.mul(x, r), jnp.float32(1.5), 0.1)
    assert report.ok
    assert float(report.leaves[0].truth) == float(np.float32(0.1))


def test_a_wrong_rule_is_found_behind_such_arguments():
    @jax.custom_vjp
    def doubled(x):
        return jnp.sin(x)

    doubled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))
    report = check_gradients(lambda x, m, n: doubled(x[m]) * n, X, MASK, 3)
    assert report.verdict == "rule"
    assert "custom_vjp `doubled`" in report.culprit


def test_what_f_computes_without_variables_has_numbers():
    assert check_gradients(closing_over_nothing, X).ok


def test_an_argument_that_is_no_pytree():
    """JAX 0.12's own grad flattens only what it differentiates; 0.9's all arguments."""
    assert check_gradients(lambda x, d: x ** d[1], X, {1: 3, "a": 2}).ok


def shapes_of_constants(f, *args):
    return [np.shape(x) for x in trace(f, (X, *args)).constants]


def test_arrays_stay_arguments_of_what_is_compiled_where_f_can_do_without():
    data, weights = np.ones((3, 4), np.float32), jnp.ones((2, 4))
    rows = np.array([True, False, True])

    def product(x, data, weights, n):
        return (data @ x).sum() + (weights @ x).sum() * n

    def some_rows(x, data, weights, rows):
        return (data @ x)[rows].sum() + (weights @ x).sum()

    def positive(x, data, weights):
        return (data @ x).sum() + x[weights[0] > 0].sum()

    assert shapes_of_constants(product, data, weights, 3) == [(3, 4), (2, 4)]
    assert shapes_of_constants(some_rows, data, weights, rows) == [(2, 4)]
    assert shapes_of_constants(positive, data, weights) == []


def test_integers_beside_floats_in_a_differentiated_argument_are_held():
    params = {"w": X, "depth": 2, "act": "tanh"}
    report = check_gradients(
        lambda p: getattr(jnp, p["act"])(repeated(p["w"], p["depth"])), params
    )
    assert report.ok
    assert [leaf.path for leaf in report.leaves] == ["['w']"]


def test_a_gradient_of_ones_own_gets_them_too():
    def cubes(x, mask):
        return (x[mask] ** 3).sum()

    def right(x, mask):
        return jnp.zeros_like(x).at[mask].set(3 * x[mask] ** 2)

    report = check_gradients(cubes, X, MASK, grad=right)
    assert report.ok
    assert report.notes == ()
    wrong = check_gradients(cubes, X, MASK, grad=lambda x, m: 1.01 * right(x, m))
    assert wrong.verdict == "rule"


# Python that depends on what is differentiated ----------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.sin(x).sum() if x[0] > 0 else x.sum(),
        lambda x: x[x > 0].sum(),
        lambda x: x[int(x[2])],
        lambda x: x[np.asarray(x > 0)].sum(),
    ],
    ids=["if", "mask", "int", "NumPy"],
)
def test_a_decision_by_the_variables_is_refused_in_a_sentence(f):
    jax.grad(f)(X)  # takes it
    with pytest.raises(ValueError, match=r"decides in Python .* write jnp\.where"):
        check_gradients(f, X)


def test_what_jax_grad_refuses_is_refused_in_the_same_words():
    def broken(x):
        return x @ jnp.ones(3)

    with pytest.raises(TypeError) as theirs:
        jax.grad(broken)(X)
    with pytest.raises(TypeError) as ours:
        check_gradients(broken, X)
    assert str(ours.value) == str(theirs.value)
    with pytest.raises(jax.errors.TracerArrayConversionError):
        check_gradients(lambda x: jnp.asarray(np.asarray(x)).sum(), X)
    with pytest.raises(ZeroDivisionError):
        check_gradients(lambda x, n: x * (1 / n), X, 0)
