"""x @ w, in the form that is fastest for its shapes and its platform."""

import jax
import jax.numpy as jnp
from jax import lax

# From so many multiply-adds on XLA hands the sum to a library, and with more weights
# than this reading them is the work: a dot wins in both cases.
_MULTIPLY_ADDS_OF_A_DOT = 4096
_MOST_WEIGHTS = 1024


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """Return x @ w for `x` (..., in) and `w` (in, out).

    On a CPU a small product is written as multiply, then sum: XLA fuses that with its
    neighbours, where a dot stays a call of its own. Shapes decide at trace time, and
    the platform when the program is compiled for it.
    """
    multiply_adds = x.size * w.shape[-1]
    is_small = multiply_adds < _MULTIPLY_ADDS_OF_A_DOT and w.size <= _MOST_WEIGHTS
    # Narrower floats would be rounded before they are summed; a dot sums them wider.
    if not is_small or jnp.finfo(x.dtype).bits < 32:
        return x @ w
    return lax.platform_dependent(x, w, cpu=_multiply_then_sum, default=jnp.matmul)


def _multiply_then_sum(x: jax.Array, w: jax.Array) -> jax.Array:
    return (x[..., :, None] * w).sum(-2)
