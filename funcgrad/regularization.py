"""What keeps a net from learning its rows by heart: weight decay, dropout.

The penalty on squares is a loss, `funcgrad.l2`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from funcgrad.arguments import check_key


def decay_mask(params: Any) -> Any:
    """Return True for each matrix (two axes or more), False for each bias and gain.

    It is what optax asks to know which parameters decay. Those of one net are meant: if
    members are stacked, each has an axis more.

    >>> import optax, funcgrad as fg
    >>> params = fg.mlp([2, 3]).init(jax.random.key(0))
    >>> decay_mask(params)
    (Layer(w=True, b=False),)
    >>> optimizer = optax.adamw(1e-3, weight_decay=0.01, mask=decay_mask)
    """
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) >= 2, params)


def dropout(key: jax.Array, x: ArrayLike, rate: float | jax.Array) -> jax.Array:
    """Return x * kept / (1 - rate), each entry kept with probability 1 - rate.

    `x` holds floats, of any shape; `rate` is from 0 to below 1, and 0 returns x
    exactly. The mean over keys is x. The key comes with the batch, so that a step stays
    a function of its batch; each step and each layer needs one of its own. Source:
    Srivastava et al. 2014.

    >>> import funcgrad as fg
    >>> def objective(params, batch):
    ...     x, target, key = batch
    ...     first, last = params
    ...     hidden = dropout(key, fg.layer(first, x), 0.5)
    ...     return fg.squared_error(fg.layer(last, hidden, fg.linear), target)
    """
    check_key("dropout", key)
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"dropout needs floats, got {x.dtype}: convert them, for example with "
            f".astype(jnp.float32)"
        )
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate < 1:
        raise ValueError(
            f"dropout needs a rate from 0 to below 1, got {rate}: it is the share of "
            f"entries that are set to 0"
        )
    # In float32 at least: a narrower one draws from too few numbers.
    share_kept = 1 - jnp.asarray(rate, jnp.result_type(float))
    is_kept = jax.random.bernoulli(key, share_kept, x.shape)
    return jnp.where(is_kept, x / share_kept.astype(x.dtype), 0)
