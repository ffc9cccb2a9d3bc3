"""Compare the gradient proof with finite differences, in one table.

For n numbers it prints how small a wrong factor in a custom_vjp each checker catches
(the smallest 1 + 2^-k), and how many of some right gradients it rejects. Run it with
`python benchmarks/gradient_checks.py`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from funcgrad.testing import check_gradients

SIZES = (1, 10, 100, 1000)

# Functions that JAX differentiates correctly, with points where that is not easy.
RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "tanh": (jnp.tanh, lambda x: x),
    "exp": (jnp.exp, lambda x: 5 + x),
    "log": (jnp.log, lambda x: abs(x) + 1e-3),
    "sqrt": (jnp.sqrt, lambda x: abs(x) + 1e-3),
    "cube": (lambda x: x**3, lambda x: 100 * x),
    "sin of 30 x": (lambda x: jnp.sin(30 * x), lambda x: x),
    "reciprocal": (lambda x: 1 / x, lambda x: abs(x) + 0.01),
    "softmax": (jax.nn.softmax, lambda x: 10 * x),
    "logsumexp": (jax.nn.logsumexp, lambda x: x),
    "norm": (lambda x: jnp.sqrt((x * x).sum()), lambda x: x),
    "mean": (jnp.mean, lambda x: x + 1000),
    "relu": (jax.nn.relu, lambda x: x),
}


def accepted_by_proof(f: Callable[..., Any], x: Any) -> bool:
    return check_gradients(f, x).ok


def accepted_by_check_grads(f: Callable[..., Any], x: Any) -> bool:
    try:
        check_grads(f, (x,), order=1, modes=["rev"])
    except AssertionError:
        return False
    return True


def accepted_by_gradcheck(f: Callable[..., Any], x: Any) -> bool:
    """Hand JAX's function and gradient to torch.autograd.gradcheck."""
    import torch

    value, pull = jax.jit(f), jax.jit(lambda x, g: jax.vjp(f, x)[1](g)[0])

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.from_numpy(np.array(value(x.detach().numpy())))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return torch.from_numpy(np.array(pull(x.numpy(), g.numpy())))

    point = torch.from_numpy(np.array(x)).requires_grad_()
    return bool(
        torch.autograd.gradcheck(Wrapped.apply, (point,), raise_exception=False)
    )


def with_factor(factor: float) -> Callable[..., Any]:
    """Return tanh with a derivative that is wrong by a factor."""

    @jax.custom_vjp
    def f(x: Any) -> Any:
        return jnp.tanh(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2) * factor,))
    return f


def smallest_caught(accepted: Callable[..., bool], x: Any) -> str:
    """Return the smallest wrong factor 1 + 2^-k that is caught, if 2 is."""
    for name, factor in (("sign", -1.0), ("zero", 0.0), ("twice", 2.0)):
        if accepted(with_factor(factor), x):
            return f"not even {name}"
    last = "2"
    for k in (*range(1, 12), 16, 20, 23, 30, 40, 50, 52):
        if float(np.asarray(1 + 2.0**-k, x.dtype)) == 1:
            break
        if accepted(with_factor(1 + 2.0**-k), x):
            return last
        last = f"1 + 2^-{k}"
    return last


def main() -> None:
    checkers = {
        "funcgrad.testing": accepted_by_proof,
        "jax check_grads": accepted_by_check_grads,
    }
    if importlib.util.find_spec("torch"):
        checkers["torch gradcheck"] = accepted_by_gradcheck
    print(f"{'checker':18} {'dtype':7} {'n':>5}  {'smallest factor caught':24} alarms")
    for name, accepted in checkers.items():
        for dtype in ("float32", "float64"):
            for n in SIZES:
                with jax.enable_x64(dtype == "float64"):
                    draw = np.random.RandomState(n)
                    x = jnp.asarray(draw.standard_normal(n), dtype)
                    caught = smallest_caught(accepted, x)
                    false = sum(
                        not accepted(f, point(x)) for f, point in RIGHT.values()
                    )
                alarms = f"{false} of {len(RIGHT)}"
                print(f"{name:18} {dtype} {n:5}  {caught:24} {alarms}", flush=True)
    if "torch gradcheck" not in checkers:
        print(f"{'torch gradcheck':18} absent: torch is not installed")


if __name__ == "__main__":
    main()
