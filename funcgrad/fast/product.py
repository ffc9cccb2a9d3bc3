"""x @ w, in the form that is fastest for its shapes and its platform.

A small product is an operation of its own in the program, `product`, which becomes
loops where it is compiled for a CPU, and a dot anywhere else. Its derivatives are
products too, which take the form that suits their own shapes, forward and backward and
at any order.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching, mlir

from funcgrad.arguments import Array
from funcgrad.jaxprs import inner_programs, opened

# Layers with at most so many neurons on either side become loops, if there are fewer
# multiply-adds than this; beyond, calling a dot pays.
_WIDEST_OF_A_LOOP = 32
_MULTIPLY_ADDS_OF_A_DOT = 65536
# A dot of operands up to these sizes is faster if neither is transposed, unless its
# result has next to no columns.
_MOST_ROWS, _MOST_INPUTS, _FEWEST_COLUMNS = 64, 4096, 8
# A sum is better than a loop up to so many multiply-adds, and up to so many where there
# are few rows and terms; from there on XLA hands it to a library, ten times as slow.
_MULTIPLY_ADDS_OF_A_LOOP, _MULTIPLY_ADDS_OF_A_LIBRARY = 1025, 4096
_FEW_ROWS, _FEW_TERMS = 3, 32
# Numbers in a vector register, of 32 bits and 512 bits.
_LANES = 16
# Before that version, a loop within a loop is not compiled into one kernel with it.
_HAS_LOOPS = jax.__version_info__ >= (0, 11)


def product(x: jax.Array, w: Array) -> jax.Array:
    """Return x @ w for `x` (..., in) and `w` (in, out).

    Shapes decide on the form where it is traced, and the platform where the program is
    compiled.
    """
    *outer, n_in = x.shape
    rows, n_out = math.prod(outer), w.shape[1]
    is_narrow = max(n_in, n_out) <= _WIDEST_OF_A_LOOP
    in_loops = is_narrow and rows * w.size < _MULTIPLY_ADDS_OF_A_DOT
    is_small = rows <= _MOST_ROWS and x.size <= _MOST_INPUTS
    # Narrower floats would be rounded before they are summed; a dot sums them wider.
    is_wide = x.dtype == w.dtype and jnp.finfo(x.dtype).bits >= 32
    # Over a mesh the compiler cuts a dot into those of the devices, but no loop.
    is_alone = jax.sharding.get_abstract_mesh().empty and not (
        _is_over_devices(x) or _is_over_devices(w)
    )
    if not ((in_loops or is_small) and is_wide and is_alone):
        return x @ w
    x = x.reshape(rows, n_in)
    if not _HAS_LOOPS and x.size * n_out < _MULTIPLY_ADDS_OF_A_LIBRARY:
        # Where all is sums, those that JAX derives from this one are faster.
        out = _mapped(x, w)
    else:
        out = product_p.bind(x, w, in_loops=in_loops)
    return out.reshape(*outer, n_out)


def _is_over_devices(x: Array) -> bool:
    return jax.typeof(x).sharding.mesh.size > 1


def has_loops(program: Any) -> bool:
    """Tell whether a product in a jaxpr becomes a loop on a CPU."""
    jaxpr, _ = opened(program)
    return _HAS_LOOPS and any(
        eqn.params.get("in_loops", False) or any(map(has_loops, inner_programs(eqn)))
        for eqn in jaxpr.eqns
    )


# The class is public in jax.extend, whose import takes longer than all of funcgrad's.
product_p = type(lax.mul_p)("product")
product_p.def_impl(lambda a, b, in_loops: a @ b)
product_p.def_abstract_eval(
    lambda a, b, in_loops: a.update(shape=(a.shape[0], b.shape[1]))
)
ad.defbilinear(
    product_p,
    lambda ct, a, b, in_loops: product_p.bind(ct, b.T, in_loops=in_loops),
    lambda ct, a, b, in_loops: product_p.bind(a.T, ct, in_loops=in_loops),
)


def _on_a_cpu(a: jax.Array, b: jax.Array, in_loops: bool) -> jax.Array:
    (rows, inner), columns = a.shape, b.shape[1]
    has_few = rows <= _FEW_ROWS and inner <= _FEW_TERMS
    in_loops = in_loops and _HAS_LOOPS
    pays_early = in_loops and not has_few
    most = _MULTIPLY_ADDS_OF_A_LOOP if pays_early else _MULTIPLY_ADDS_OF_A_LIBRARY
    if rows * inner * columns < most:
        return multiply_then_sum(a, b)
    if not in_loops:
        return _dot_along(a, b)
    # The longer axis goes last, where vectors lie along it.
    return _loop(b.T, a.T).T if rows > columns else _loop(a, b)


def _dot_along(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a @ b, with `a` as an array of its own even if it is another's transpose.

    So is the input's in the gradient of the weights. A dot that reads it across takes
    up to twice as long as making it and one that reads it along.
    """
    is_small = a.shape[1] <= _MOST_ROWS and a.size <= _MOST_INPUTS
    if is_small and b.shape[1] >= _FEWEST_COLUMNS:
        a = lax.optimization_barrier(a)
    return a @ b


def multiply_then_sum(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return sum_k a[:, k] b[k] for `a` (m, k, ...) and `b` (k, n, ...)."""
    return (a[:, :, None] * b[None]).sum(1)


def _loop(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a @ b, of which each turn of a loop adds some terms."""
    (rows, inner), columns = a.shape, b.shape[1]
    # The more, the less often the sum is read and written; but not beyond what the
    # registers hold of one row of it.
    terms = min(inner, 8 if columns <= _LANES else 4)
    turns, rest = divmod(inner, terms)

    def add(start: Any, terms: int, total: jax.Array) -> jax.Array:
        left = lax.dynamic_slice_in_dim(a, start, terms, 1)
        right = lax.dynamic_slice_in_dim(b, start, terms, 0)
        # One by one, as a reduction would keep the loop from being vectorised.
        return total + sum(left[:, k, None] * right[k] for k in range(terms))

    total = jnp.zeros((rows, columns), a.dtype)
    if turns == 1:
        total = add(0, terms, total)
    else:
        total = lax.fori_loop(0, turns, lambda k, t: add(k * terms, terms, t), total)
    return add(turns * terms, rest, total) if rest else total


def _rule(f: Any) -> Any:
    return mlir.lower_fun(f, multiple_results=False)


mlir.register_lowering(product_p, _rule(lambda a, b, in_loops: a @ b))
mlir.register_lowering(product_p, _rule(_on_a_cpu), platform="cpu")


def _mapped(a: jax.Array, b: Array) -> jax.Array:
    """Return a @ b in forms that a vmap knows."""
    if a.size * b.shape[1] >= _MULTIPLY_ADDS_OF_A_LIBRARY:
        return a @ b
    return lax.platform_dependent(a, b, cpu=multiply_then_sum, default=jnp.matmul)


def _batched(arrays: Any, axes: Any, in_loops: bool) -> tuple[jax.Array, int]:
    return jax.vmap(_mapped, axes)(*arrays), 0


batching.primitive_batchers[product_p] = _batched
