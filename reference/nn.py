"""Neuron, layer and MLP over scalars, after micrograd's `nn.py`.

A neuron is activation(w1 x1 + ... + wn xn + b); a layer is several neurons on the same
inputs; an MLP is layers in a row. Where micrograd says `nonlin=False`, this says
`activation="linear"`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from .engine import Value

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "linear": lambda x: x,
    "relu": Value.relu,
    "sigmoid": Value.sigmoid,
    "tanh": Value.tanh,
}


class Module:
    """Something with parameters."""

    def parameters(self) -> list[Value]:
        return []

    def zero_grad(self) -> None:
        """Set every gradient to 0; forget it, and the next `backward` adds on top."""
        for p in self.parameters():
            p.grad = 0


class Neuron(Module):
    """activation(w1 x1 + ... + wn xn + b), with w uniform in (-1, 1) and b = 0.

    `rng` draws the weights; without it they come from Python's global generator, so
    that `random.seed(...)` governs them as in micrograd.
    """

    def __init__(
        self, n_in: int, activation: str = "tanh", *, rng: random.Random | None = None
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, "
                f"got {activation!r}"
            )
        uniform = random.uniform if rng is None else rng.uniform
        self.w = [Value(uniform(-1, 1)) for _ in range(n_in)]
        self.b = Value(0.0)
        self.activation = activation

    def __call__(self, x: Sequence[Any]) -> Value:
        if len(x) != len(self.w):
            raise ValueError(
                f"this neuron takes {len(self.w)} inputs, got {len(x)}: "
                f"pass one row of {len(self.w)} numbers"
            )
        total = sum((wi * xi for wi, xi in zip(self.w, x, strict=True)), self.b)
        return ACTIVATIONS[self.activation](total)

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        name = "ReLU" if self.activation == "relu" else self.activation.capitalize()
        return f"{name}Neuron({len(self.w)})"


class Layer(Module):
    """`n_out` neurons on the same `n_in` inputs; a single one gives a bare Value."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        activation: str = "tanh",
        *,
        rng: random.Random | None = None,
    ):
        self.neurons = [Neuron(n_in, activation, rng=rng) for _ in range(n_out)]

    def __call__(self, x: Sequence[Any]) -> Any:
        out = [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for neuron in self.neurons for p in neuron.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class MLP(Module):
    """Layers in a row: `MLP(3, [4, 4, 1])` takes 3 numbers and gives one.

    `final_activation=None` makes the last layer like the others; "linear" is for logits
    and regression. Activations: linear, relu, sigmoid, tanh.

    >>> model = MLP(2, [2, 1], rng=random.Random(0))
    >>> model
    MLP of [Layer of [TanhNeuron(2), TanhNeuron(2)], Layer of [TanhNeuron(2)]]
    >>> len(model.parameters())
    9
    """

    def __init__(
        self,
        n_in: int,
        n_outs: Sequence[int],
        activation: str = "tanh",
        final_activation: str | None = None,
        *,
        rng: random.Random | None = None,
    ):
        sizes = [n_in, *n_outs]
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(
                f"an MLP needs at least one input and one layer of at least one "
                f"neuron, got n_in={n_in} and n_outs={list(n_outs)}"
            )
        *hidden, last = pairwise(sizes)
        final = activation if final_activation is None else final_activation
        self.layers = [Layer(*size, activation, rng=rng) for size in hidden]
        self.layers.append(Layer(*last, final, rng=rng))

    def __call__(self, x: Sequence[Any]) -> Any:
        for layer in self.layers:
            x = layer([x] if isinstance(x, Value) else x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    @classmethod
    def from_params(
        cls,
        params: Sequence[tuple[Any, Any]],
        activation: str = "tanh",
        final_activation: str | None = None,
        *,
        number: Callable[[Any], Any] = float,
    ) -> MLP:
        """Build an MLP from funcgrad's params as nested lists: (w, b) for each layer.

        `w` has one row for each input and one column for each neuron, `b` one entry
        for each neuron. `number` is what the Values shall hold: `float`, `Fraction` or
        `Ball`. `jax.tree.map(lambda a: a.tolist(), params)` makes the lists.
        """
        if not params:
            raise ValueError("an MLP needs (w, b) for at least one layer, got none")
        sizes = [len(params[0][0]), *(len(b) for _, b in params)]
        for i, ((w, _), (n_in, n_out)) in enumerate(
            zip(params, pairwise(sizes), strict=True)
        ):
            if len(w) != n_in or any(len(row) != n_out for row in w):
                raise ValueError(
                    f"layer {i} needs w of shape ({n_in}, {n_out}), one row for each "
                    f"input and one column for each entry of b, got {len(w)} rows of "
                    f"{sorted({len(row) for row in w})}"
                )
        model = cls(
            sizes[0], sizes[1:], activation, final_activation, rng=random.Random(0)
        )
        for layer, (w, b) in zip(model.layers, params, strict=True):
            for j, neuron in enumerate(layer.neurons):
                neuron.w = [Value(number(row[j])) for row in w]
                neuron.b = Value(number(b[j]))
        return model

    def to_params(self, attribute: str = "data") -> list[tuple[list[Any], list[Any]]]:
        """Return (w, b) for each layer as nested lists, in funcgrad's layout.

        `attribute="grad"` gives the gradients in the same layout.
        """
        return [
            (
                [
                    [getattr(neuron.w[i], attribute) for neuron in layer.neurons]
                    for i in range(len(layer.neurons[0].w))
                ],
                [getattr(neuron.b, attribute) for neuron in layer.neurons],
            )
            for layer in self.layers
        ]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"
