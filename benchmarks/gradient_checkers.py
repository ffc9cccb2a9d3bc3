"""Who judges a gradient: the proof, and the finite differences of JAX and PyTorch.

Each is a function of f, the point x (any pytree), and further arguments of f, which are
not differentiated; it returns whether it accepts `jax.grad(f)`, and what it says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.test_util import check_grads

from funcgrad.testing import check_gradients


class Judged(NamedTuple):
    """What a checker made of a gradient; `accepted` is None where it was stopped."""

    accepted: bool | None
    said: str


Checker = Callable[..., Judged]


def first_words(error: Exception) -> str:
    return " ".join(str(error).split())[:60]


class StoppedError(Exception):
    """Raised when the seconds of a checker are over."""


def by_proof(f: Callable[..., Any], x: Any, *rest: Any) -> Judged:
    report = check_gradients(f, x, *rest)
    culprit = report.culprit.split(" at ")[0].split("\n")[0]
    return Judged(report.ok, f"{report.verdict} {culprit or report.method}")


def by_check_grads(f: Callable[..., Any], x: Any, *rest: Any) -> Judged:
    try:
        check_grads(lambda x: f(x, *rest), (x,), order=1, modes=["rev"])
    except AssertionError as error:
        return Judged(False, first_words(error))
    return Judged(True, "")


def by_gradcheck(
    f: Callable[..., Any], x: Any, *rest: Any, fast: bool = False,
    seconds: float = math.inf,
) -> Judged:  # fmt: skip
    """Hand JAX's function and gradient to torch.autograd.gradcheck.

    It evaluates f twice for each element of x, one after another; with `fast`, twice
    for each leaf, at a random direction, and element by element where these disagree.
    """
    import torch
    from torch.autograd.gradcheck import GradcheckError

    leaves, tree = jax.tree.flatten(x)

    def flat(*leaves: Any) -> Any:
        return f(jax.tree.unflatten(tree, leaves), *rest)

    value, pull = jax.jit(flat), jax.jit(lambda x, g: jax.vjp(flat, *x)[1](g))
    end, evaluations = time.perf_counter() + seconds, 0

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *x: Any) -> Any:
            nonlocal evaluations
            if time.perf_counter() > end:
                raise StoppedError
            evaluations += 1
            ctx.save_for_backward(*x)
            return torch.from_numpy(np.array(value(*(t.detach().numpy() for t in x))))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            slopes = pull([t.numpy() for t in ctx.saved_tensors], g.numpy())
            return tuple(torch.from_numpy(np.array(slope)) for slope in slopes)

    point = tuple(torch.from_numpy(np.array(leaf)).requires_grad_() for leaf in leaves)
    try:
        torch.autograd.gradcheck(Wrapped.apply, point, fast_mode=fast)
    except StoppedError:
        done, size = evaluations // 2, sum(leaf.size for leaf in leaves)
        return Judged(
            None, f"stopped after {seconds:.0f} s at element {done:,} of {size:,}"
        )
    except GradcheckError as error:
        return Judged(False, first_words(error))
    return Judged(True, "")


by_fast_gradcheck = partial(by_gradcheck, fast=True)
