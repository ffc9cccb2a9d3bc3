"""What XLA has to be told, a compilation at a time; nobody's XLA_FLAGS are touched."""

from functools import lru_cache

import jax

# Vectors fill the whole register, where the machine has such.
_WIDTH: dict[str, str | int] = {"xla_cpu_prefer_vector_width": 512}
# JAX 0.12 hands sums of 4,096 numbers and more to a library, which takes ten times as
# long for a group's multiply-then-sum; a single net's sums gain by it.
_SUMS: dict[str, str | int] = {"xla_cpu_experimental_ynn_fusion_type": ""}


@lru_cache
def compiler_options(platform: str, *, is_group: bool) -> dict[str, str | int]:
    """Return the options for `jax.jit(..., compiler_options=)` on this platform.

    They differ for a group of members and for a single net. A version without an option
    refuses it by name, so each is tried alone.
    """
    if platform != "cpu":
        return {}
    options = _WIDTH | _SUMS if is_group else _WIDTH
    return {name: value for name, value in options.items() if _is_known(name, value)}


def _is_known(name: str, value: str | int) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except Exception as error:
        if "No such compile option" not in str(error):
            raise
        return False
    return True
