"""The identity in finite fields: right rules pass, wrong ones do not, at any size."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from proof_cases import FAMILIES, by_name
from test_mutations import MATRIX, mutated

import funcgrad as fg
from funcgrad.testing import assert_gradients, at_size, check_gradients, identity, size
from funcgrad.testing.program import trace

OURS = sys.modules["funcgrad.gpt"]  # as `fg.gpt` is the function


def proved(f, *args, models=identity.MODELS, **options):
    program = trace(f, args, **options)
    return identity.test(program, identity.decide(program), models)


def judged(f, *args, **options):
    return at_size.judge(trace(f, args, **options), given="grad" in options)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("family", "name"), by_name(every=6))
def test_right_rules_pass_by_hashes_alone(family, name):
    if name == "arccosh" and jax.__version_info__ < (0, 12):
        pytest.skip("its slope is rsqrt(x^2 - 1) there, which no model joins with ours")
    with jax.enable_x64(True):
        case = FAMILIES[family](jnp.dtype("float64"))[name]
        found = proved(case.f, *case.args, argnums=case.argnums)
    assert found.model is identity.MODELS[0]


# Of the mutants of each rule one in three is tried, each kind on a third of the rules:
# all together, which were seen, take eight minutes.
@pytest.mark.exhaustive
@pytest.mark.parametrize(("family", "name"), by_name(every=12))
def test_every_mutant_is_an_alarm(family, name):
    with jax.enable_x64(True):
        case = FAMILIES[family](jnp.dtype("float64"))[name]
        for mutation in list(MATRIX)[len(name) % 3 :: 3]:
            found = mutated(case, mutation)
            if found is None:
                continue
            mutant, floats, weights = found
            wrong = proved(
                mutant,
                *floats,
                argnums=tuple(range(len(floats))),
                cotangents=weights,
                models=identity.MODELS[:3],
            )
            assert wrong.model is None, mutation


@pytest.mark.parametrize("k", [10, 20, 35, 52])
def test_no_factor_is_too_near_to_1(k):
    factor = 1 + 2.0**-k

    @jax.custom_jvp
    def f(x):
        return jnp.tanh(x)

    f.defjvp(lambda p, t: (f(*p), factor * (1 - jnp.tanh(p[0]) ** 2) * t[0]))
    with jax.enable_x64(True):
        x = jnp.linspace(-1.0, 1.0, 7)
        assert proved(f, x).model is None
        factor = 1.0
        assert proved(lambda x: f(x) * 1.0, x).model is identity.MODELS[0]


@pytest.mark.exhaustive
@pytest.mark.parametrize("p", [103, 251])
def test_small_primes_miss_as_often_as_one_in_p(p, monkeypatch):
    """Each draw is a trial with chance 1 / p; four standard errors either way."""

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda x, t: (cube(*x), 2 * x[0] ** 2 * t[0]))
    monkeypatch.setattr(identity, "draw_prime", lambda *a, **b: p)
    program = trace(lambda x: cube(x).sum(), (np.arange(1.0, 6.0, dtype=np.float32),))
    decided, n = identity.decide(program), 2500
    draw = identity.draws(program, decided, identity.MODELS[0], {})
    missed = sum(draw() for _ in range(n))
    assert abs(missed - n / p) < 4 * np.sqrt(n / p)


def test_an_identity_of_functions_needs_a_model_that_has_it():
    """1 / cosh^2 is 1 - tanh^2 where both are made of exponentials."""

    @jax.custom_jvp
    def f(x):
        return jnp.tanh(x)

    f.defjvp(lambda p, t: (f(*p), t[0] / jnp.cosh(p[0]) ** 2))
    assert proved(f, np.linspace(-1, 1, 5, dtype=np.float32)).model.name == "dual"


def test_large_programs_are_proven_by_identity():
    model = fg.mlp([64, 96, 10], final_activation=fg.linear)
    x = np.random.RandomState(0).rand(32, 64).astype(np.float32)
    objective = fg.objective(model, fg.cross_entropy)
    args = model.init(jax.random.key(0)), (x, np.arange(32) % 10)
    report = check_gradients(objective, *args, seconds=1)
    assert report.ok, str(report)
    assert report.method == "identity"
    assert report.miss == 2.0**-60
    assert (
        "method: identity in 3 random fields; a wrong rule passes with probability "
        "about 2^-60 (random-function model)"
    ) in str(report)
    small = check_gradients(lambda x: x**2, 3.0)
    assert (small.method, small.miss) == ("exact", 0.0)
    assert "method" not in str(small)


def small_gpt():
    model = fg.gpt(11, context=8, width=16, layers=2, heads=2)
    rows = np.random.RandomState(1).randint(0, 11, (3, 9))
    return fg.next_token(model), model.init(jax.random.key(0)), rows


@pytest.mark.exhaustive
def test_a_gpt_passes():
    report = judged(*small_gpt())
    assert report.ok, str(report)
    assert report.notes == ()


MISTAKES = {
    "sign": lambda g: -g,
    "factor 2": lambda g: 2 * g,
    "factor 1 + 2^-20": lambda g: (1 + 2.0**-20) * g,
    "off by one": lambda g: jnp.roll(g, 1, -1),
    "dropped batch axis": lambda g: jnp.broadcast_to(g[:1], g.shape),
    "dropped terms": lambda g: g.at[..., 0].set(0),
}


@pytest.mark.parametrize(
    ("part", "mistake"),
    [
        pytest.param(
            part, mistake,
            marks=() if (part, mistake) == ("gelu", "dropped terms")
            else pytest.mark.exhaustive,
        )
        for part in ("attention", "layer_norm", "gelu")
        for mistake in MISTAKES
    ],
)  # fmt: skip
def test_a_wrong_rule_in_a_gpt_is_named(part, mistake, monkeypatch):
    shipped = jax.nn.gelu if part == "gelu" else getattr(OURS, part)

    @jax.custom_vjp
    def wrong(*args):
        return shipped(*args)

    def backward(args, g):
        *rest, last = jax.vjp(shipped, *args)[1](g)
        return (*rest, MISTAKES[mistake](last))

    wrong.defvjp(lambda *args: (shipped(*args), args), backward)
    model = fg.gpt(
        11, context=8, width=16, layers=1, heads=2,
        **({"activation": wrong} if part == "gelu" else {}),
        **({"norm": wrong} if part == "layer_norm" else {}),
    )  # fmt: skip
    if part == "attention":
        monkeypatch.setattr(OURS, "attention", wrong)
    rows = np.random.RandomState(1).randint(0, 11, (3, 9))
    report = judged(fg.next_token(model), model.init(jax.random.key(0)), rows)
    assert report.verdict == "rule", str(report)
    assert "custom_vjp `wrong`" in report.culprit


@pytest.mark.exhaustive
def test_a_wrong_gradient_of_the_callers():
    f, params, rows = small_gpt()
    report = judged(
        f,
        params,
        rows,
        grad=lambda p, r: jax.tree.map(lambda g: 2 * g, jax.grad(f)(p, r)),
    )
    assert report.verdict == "rule"
    assert report.culprit == "the function passed as grad="
    assert judged(f, params, rows, grad=jax.grad(f)).ok


def test_ties_are_said_and_judged_from_both_sides():
    x = np.array([0.0, 0.0, 1.0], np.float32)
    report = judged(lambda x: jax.nn.relu(x).sum(), x)
    assert report.ok, str(report)
    assert any("exactly tied" in note for note in report.notes)
    report = judged(lambda x: jnp.where(x == 0, x, 2 * x).sum(), x)
    assert report.verdict == "kink", str(report)
    assert "`eq`" in report.culprit


def test_equal_numbers_are_no_tie():
    def f(x):
        return jnp.maximum(x, x + 0).sum() + jnp.where(x == x, x, 0).sum()

    report = judged(f, np.ones(3, np.float32))
    assert not any("tied" in note for note in report.notes)


def test_poles_are_said():
    report = judged(
        lambda x: jnp.where(x > 0, jnp.sqrt(x), 0).sum(),
        np.array([0.0, 1.0], np.float32),
    )
    assert report.verdict == "pole"
    assert "makes a NaN" in report.culprit


def test_masks_of_infinities():
    mask = np.tril(np.ones((4, 4), bool))

    def f(x):
        return jax.nn.softmax(jnp.where(mask, x @ x.T, -jnp.inf)) @ x

    report = judged(f, np.random.RandomState(0).rand(4, 3).astype(np.float32))
    assert report.ok, str(report)


@pytest.mark.exhaustive
def test_a_right_rule_that_no_model_has_is_a_lemma_where_it_is_right():
    """asin(sin x) is x between -pi/2 and pi/2, which no model of functions knows."""

    @jax.custom_jvp
    def f(x):
        return jnp.arcsin(jnp.sin(x))

    f.defjvp(lambda p, t: (f(*p), t[0]))
    x = np.linspace(-0.5, 0.5, 5, dtype=np.float32)
    report = judged(f, x)
    assert report.ok, str(report)
    assert "read as a lemma: custom_jvp `f`" in report.notes[0]
    assert judged(f, x + np.float32(2)).verdict == "rule"
    # What is given as grad= is no equation of f, so that no lemma helps it.
    weights = trace(f, (x,)).cotangents[0]
    report = judged(f, x, grad=lambda x: jnp.asarray(weights))
    assert report.verdict == "uncovered"
    assert "neither wrong nor proven" in report.notes[0]
    assert judged(f, x, grad=lambda x: jnp.asarray(2 * weights)).verdict == "rule"


@pytest.mark.exhaustive
def test_a_scan_of_many_steps():
    def f(w, xs):
        def step(h, x):
            gates = jnp.concatenate([h, x]) @ w
            return jnp.tanh(gates[:4]) * jax.nn.sigmoid(gates[4:]), None

        return lax.scan(step, jnp.zeros(4), xs)[0].sum()

    draw = np.random.RandomState(0)
    args = draw.randn(7, 8), draw.randn(100, 3)
    report = judged(f, *(a.astype(np.float32) for a in args))
    assert report.ok, str(report)


def test_what_is_too_large_for_fields_is_refused():
    x = np.ones((2000, 2000), np.float32)
    with pytest.raises(ValueError, match="even in finite fields"):
        assert_gradients(lambda x: jnp.tanh(x @ x).sum(), x, seconds=1)
    assert size.estimate_in_fields(*[jax.make_jaxpr(jnp.tanh)(x)] * 2)[0] < 1


def test_sums_of_more_terms_than_a_product_of_residues_holds():
    """Beyond 2^11 terms one factor is split in two."""
    draw = np.random.RandomState(0)
    w, x = (draw.randn(*s).astype(np.float32) for s in ((4, 5000), (5000, 2)))
    for models in (identity.MODELS[:1], identity.MODELS[1:2]):
        assert proved(lambda w: jnp.tanh(w @ x), w, models=models).model
        wrong = proved(
            lambda w: jnp.tanh(w @ x), w, models=models, cotangents=np.ones((4, 2)),
            grad=lambda w: 1.0001 * jax.grad(lambda w: jnp.tanh(w @ x).sum())(w),
        )  # fmt: skip
        assert wrong.model is None


def test_beside_a_wrong_rule_stands_the_right_gradient():
    @jax.custom_vjp
    def tanh(x):
        return jnp.tanh(x)

    tanh.defvjp(
        lambda x: (jnp.tanh(x), x),
        lambda x, g: (jnp.where(x > 0, 3, 1) * g * (1 - jnp.tanh(x) ** 2),),
    )
    x = jnp.linspace(-1, 1, 64, dtype=jnp.float32)
    (leaf,) = judged(lambda x: tanh(x).sum(), x).leaves
    right = 1 - np.tanh(np.float64(x)) ** 2
    assert leaf.verdict == "rule"
    assert leaf.worst == (32,)  # the first above 0 has the largest slope
    assert np.isclose(
        float(leaf.truth), right[32], rtol=1e-14
    )  # float64's own rounding
    # tanh of 0.016 is off by ulps of 2e-9, and so is what is left of 1.
    assert np.isclose(float(leaf.value), 3 * right[32], rtol=1e-6)
