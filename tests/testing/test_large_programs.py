"""Programs as they are trained pass by identity; fused parts with mistakes do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fused_rules import MISTAKES, flash_attention, transformer
from large_programs import LIBRARIES, PROGRAMS, mlp
from model_mutants import largest_difference

from funcgrad.testing import at_size, identity, verdict
from funcgrad.testing.program import trace


def judged(f, *args, **options):
    return at_size.judge(trace(f, args, **options), given="grad" in options)


def in_brief(names, *brief):
    """Mark all but a few as exhaustive."""
    return [
        pytest.param(n, marks=() if n in brief else pytest.mark.exhaustive)
        for n in names
    ]


SIZES = {"lstm": {"steps": 200}}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", in_brief(PROGRAMS, "lstm", "adam_step"))
def test_a_program_as_it_is_trained_passes(name):
    f, args = PROGRAMS[name](**SIZES.get(name, {}))
    report = judged(f, *args)
    assert report.ok, str(report)
    assert report.notes == ()
    assert all(np.isfinite(leaf.bound) for leaf in report.leaves)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", in_brief(LIBRARIES, "equinox"))
def test_a_net_of_another_library_passes_as_it_comes(name):
    pytest.importorskip(name, reason=f"{name} is not installed")
    f, args = LIBRARIES[name]()
    report = judged(f, *args)
    assert report.ok, str(report)


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", [verdict, at_size])
def test_a_transformer_whose_parts_are_fused_by_hand_passes(method):
    f, args = transformer()
    report = method.judge(trace(f, args), given=False)
    assert report.ok, str(report)
    assert report.notes == ()


# One in three of the mistakes, of every part some; all of them were seen to be named.
ALL = [(part, mistake) for part, names in MISTAKES.items() for mistake in names]
BRIEF = (("layer_norm", "no epsilon"),)
TRIED = [*BRIEF, *(x for x in ALL[::3] if x not in BRIEF)]


@pytest.mark.parametrize(
    ("part", "mistake"),
    [
        pytest.param(*x, marks=() if x in BRIEF else pytest.mark.exhaustive)
        for x in TRIED
    ],
)
def test_a_mistake_in_a_fused_part_is_named(part, mistake):
    f, args = transformer(part, mistake)
    report = judged(f, *args)
    assert report.verdict == "rule", str(report)
    assert "custom_vjp `fused`" in report.culprit


@pytest.mark.exhaustive
def test_every_mistake_is_one():
    """Float64 tells each apart from the right gradient."""
    assert len(ALL) >= 20
    with jax.enable_x64(True):
        f, args = transformer()
        right = jax.tree.leaves(jax.grad(f)(*args))
        for part, mistake in ALL:
            wrong, _ = transformer(part, mistake)
            made = jax.tree.leaves(jax.grad(wrong)(*args))
            assert largest_difference(right, made) > 1e-6, (part, mistake)


@pytest.mark.exhaustive
def test_a_small_prime_misses_a_wrong_net_as_often_as_one_in_p(monkeypatch):
    """Each draw is a trial with chance 1 / p; four standard errors either way.

    Of two labels the slopes add up to 0, so that a draw would miss as often as 2 in p.
    """
    f, args = mlp(rows=2, width=3, labels=5)

    def wrong(*args):
        *same, last = jax.grad(f)(*args)
        return [*same, last._replace(b=2 * last.b)]

    p, n = 103, 800
    program = trace(f, args, grad=wrong)
    monkeypatch.setattr(identity, "draw_prime", lambda *a, **b: p)
    decided = identity.decide(program)
    draw = identity.draws(program, decided, identity.MODELS[0], {})
    missed = sum(draw() for _ in range(n))
    assert abs(missed - n / p) < 4 * np.sqrt(n / p)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_overflow_of_the_float_type_is_a_pole(dtype):
    def f(x):
        y = jnp.exp(x)
        return (y * y).sum()

    size = np.log(float(jnp.finfo(dtype).max))
    report = judged(f, jnp.array([1.0, 0.75 * size], dtype))
    assert report.verdict == "pole", str(report)
    assert "leaves the range of its float type" in report.culprit
    assert judged(f, jnp.array([1.0, 0.25 * size], dtype)).ok


@pytest.mark.exhaustive
def test_a_net_through_flash_attention_needs_its_maxima_held():
    """That they change nothing holds for the sums that they shift, not for cut ones."""
    draw = np.random.RandomState(0)
    q, k, v = (jnp.asarray(draw.randn(2, 8, 4)) for _ in range(3))
    program = trace(flash_attention(), (q, k, v), (0, 1, 2))
    found = identity.test(program, identity.decide(program))
    assert found.model is identity.MODELS[4]
    program = trace(flash_attention("no sum of o g"), (q, k, v), (0, 1, 2))
    assert identity.test(program, identity.decide(program)).model is None
