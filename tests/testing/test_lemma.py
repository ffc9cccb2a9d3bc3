"""Right rules with rounded constants are lemmas at size; wrong ones are named."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hand_rules import (
    draw,
    gelu_by_tanh,
    rms_norm,
    rms_norm_pull,
    standardized,
    standardized_pull,
    with_rule,
)
from jax import lax

from funcgrad.testing import at_size, identity
from funcgrad.testing.program import trace
from funcgrad.testing.smaller import smaller

SCALE = 0.7978845608


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(SCALE * (x + 0.044715 * x**3)))


def gelu_pull(args, g, factor=1.0, **constants):
    return (factor * g * gelu_by_tanh(*args, scale=SCALE, **constants),)


def layer_norm(x, gain):
    return gain * standardized(x)


def layer_norm_pull(args, g, factor=1.0, **wrong):
    x, gain = args
    return (
        factor * standardized_pull(x, g * gain, eps=1.0e-5, **wrong),
        (g * standardized(x)).sum(tuple(range(x.ndim - 1))),
    )


def softmax(x):
    return jax.nn.softmax(x / 0.7)


def softmax_pull(args, g, factor=1.0, centre=1):
    p = softmax(*args)
    slope = 1.42857143 * p * (g - centre * (g * p).sum(-1, keepdims=True))
    return (factor * slope,)


def rms_pull(args, g, factor=1.0, **wrong):
    to_x, to_gain = rms_norm_pull(args, g, third=1 / args[0].shape[-1], **wrong)
    return factor * to_x, to_gain


RULES = {
    "gelu": (gelu, gelu_pull, {"slope": 0.0}),
    "layer norm": (layer_norm, layer_norm_pull, {"middle": 0}),
    "softmax": (softmax, softmax_pull, {"centre": 0}),
    "rms norm": (rms_norm, rms_pull, {"eps": 1e-5}),
}
MISTAKES = {
    "sign": {"factor": -1},
    "factor 1 + 2^-20": {"factor": 1 + 2.0**-20},
    "missing term": None,  # the rule's own
}
SIZES = {"small": (3, 4), "large": (512, 128)}


def net(name, size, wrong, dtype="float32"):
    """Return a program around one rule, and its arguments."""
    f, pull, own = RULES[name]
    options = own if wrong == "missing term" else MISTAKES.get(wrong, {})
    ruled = with_rule(f, partial(pull, **options))
    rows, n = SIZES[size]
    x, w = draw(rows, n, dtype=dtype), draw(n, n, dtype=dtype, seed=1) / n**0.5
    gain = () if name in ("gelu", "softmax") else (1 + draw(n, dtype=dtype) / 4,)

    def loss(w, *gain):
        return (jnp.tanh(ruled(x @ w, *gain)) ** 2).sum()

    return loss, (w, *gain)


def judged(f, args):
    program = trace(f, args, tuple(range(len(args))))
    return at_size.judge(program, given=False)


@pytest.mark.parametrize(
    "size", ["small", pytest.param("large", marks=pytest.mark.exhaustive)]
)
@pytest.mark.parametrize("name", RULES)
def test_a_right_rule_with_rounded_constants_is_ok(name, size):
    report = judged(*net(name, size, "nothing"))
    assert report.ok, str(report)
    assert report.method == "identity"
    lemmas = [note for note in report.notes if "read as a lemma" in note]
    assert all("custom_vjp `by_hand`" in note for note in lemmas)
    # LayerNorm holds with any eps that is the same twice: a model of functions has it.
    assert bool(lemmas) == (name in ("gelu", "softmax")), report.notes
    # Float64, which sees a part of 10^-11, is less sure than fields are.
    assert report.miss == pytest.approx(1e-11 * len(lemmas), abs=2.0**-55)
    assert report.miss >= 2.0**-60
    odds = f"probability about 2^{np.log2(report.miss):.0f} (random-function model)"
    assert odds in str(report)


def test_each_time_that_fields_are_asked_may_miss():
    """Both times that the first model is asked it fails, and the second one holds."""
    f = with_rule(jnp.tanh, lambda args, g: (g / jnp.cosh(args[0]) ** 2,))
    program = trace(lambda x: f(x).sum(), (draw(5, dtype="float32"),))
    tested = identity.test(program, identity.decide(program))
    assert tested.model is identity.MODELS[1]
    assert tested.miss == 3 * 2.0**-60
    assert at_size.judge(program, given=False).miss == tested.miss


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrong", MISTAKES)
@pytest.mark.parametrize("name", RULES)
def test_a_wrong_rule_beside_is_named(name, wrong, size):
    report = judged(*net(name, size, wrong))
    assert report.verdict == "rule", str(report)
    assert "custom_vjp `by_hand`" in report.culprit


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_every_type_of_float_has_lemmas(dtype):
    with jax.enable_x64(dtype == "float64"):
        report = judged(*net("gelu", "small", "nothing", dtype))
        assert report.ok, str(report)
        report = judged(*net("gelu", "small", "sign", dtype))
    assert report.verdict == "rule", str(report)


@pytest.mark.exhaustive
@pytest.mark.parametrize("factor", [1.0, 1 + 2.0**-20])
def test_a_rule_is_opened_wherever_it_stands(factor):
    """In a loop, a branch, a checkpoint, and beside JAX's own rules."""
    ruled = with_rule(gelu, partial(gelu_pull, factor=factor))

    def f(w, x):
        def step(h, w):
            h = jax.checkpoint(lambda h: ruled(h @ w))(h)
            return lax.cond(h.sum() > 9, jnp.sin, ruled, h), jax.nn.gelu(h, False).sum()

        h, sums = lax.scan(step, x, w)
        return h.sum() + jax.jit(ruled)(sums).sum()

    w, x = draw(2, 3, 3, dtype="float32"), draw(2, 3, dtype="float32")
    report = judged(f, (w, x))
    assert report.verdict == ("ok" if factor == 1 else "rule"), str(report)
    assert "custom_vjp `by_hand`" in str(report)


