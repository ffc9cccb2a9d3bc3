"""What XLA has to be told, a compilation at a time; nobody's XLA_FLAGS are touched."""

from functools import lru_cache

import jax


@lru_cache
def compiler_options(platform: str) -> dict[str, str] | None:
    """Return the options for `jax.jit(..., compiler_options=)` on this platform.

    JAX 0.12 hands sums of 4,096 numbers and more to YNNPACK on a CPU, and a group's
    multiply-then-sum is one: it would take ten times as long. A version without the
    option refuses it by name.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if platform != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=options).lower().compile()
    except Exception as error:
        if "No such compile option" not in str(error):
            raise
        return None
    return options
