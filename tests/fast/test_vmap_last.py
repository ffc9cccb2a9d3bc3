"""vmap with the members last gives what jax.vmap gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from funcgrad.fast.vmap_last import vmap_last

MEMBERS = 5


def scanned(x, shared):
    def body(carry, row):
        total, count = carry
        return (total + row * shared.sum(), count + 1), total.max()

    return lax.scan(body, (x[0], 0), jnp.stack([x[1], x[2]]))


def scanned_from_the_end(x, shared):
    """Let every row count twice as much as the one behind it, where order shows."""
    return lax.scan(
        lambda total, row: (2 * total + row, total), jnp.zeros(3), x + shared[:, :3],
        reverse=True,
    )  # fmt: skip


FUNCTIONS = {
    "broadcasting": lambda x, s: (x[:, :, None] * s[None]).sum(1) + s.sum() - 1,
    "reshape and transpose": lambda x, s: x.T.reshape(-1)[::-1] * 2,
    "a scalar predicate": lambda x, s: jnp.where(x.sum() > 0, x, s[:, :3].T),
    "no rule of its own": lambda x, s: (jnp.sort(x, axis=0), jnp.cumsum(x, 1), x @ s),
    "scan": scanned,
    "scan from the end": scanned_from_the_end,
    "scan of shared rows": lambda x, s: lax.scan(
        lambda total, row: (2 * total + row[:3], total.max()), x, s
    ),
    "while": lambda x, s: lax.fori_loop(0, 3, lambda i, y: y + x * i, x),
    "until": lambda x, s: lax.while_loop(
        lambda y: y.sum() < 9, lambda y: y + 1, abs(x)
    ),
    "own choice": lambda x, s: lax.cond(x[0, 0] > 0, lambda: x, lambda: -x),
    "shared choice": lambda x, s: lax.cond(s[0, 0] > 0, lambda: x, lambda: -x),
    "relu": lambda x, s: jax.nn.relu(x),
    "gradient": lambda x, s: jax.grad(lambda y: (jax.nn.relu(y @ s) ** 2).sum())(x),
    "nothing mapped": lambda x, s: s + 1,
    "dtypes": lambda x, s: (x > 0).astype(jnp.int32) + x.argmax(),
    "keys": lambda x, s: jax.random.randint(
        jax.random.fold_in(jax.random.key(0), x[0, 0].astype(jnp.int32)), (2,), 0, 9
    ),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_vmap_on_whole_numbers(name):
    f = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    xs = rng.integers(-3, 4, (MEMBERS, 3, 3)).astype(np.float32)
    shared = rng.integers(-3, 4, (3, 4)).astype(np.float32)
    if name in ("a scalar predicate", "shared choice"):
        shared[0, 0] = 1
    expected = jax.vmap(f, (0, None))(xs, shared)
    many = jax.jit(vmap_last(f, (True, False), MEMBERS))
    given = many(jnp.moveaxis(xs, 0, -1), shared)
    assert jax.tree.structure(given) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(given), jax.tree.leaves(expected), strict=True)
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert np.array_equal(np.moveaxis(np.asarray(one), -1, 0), other)


def test_members_really_lie_last():
    """Steps in a scan have no array whose first axis is that of the members."""

    def step(w, x):
        return lax.scan(lambda w, _: (one_step(w, x), None), w, length=3)[0]

    def one_step(w, x):
        def loss(w):
            return (jnp.tanh((x[:, :, None] * w).sum(1)) ** 2).sum()

        return w - jax.grad(loss)(w)

    many = 97  # no other axis is as long
    text = str(
        jax.make_jaxpr(vmap_last(step, (True, False), many))(
            jnp.ones((3, 2, many)), jnp.ones((4, 3))
        )
    )
    assert f",{many}]" in text
    assert f"[{many}," not in text
