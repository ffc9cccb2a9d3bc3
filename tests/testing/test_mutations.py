"""Testing the tester: every wrong rule must be caught, and the right one blamed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from proof_cases import FAMILIES, by_name

from funcgrad.testing import check_gradients
from funcgrad.testing.rules.elementwise import ELEMENTWISE

X = np.array([0.3, 0.45, 0.7])
TINY = 1 + 2.0**-50

# Slopes as people write them by hand, by function.
UNARY = {
    "sin": (jnp.sin, jnp.cos),
    "cos": (jnp.cos, lambda x: -jnp.sin(x)),
    "tan": (jnp.tan, lambda x: 1 + jnp.tan(x) ** 2),
    "exp": (jnp.exp, jnp.exp),
    "expm1": (jnp.expm1, jnp.exp),
    "log": (jnp.log, lambda x: 1 / x),
    "log1p": (jnp.log1p, lambda x: 1 / (1 + x)),
    "tanh": (jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2),
    "logistic": (lax.logistic, lambda x: lax.logistic(x) * lax.logistic(-x)),
    "sqrt": (jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x)),
    "rsqrt": (lax.rsqrt, lambda x: -0.5 * lax.rsqrt(x) / x),
    "square": (jnp.square, lambda x: 2 * x),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "asin": (jnp.arcsin, lambda x: 1 / jnp.sqrt(1 - x**2)),
    "acos": (jnp.arccos, lambda x: -1 / jnp.sqrt(1 - x**2)),
    "atan": (jnp.arctan, lambda x: 1 / (1 + x**2)),
    "sinh": (jnp.sinh, jnp.cosh),
    "cosh": (jnp.cosh, jnp.sinh),
    "asinh": (jnp.arcsinh, lambda x: 1 / jnp.sqrt(1 + x**2)),
    "atanh": (jnp.arctanh, lambda x: 1 / (1 - x**2)),
    "erf": (lax.erf, jax.grad(lambda x: lax.erf(x))),
    "abs": (jnp.abs, jnp.sign),
    "negative": (jnp.negative, lambda x: -jnp.ones_like(x)),
}

SCALAR_MUTANTS = {
    "sign": lambda f, slope: lambda x: -slope(x),
    "factor 2": lambda f, slope: lambda x: 2 * slope(x),
    "factor 1 + 2^-50": lambda f, slope: lambda x: TINY * slope(x),
    "stale primal": lambda f, slope: lambda x: slope(0.5 * x + 0.1),
}


def custom(f, slope):
    """Return f with the given slope as its custom_jvp."""

    @jax.custom_jvp
    def mutant(x):
        return f(x)

    mutant.defjvp(lambda p, t: (f(*p), slope(*p) * t[0]))
    return mutant


def slope_of_one_number(slope):
    return slope if slope is not UNARY["erf"][1] else jax.vmap(slope)


@pytest.mark.parametrize("name", UNARY)
def test_right_slope_passes_and_every_mutant_is_caught(name):
    f, slope = UNARY[name]
    slope = slope_of_one_number(slope)
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        assert check_gradients(custom(f, slope), x).ok
        for mutation, mutate in SCALAR_MUTANTS.items():
            wrong = mutate(f, slope)
            if np.array_equal(wrong(x), slope(x)) and mutation == "stale primal":
                continue  # a constant slope has no stale primal
            report = check_gradients(custom(f, wrong), x)
            assert report.verdict == "rule", f"{name}, {mutation}: {report}"
            assert "custom_jvp `mutant`" in report.culprit


BINARY = {
    "add": (lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    "sub": (lambda a, b: a - b, lambda a, b: (1.0, -1.0)),
    "mul": (lambda a, b: a * b, lambda a, b: (b, a)),
    "div": (lambda a, b: a / b, lambda a, b: (1 / b, -a / b**2)),
    "pow": (lambda a, b: a**b, lambda a, b: (b * a ** (b - 1), a**b * jnp.log(a))),
    "atan2": (jnp.arctan2, lambda a, b: (b / (a**2 + b**2), -a / (a**2 + b**2))),
    "max": (jnp.maximum, lambda a, b: (1.0 * (a > b), 1.0 * (a < b))),
    "min": (jnp.minimum, lambda a, b: (1.0 * (a < b), 1.0 * (a > b))),
}

PAIR_MUTANTS = {
    "sign of the second": lambda p, q: (p, -q),
    "factor 2 on the first": lambda p, q: (2 * p, q),
    "factor 1 + 2^-50": lambda p, q: (p * TINY, q * TINY),
    "dropped first term": lambda p, q: (0 * p, q),
    "dropped second term": lambda p, q: (p, 0 * q),
    "swapped": lambda p, q: (q, p),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", BINARY)
def test_binary_rules(name):
    f, slopes = BINARY[name]

    def custom_pair(mutate):
        @jax.custom_jvp
        def mutant(a, b):
            return f(a, b)

        def jvp(primals, tangents):
            p, q = mutate(*slopes(*primals))
            return f(*primals), p * tangents[0] + q * tangents[1]

        mutant.defjvp(jvp)
        return mutant

    with jax.enable_x64(True):
        a, b = jnp.asarray(X), jnp.array([1.5, 0.2, 0.9])
        fine = check_gradients(custom_pair(lambda p, q: (p, q)), a, b, argnums=(0, 1))
        assert fine.ok, str(fine)
        for mutation, mutate in PAIR_MUTANTS.items():
            if name == "add" and mutation == "swapped":
                continue  # the same rule
            report = check_gradients(custom_pair(mutate), a, b, argnums=(0, 1))
            assert report.verdict == "rule", f"{name}, {mutation}: {report}"
            assert "custom_jvp `mutant`" in report.culprit


def vjp_mutant(f, pull):
    @jax.custom_vjp
    def mutant(*args):
        return f(*args)

    mutant.defvjp(lambda *args: (f(*args), args), pull)
    return mutant


def test_square_matrices_transposed():
    w, x = draw(3, 3), draw(3, 3, seed=1)
    right = vjp_mutant(jnp.matmul, lambda r, g: (g @ r[1].T, r[0].T @ g))
    wrong = [
        lambda r, g: (g @ r[1], r[0].T @ g),
        lambda r, g: (g @ r[1].T, (r[0].T @ g).T),
        lambda r, g: (g.T @ r[1].T, r[0].T @ g),
        lambda r, g: (g @ r[1].T, r[0] @ g),
    ]
    assert check_gradients(right, w, x, argnums=(0, 1)).ok
    for pull in wrong:
        assert_rule(check_gradients(vjp_mutant(jnp.matmul, pull), w, x, argnums=(0, 1)))


def test_missing_broadcast_sum():
    def bias(x, b):
        return x + b

    x, b = draw(4, 3), draw(3, seed=1)
    assert check_gradients(
        vjp_mutant(bias, lambda r, g: (g, g.sum(0))), x, b, argnums=(0, 1)
    ).ok
    for lazy in (lambda g: g[0], lambda g: g.mean(0), lambda g: g[-1] * 4):
        mutant = vjp_mutant(bias, lambda r, g, lazy=lazy: (g, lazy(g)))
        assert_rule(check_gradients(mutant, x, b, argnums=(0, 1)))


def test_off_by_one_index():
    index = jnp.array([0, 2, 3])

    def take(x):
        return x[index]

    x = draw(5)
    for shift, verdict in ((0, "ok"), (1, "rule"), (-1, "rule")):
        mutant = vjp_mutant(
            take,
            lambda r, g, shift=shift: (jnp.zeros_like(r[0]).at[index + shift].add(g),),
        )
        assert check_gradients(mutant, x).verdict == verdict


def test_forgotten_duplicates_in_a_gather():
    index = jnp.array([0, 2, 2])
    mutant = vjp_mutant(
        lambda x: x[index], lambda r, g: (jnp.zeros_like(r[0]).at[index].set(g),)
    )
    assert_rule(check_gradients(mutant, draw(5)))


def test_reductions():
    m = draw(3, 4)
    wrong = {
        "mean without its n": vjp_mutant(
            lambda a: a.mean(1),
            lambda r, g: (jnp.broadcast_to(g[:, None], r[0].shape),),
        ),
        "sum over the other axis": vjp_mutant(
            lambda a: a[:3, :3].sum(1),
            lambda r, g: (jnp.zeros_like(r[0]).at[:3, :3].add(g[None, :]),),
        ),
        "cumsum not reversed": vjp_mutant(
            lambda a: jnp.cumsum(a, 1), lambda r, g: (jnp.cumsum(g, 1),)
        ),
        "product without its cofactor": vjp_mutant(
            lambda a: a.prod(1),
            lambda r, g: (g[:, None] * r[0].prod(1)[:, None] + 0 * r[0],),
        ),
        "variance of n - 1": vjp_mutant(
            lambda a: a.var(1),
            lambda r, g: (2 / 3 * g[:, None] * (r[0] - r[0].mean(1, keepdims=True)),),
        ),
        "softmax without its sum": vjp_mutant(
            jax.nn.softmax, lambda r, g: (jax.nn.softmax(r[0]) * g,)
        ),
        "maximum to everybody": vjp_mutant(
            lambda a: a.max(1), lambda r, g: (g[:, None] + 0 * r[0],)
        ),
    }
    for name, mutant in wrong.items():
        report = check_gradients(mutant, m)
        assert report.verdict == "rule", f"{name}: {report}"


def test_convolution_without_the_flip():
    image, kernel = draw(1, 1, 5, 5), draw(1, 1, 3, 3, seed=1)

    def conv(a, w):
        return lax.conv(a, w, (1, 1), "SAME")

    wrong = vjp_mutant(
        conv,
        lambda r, g: (conv(g, r[1]), jax.vjp(lambda w: conv(r[0], w), r[1])[1](g)[0]),
    )
    assert_rule(check_gradients(wrong, image, kernel, argnums=(0, 1)))


# Every primitive with every mutation --------------------------------------------------


def swapped(grads):
    """Return the first two gradients swapped, if their shapes allow it."""
    if len(grads) > 1 and grads[0].shape == grads[1].shape:
        return [grads[1], grads[0], *grads[2:]]
    return grads


def transposed(g):
    square = g.ndim > 1 and g.shape[-1] == g.shape[-2]
    return jnp.swapaxes(g, -1, -2) if square else g


def dropped(g):
    """Return g with 0 for all but its first number, or for the only one."""
    return jnp.where(jnp.arange(g.size) < min(1, g.size - 1), g.ravel(), 0).reshape(
        g.shape
    )


MATRIX = {
    "sign": lambda grads: [-g for g in grads],
    "factor 2": lambda grads: [2 * g for g in grads],
    "factor 1 + 2^-50": lambda grads: [TINY * g for g in grads],
    "dropped terms": lambda grads: [dropped(g) for g in grads],
    "off by one index": lambda grads: [
        jnp.roll(g.ravel(), 1).reshape(g.shape) for g in grads
    ],
    "transposed": lambda grads: [transposed(g) for g in grads],
    "swapped arguments": lambda grads: swapped(grads),
}


def mutated(case, mutation):
    """Return the case's function with a wrong derivative, its floats, and cotangents.

    The gradient is JAX's own, changed by the mutation on its way out. None stands for a
    mutation that changes nothing with these cotangents, which are 1, 2, 3, ...
    """
    which = [case.argnums] if isinstance(case.argnums, int) else list(case.argnums)

    def f(*floats):
        args = list(case.args)
        for i, x in zip(which, floats, strict=True):
            args[i] = x
        return case.f(*args)

    floats = [case.args[i] for i in which]
    right = jax.vjp(f, *floats)
    weights = jax.tree.map(
        lambda y: jnp.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape), right[0]
    )
    right = right[1](weights)
    wrong = MATRIX[mutation](right)
    if all(np.array_equal(r, w) for r, w in zip(right, wrong, strict=True)):
        return None

    @jax.custom_vjp
    def mutant(*floats):
        return f(*floats)

    mutant.defvjp(
        lambda *floats: (f(*floats), floats),
        lambda floats, g: tuple(MATRIX[mutation](jax.vjp(f, *floats)[1](g))),
    )
    return mutant, floats, weights


@pytest.mark.exhaustive
@pytest.mark.parametrize(("family", "name"), by_name(every=8))
def test_every_mutant_of_every_primitive_is_caught(family, name, record_property):
    """All mutants of a case are outputs of one function, so one compilation serves."""
    with jax.enable_x64(True):
        case = FAMILIES[family](jnp.dtype("float64"))[name]
        found = {mutation: mutated(case, mutation) for mutation in MATRIX}
        mutants = {k: m for k, m in found.items() if m is not None}
        # A step function's gradient is 0, and no factor or index changes that.
        if not mutants:
            assert not any(np.any(g) for g in gradients(case))
            return

        def all_of_them(arguments):
            return [mutants[k][0](*arguments[k]) for k in mutants]

        # In the order of the keys, which is that of the arguments' leaves.
        mutants = dict(sorted(mutants.items()))
        report = check_gradients(
            all_of_them,
            {k: floats for k, (_, floats, _) in mutants.items()},
            cotangents=[weights for _, _, weights in mutants.values()],
        )
    assert report.verdict == "rule"
    assert "custom_vjp `mutant`" in report.culprit
    for mutation in mutants:
        own = [
            leaf for leaf in report.leaves if leaf.path.startswith(f"['{mutation}']")
        ]
        assert "rule" in [leaf.verdict for leaf in own], f"{mutation}\n{report}"
    record_property("mutants of one primitive caught, at most", len(mutants))


def gradients(case):
    def total(*args):
        return sum(y.sum() for y in jax.tree.leaves(case.f(*args)))

    return jax.tree.leaves(jax.grad(total, case.argnums)(*case.args))


def draw(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), jnp.float32)


def assert_rule(report):
    assert report.verdict == "rule", str(report)
    assert "custom_vjp `mutant`" in report.culprit


# The proof's own table: a wrong slope there must disagree with JAX --------------------

TABLE_CASES = {
    "exp2": "exp2", "expm1": "expm1", "log": "log", "log1p": "log1p", "log2": "log2",
    "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    "sinh": "sinh", "cosh": "cosh", "sqrt": "sqrt", "rsqrt": "rsqrt", "cbrt": "cbrt",
    "logistic": "sigmoid", "erf": "erf", "erfc": "erfc", "erf_inv": "erfinv",
    "lgamma": "gammaln", "digamma": "digamma", "pow": "power", "div": "divide",
    "atan2": "arctan2", "square": "square",
}  # fmt: skip


@pytest.mark.parametrize("primitive", TABLE_CASES)
@pytest.mark.parametrize(
    "factor",
    [
        pytest.param(-1, marks=pytest.mark.exhaustive),
        pytest.param(2, marks=pytest.mark.exhaustive),
        TINY,  # the hardest to see
    ],
)
def test_wrong_slope_in_the_table_is_noticed(primitive, factor, monkeypatch):
    with jax.enable_x64(True):
        case = FAMILIES["elementwise"](jnp.float64)[TABLE_CASES[primitive]]
        rule = ELEMENTWISE[primitive]
        if f" {primitive} " not in str(jax.make_jaxpr(case.f)(*case.args)):
            pytest.skip(f"this JAX does not use the primitive {primitive} here")

        def wrong(*args):
            return tuple(slope * factor for slope in rule.slopes(*args))

        monkeypatch.setitem(
            ELEMENTWISE, primitive, rule._replace(slopes=wrong, engine=None)
        )
        report = check_gradients(case.f, *case.args, argnums=case.argnums)
    assert report.verdict == "rule", str(report)
    assert f"`{primitive}`" in report.culprit
