"""A gradient that is computed once, where XLA would compute it again for each use."""

import math
from typing import Any

import jax
from jax import lax

# On fewer rows there is next to nothing to compute again, and keeping it costs more.
_FEWEST_ROWS = 4
# Before that version it gains nothing.
_GAINS = jax.__version_info__ >= (0, 11)


def kept(z: jax.Array) -> jax.Array:
    """Return `z` of shape (..., out), whose gradient is kept once it is computed.

    XLA on a CPU fuses the gradient before an activation into all that it is used for,
    so that the gradient of the weights computes it once for each of them. A barrier
    that the gradient goes through on its way back, and the tangent on its way forward,
    makes it an array of its own. Other platforms fuse better without.
    """
    has_rows = math.prod(z.shape[:-1]) >= _FEWEST_ROWS
    return _kept(z) if has_rows and _GAINS else z


@jax.custom_jvp
def _kept(z: jax.Array) -> jax.Array:
    return z


@_kept.defjvp
def _kept_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> Any:
    (z,), (t,) = primals, tangents
    barrier = lax.optimization_barrier
    return z, lax.platform_dependent(t, cpu=barrier, default=lambda t: t)