def flat_softmax(factor):
    """All elements depend on all, so that none can be left out."""
    pull = partial(softmax_pull, factor=factor)
    x = draw(50_000, dtype="float32")
    return lambda x: (with_rule(softmax, pull)(x) ** 2).sum(), (x,)


def test_what_float64_alone_can_judge_is_never_wrong_by_rounded_constants():
    report = judged(*flat_softmax(1.0))
    assert report.verdict == "uncovered", str(report)
    assert "rounded constants explain" in report.notes[0]
    report = judged(*flat_softmax(1 + 2.0**-20))
    assert report.verdict == "rule", str(report)
    assert "custom_vjp `by_hand`" in report.culprit


@pytest.mark.exhaustive
def test_a_branch_that_few_rows_do_not_take():
    def pull(args, g):
        (right,) = gelu_pull(args, g)
        return (jnp.where(args[0] > 7, right * 1.001, right),)

    x = draw(*SIZES["large"], dtype="float32")
    f = with_rule(gelu, pull)
    assert judged(lambda x: f(x).sum(), (x,)).ok
    report = judged(lambda x: f(x).sum(), (x.at[100, 100].set(8.0),))
    assert report.verdict == "rule", str(report)


# A program with fewer rows ------------------------------------------------------------


def shortened(f, *args):
    few = smaller(trace(f, args, tuple(range(len(args)))), 2)
    return None if few is None else [x.shape for x in few.variables]


def test_axes_along_which_all_is_alike_are_shortened():
    q, k, v = (draw(3, 4, 5, 6, dtype="float32", seed=i) for i in range(3))

    def attention(q, k, v):
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k)
        return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores), v)

    assert shortened(attention, q, k, v) == [(2, 2, 2, 6), (2, 2, 5, 6), (2, 2, 5, 2)]
    x, gain = draw(4, 3, 5, dtype="float32"), draw(5, dtype="float32")
    assert shortened(layer_norm, x, gain) == [(2, 2, 5), (5,)]
    assert shortened(lambda x: gelu(x.reshape(12, 5)), x) == [(4, 3, 2)]
    assert shortened(lambda x, y: x @ y, x, draw(5, 7, dtype="float32")) == [
        (2, 2, 5),
        (5, 2),
    ]


@pytest.mark.exhaustive
def test_what_is_left_is_the_same_program():
    """Rows of the gradient are those of the whole, where none depends on another."""
    x, gain = draw(9, 3, 5, dtype="float32"), draw(5, dtype="float32")
    whole = trace(layer_norm, (x, gain), (0, 1))
    few = smaller(whole, 2)
    (made, _), (all_rows, _) = (
        jax.core.eval_jaxpr(p.gradient.jaxpr, p.gradient.consts, *p.variables)
        for p in (few, whole)
    )
    rows = np.ix_([0, 8], [0, 2], range(5))
    assert np.array_equal(few.variables[0], np.asarray(x)[rows])
    assert np.array_equal(few.cotangents[0], whole.cotangents[0][rows])
    # Sums of other shapes may be added up in another order: some units of rounding.
    assert np.asarray(made) == pytest.approx(np.asarray(all_rows)[rows], rel=1e-5)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.cumsum(x),
        lambda x: x - x.mean(),
        lambda x: x[::-1] * x,
        lambda x: x * jnp.arange(7.0),
        lambda x: x * np.linspace(1, 2, 7, dtype=np.float32),
        lambda x: jnp.sort(x),
        lambda x: x[1:] * x[:-1],
        lambda x: jnp.concatenate([x, x]),
    ],
)
def test_axes_along_which_places_differ_are_not(f):
    assert shortened(f, draw(7, dtype="float32")) is None
