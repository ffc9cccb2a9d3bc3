"""The bound by derivatives holds, is finite at depth, and misses no broken compiler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import funcgrad as fg
from funcgrad.testing import adjoint_bound, at_size, identity, in_floats, rounding
from funcgrad.testing.program import trace


def bounded(program, weights=None):
    """Return how far the compiled sum of each leaf is off, and its bound."""
    decided = identity.decide(program)
    recorded = adjoint_bound.record(program, decided)
    found = []
    for i, (value, exact) in enumerate(
        zip(program.values, decided.values, strict=True)
    ):
        signs = adjoint_bound.signs(exact.shape, i) if weights is None else weights
        alone = [signs if k == i else None for k in range(len(program.values))]
        off = abs(float((signs * (value.astype(np.float64) - exact)).sum()))
        found.append((off, adjoint_bound.bound(recorded, alone)))
    return found


def gpt(layers, dtype=jnp.float32):
    model = fg.gpt(11, context=8, width=16, layers=layers, heads=2)
    rows = np.random.RandomState(1).randint(0, 11, (3, 9))
    return fg.next_token(model), (model.init(jax.random.key(0), dtype), rows)


def test_a_product_has_the_bound_of_the_textbook():
    """The gradient of sum(x @ w) by x is a product of ones with w, of 5 terms each."""
    x, w = np.ones((3, 4), np.float32), np.arange(20, dtype=np.float32).reshape(4, 5)
    program = trace(lambda x: (x @ w).sum(), (x,))
    ((_, found),) = bounded(program, np.ones((3, 4)))
    u = 2.0**-24
    assert found.worst == pytest.approx(5 * u * 3 * w.sum())
    each = np.sqrt(5) * u * w.sum(1)  # the error of one element
    assert found.typical == pytest.approx(np.sqrt(3 * (each**2).sum()))
    assert "`dot_general`" in at_size.culprit.describe(found.place)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_bound_of_a_deep_net_is_finite_and_holds(dtype):
    f, args = gpt(4, dtype)
    pairs = bounded(trace(f, args))
    for off, found in pairs:
        assert 0 < off <= found.worst < np.inf
        assert found.typical < found.worst
    # One signed sum may be near 0 by chance; of all leaves some is not, so that a bound
    # too large by 1,000 fails here.
    assert max(off / found.typical for off, found in pairs) > 1 / 1000


@pytest.mark.exhaustive
def test_typical_errors_are_typical():
    """Of many sums with random signs few are off by more than the typical error."""
    f, args = gpt(1)
    pairs = bounded(trace(f, args))
    assert all(off < 10 * found.typical for off, found in pairs)


@pytest.mark.exhaustive
def test_what_the_bound_does_not_explain_is_the_compilers_fault():
    f, args = gpt(1)
    program = trace(f, args)
    assert at_size.judge(program, given=False).ok
    broken = [v.copy() for v in program.values]
    broken[0].flat[3] += 100 * np.abs(broken[0]).sum()
    report = at_size.judge(program._replace(values=broken), given=False)
    assert report.verdict == "compiler", str(report)
    assert report.leaves[0].verdict == "compiler"
    assert {leaf.verdict for leaf in report.leaves[1:]} == {"ok"}
    broken[0].flat[3] = np.nan
    report = at_size.judge(program._replace(values=broken), given=False)
    assert report.leaves[0].verdict == "compiler"


@pytest.mark.exhaustive
def test_a_single_wrong_element_does_not_hide_in_a_sum():
    """An element of middling size is off by 1 %, in each of the leaves in turn."""
    f, args = gpt(1)
    program = trace(f, args)
    for i, value in enumerate(program.values):
        k = int(np.argsort(np.abs(value), axis=None)[value.size // 2])
        broken = [v.copy() for v in program.values]
        broken[i].flat[k] *= 1.01
        report = at_size.judge(program._replace(values=broken), given=False)
        leaf = report.leaves[i]
        assert leaf.verdict == report.verdict == "compiler", str(report)
        assert leaf.worst == np.unravel_index(k, value.shape)
        assert leaf.ulps > leaf.bound


@pytest.mark.exhaustive
def test_an_unusual_element_within_its_bound_is_noted():
    f, args = gpt(1)
    program = trace(f, args)
    decided = identity.decide(program)
    recorded = adjoint_bound.record(program, decided)
    for i in (0, 3):
        k = int(np.argmax(np.abs(decided.values[i])))
        alone = rounding.of_element(recorded, i, k)
        broken = [v.copy() for v in program.values]
        broken[i].flat[k] += alone.worst / 2
        judged = program._replace(values=broken)
        found = rounding.of_leaves(judged, decided, recorded)[i]
        assert found.times > 10
        assert found.farthest == k
        report = at_size.judge(judged, given=False)
        assert report.ok, str(report)
        at = [int(n) for n in np.unravel_index(k, broken[i].shape)]
        assert any(f"rounding at {at} is" in note for note in report.notes)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_element_stands_out_of_right_gradients(dtype):
    """Ten times the usual is noted; what is seen is 1.4 times, in either type."""
    f, args = gpt(2, dtype)
    program = trace(f, args)
    decided = identity.decide(program)
    found = rounding.of_leaves(program, decided, adjoint_bound.record(program, decided))
    assert max(r.times for r in found) < 5
    # Else an error a thousand times too large would pass for usual.
    assert max(r.times for r in found) > 1 / 100
    assert [note for r in found for note in r.notes()] == []


@pytest.mark.exhaustive
def test_unusual_rounding_is_noted():
    f, args = gpt(1)
    program = trace(f, args)
    values = [v * np.float32(1 + 2.0**-17) for v in program.values]
    report = at_size.judge(program._replace(values=values), given=False)
    assert report.ok, str(report)
    assert any("times what is usual" in note for note in report.notes)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: lax.cumsum(x**2).prod(),
        lambda x: jnp.sort(x)[2:] @ jax.nn.softmax(x)[2:],
        lambda x: jnp.convolve(x, x[:3]).sum() ** 2,
        lambda x: (x.at[jnp.array([0, 0, 1])].add(x[:3]) ** 2).sum(),
        lambda x: lax.reduce_window(x, 0.0, lax.add, (2,), (1,), "SAME")[1] ** 3,
        lambda x: jnp.linalg.norm(x.astype(jnp.bfloat16)).astype(jnp.float32),
    ],
)
def test_our_own_derivative_agrees_with_jax(f):
    """Both are float64, so that some dozens of roundings are all that may differ."""
    with jax.enable_x64(True):
        program = trace(f, (np.random.RandomState(0).rand(6),))
        decided = identity.decide(program)
        (found,) = in_floats.truth(program, decided)
    assert found == pytest.approx(decided.values[0], rel=1e-12)
