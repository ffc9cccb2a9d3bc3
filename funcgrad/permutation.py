"""An order of many numbers that is the same on every platform, without a sort."""

import jax
import jax.numpy as jnp
from jax import lax

# Each halves what an order still tells of the one before.
_ROUNDS = 24


def permutation(key: jax.Array, n: int, shuffled: jax.Array | None = None) -> jax.Array:
    """Return the numbers from 0 to n - 1 in an order drawn by `key`, int32 of (n,).

    Of them only the first `shuffled` change places, where that is given.

    The swap-or-not shuffle: in each of some rounds a number x and its partner
    (pivot - x) mod n change places or not, by a bit that a hash makes of the larger of
    the two. There is nothing to sort, and whole numbers alone take part, so that it is
    the same order on every platform. A number stays where it is in all rounds with a
    probability of 2^-24. Sources: Hoang, Morris and Rogaway 2012; the hash is the last
    step of Appleby's MurmurHash3, whose highest bit is the one that is looked at.
    """
    pivots, salts = jax.random.bits(key, (2, _ROUNDS), jnp.uint32)
    size = jnp.asarray(n if shuffled is None else shuffled, jnp.uint32)

    def one_round(
        x: jax.Array, drawn: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, None]:
        pivot, salt = drawn[0] % size, drawn[1]
        partner = jnp.where(x <= pivot, pivot - x, pivot + (size - x))
        h = jnp.maximum(x, partner) ^ salt
        h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
        h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
        changes = h >> 31 == 1
        if shuffled is not None:
            changes &= x < size
        return jnp.where(changes, partner, x), None

    order, _ = lax.scan(one_round, jnp.arange(n, dtype=jnp.uint32), (pivots, salts))
    return order.astype(jnp.int32)
