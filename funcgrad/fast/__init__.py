"""All that is there for speed alone.

With the plain forms instead, no result changes beyond rounding:

| file        | the plain form                                 |
|-------------|------------------------------------------------|
| `product`   | `x @ w`                                        |
| `kept`      | nothing: it returns what it is given           |
| `loop`      | `lax.fori_loop`, one step a turn               |
| `vmap_last` | `jax.vmap`                                     |
| `groups`    | one `jax.vmap` over all members                |
| `options`   | `jax.jit` without options for the compiler     |

`docs/speed.md` has what each of them gains, and how that was measured.
"""
