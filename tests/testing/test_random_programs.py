"""No false alarm on 160 random programs that JAX differentiates correctly.

Each example holds ten programs as ten outputs of one function, so that one compilation
serves ten; the cotangents keep their gradients apart, since no two share an argument.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jax import lax

from funcgrad.jaxprs import count
from funcgrad.testing import at_size, check_gradients
from funcgrad.testing.program import integer_weights, trace

PROGRAMS_PER_EXAMPLE, EXAMPLES, PARTS = 10, 1, 4


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@jax.custom_jvp
def softsign(x):
    return x / (1 + jnp.abs(x))


softsign.defjvp(
    lambda p, t: (softsign(*p), t[0] / (1 + jnp.abs(p[0])) ** 2),
)

# Functions of an array of any shape that give an array of the same shape.
SAME_SHAPE = {
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "custom_vjp": sine,
    "custom_jvp": softsign,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "logistic": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "square": lambda x: jnp.tanh(x) ** 2,
    "exp": lambda x: jnp.exp(jnp.tanh(x)),
    "log": lambda x: jnp.log(1 + x * x),
    "sqrt": lambda x: jnp.sqrt(1 + x * x),
    "divide": lambda x: x / (1 + x * x),
    "broadcast": lambda x: x - x.sum() / x.size,
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "cumsum": lambda x: jnp.cumsum(x, -1),
    "reverse": lambda x: x[..., ::-1] * x,
    "sort": lambda x: jnp.sort(x, -1),
    "where": lambda x: jnp.where(x > 0.1, jnp.sin(x), 2 * x),
    "maximum": lambda x: jnp.maximum(x, jnp.roll(x, 1, -1)),
    "roll and add": lambda x: x + 0.5 * jnp.roll(x, 1, -1),
    "gather": lambda x: jnp.take(x, np.arange(x.shape[-1]) - 1, axis=-1) * x,
    "scatter": lambda x: x.at[..., 0].add(x.sum(-1)),
    "scan": lambda x: lax.scan(lambda c, t: (jnp.tanh(c + t), c * t), x[0], x)[1],
    "cond": lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
    "remat": jax.checkpoint(lambda x: jnp.tanh(x) * x),
    "loop": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + c, x),
    "max": lambda x: x * x.max(),
    "norm": lambda x: x / jnp.sqrt((x * x).sum(-1, keepdims=True) + 1),
    "vmap": jax.vmap(lambda row: row * row.mean()),
    "grad": jax.grad(lambda x: (jnp.tanh(x) ** 2).sum()),
    "stop": lambda x: x * lax.stop_gradient(x),
    "lower": lambda x: jnp.tanh(x).astype(jnp.bfloat16).astype(x.dtype) * x,
}

SHAPES = [(1,), (3,), (2, 3), (4, 1), (2, 2, 2), (17,), (5, 5)]
LARGE = [(2000,), (40, 50)]
CHEAP = ["tanh", "relu", "square", "broadcast", "where", "divide", "sqrt", "max"]


# So wide that the sine of each and one function more make 100,000 numbers.
WIDE = [(60, 1000), (250, 240), (10, 60, 100), (3, 20_000)]


@st.composite
def programs(draw, wide=False):
    """Return (names, shape, is a product, is a sum, number): what makes a program."""
    large = not wide and draw(st.integers(0, 29)) == 0
    shape = draw(st.sampled_from(WIDE if wide else LARGE if large else SHAPES))
    pool = CHEAP if large else list(SAME_SHAPE)
    names = draw(
        st.lists(st.sampled_from(pool), min_size=1, max_size=2 if large else 5)
    )
    product = draw(st.booleans()) and not large
    return (
        tuple(names),
        shape,
        product,
        draw(st.booleans()) or large,
        draw(st.integers(0, 2**16)),
    )


USUAL = programs()


def build(program, dtype):
    names, shape, product, scalar, number = program
    draw = np.random.RandomState(number)
    # Distinct in every type.
    size = int(np.prod(shape))
    places = draw.permutation(size) + 0.75 - size / 2
    x = jnp.asarray(places.reshape(shape) * (4 / max(size, 16)), dtype)
    w = jnp.asarray(draw.standard_normal((shape[-1], 3)), dtype)

    def f(x, w):
        # Sines of different floats satisfy no equation by chance, so that no later
        # comparison is exactly tied but between equals. At ties JAX is truly wrong:
        # see test_a_tie_of_three_in_a_sort.
        x = jnp.sin(x)
        for name in names:
            x = SAME_SHAPE[name](x)
        if product:
            x = jnp.tanh(x @ w)
        return x.mean() if scalar else x

    return f, x, w


TYPES = ["float32", "float64", "bfloat16", "float16"]


def is_miscompiled(f, args):
    """Tell whether jit changes the gradient more than by rounding.

    Against the same gradient run op by op, it must be off by more than half of the
    digits of the type, which no bound that is merely too narrow is about.
    """

    def gradient(args):
        out, pull = jax.vjp(f, args)
        weights = integer_weights(jax.eval_shape(f, args))
        return pull(
            [jnp.asarray(g, y.dtype) for g, y in zip(weights, out, strict=True)]
        )

    pairs = zip(
        jax.tree.leaves(jax.jit(gradient)(args)),
        jax.tree.leaves(gradient(args)),
        strict=True,
    )
    return any(
        abs(a - b).max() > jnp.finfo(a.dtype).eps ** 0.5 * abs(b).max()
        for a, b in pairs
    )


def test_jax_0_9_2_compiles_a_gradient_wrong():
    """The proof caught this one among the random programs; op by op it is right."""
    if jax.__version__ != "0.9.2":
        pytest.skip("JAX 0.9.2 alone is known to compile this gradient wrong")
    names = ("sin", "broadcast", "maximum")
    with jax.enable_x64(True):
        f, x, w = build((names, (5, 5), True, True, 745), "float64")
        report = check_gradients(f, x, w)
        assert report.verdict == "compiler"
        assert "only when compiled together" in report.culprit
        assert is_miscompiled(lambda args: [f(*args)], (x, w))

        def right(x):
            return jnp.sin(x).sum()

        assert not is_miscompiled(lambda args: [right(*args)], (x,))


# Twenty of the programs are what runs without the exhaustive ones.
BRIEF = pytest.param("float32", 0, 2, id="brief")


@pytest.mark.parametrize(
    ("dtype", "part", "examples"),
    [
        BRIEF,
        *(
            pytest.param(dtype, part, EXAMPLES, marks=pytest.mark.exhaustive)
            for dtype in TYPES
            for part in range(PARTS)
        ),
    ],
)
def test_no_false_alarm(dtype, part, examples):
    def judge(batch, f, arguments):
        report = check_gradients(f, arguments)
        if report.verdict == "compiler" and jax.__version__ == "0.9.2":
            # A true alarm: see test_jax_0_9_2_compiles_a_gradient_wrong.
            assert is_miscompiled(f, arguments)
        else:
            assert report.ok, f"{dtype} {batch}\n{report}"

    # Seeded apart: otherwise hypothesis would draw the same programs for every part.
    on_batches(dtype, PARTS * TYPES.index(dtype) + part, examples, judge)


def on_batches(
    dtype, number, examples, judge, *, programs=USUAL, size=PROGRAMS_PER_EXAMPLE
):
    """Call judge(programs, f, arguments) for batches of programs drawn by a seed."""

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate],  # shrinking ten programs at once takes minutes
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(programs, min_size=size, max_size=size))
    def check(batch):
        built = [build(program, dtype) for program in batch]

        def all_of_them(arguments):
            return [f(x, w) for (f, _, _), (x, w) in zip(built, arguments, strict=True)]

        judge(batch, all_of_them, [(x, w) for _, x, w in built])

    with jax.enable_x64(dtype == "float64"):
        check()
    jax.clear_caches()  # executables that nothing needs any more


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_false_alarm_at_size(dtype):
    def judge(batch, f, arguments):
        for (x, w), names in zip(arguments, batch, strict=True):
            one, _, _ = build(names, dtype)
            assert count(jax.make_jaxpr(one)(x, w))[0] > 100_000, names
        report = at_size.judge(trace(f, (arguments,)), given=False)
        # That JAX 0.9.2 compiles some wrong is no matter of the rules.
        is_known = report.verdict == "compiler" and jax.__version__ == "0.9.2"
        assert report.ok or is_known, f"{dtype} {batch}\n{report}"

    number = 2000 + TYPES.index(dtype)
    on_batches(dtype, number, 1, judge, programs=programs(wide=True), size=5)


def test_at_least_160():
    assert PROGRAMS_PER_EXAMPLE * EXAMPLES * PARTS * len(TYPES) >= 160
