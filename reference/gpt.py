"""A GPT over scalars, a token at a time, after Karpathy's microgpt.

The net is funcgrad's `gpt`, on a `Value` where that has an array: GPT-2 without biases
and dropout. A step takes one token, notes its keys and values, looks back at those of
the tokens before it, and gives a logit for each token that may come next.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .engine import Value
from .nn import Module

Row = list[Value]
Matrix = list[Row]
Past = list[tuple[Matrix, Matrix]]  # the keys and the values of each block
Norm = Callable[[Row, Row], Row]


def linear(x: Row, w: Matrix) -> Row:
    """Return x w: `w` has one row for each input, one column for each output."""
    return [_dot(x, column) for column in zip(*w, strict=True)]


def softmax(x: Row) -> Row:
    """Return exp(x_i) / sum_j exp(x_j).

    microgpt subtracts the largest x first, lest `exp` overflow. That changes neither
    value nor gradient, and here `exp` itself says so where an x is above 709.
    """
    exps = [xi.exp() for xi in x]
    total = _sum(exps)
    return [e / total for e in exps]


def layer_norm(gain: Row, x: Row) -> Row:
    """Return gain * (x - mean(x)) / sqrt(variance(x) + 1e-5)."""
    mean = _sum(x) / len(x)
    return rms_norm(gain, [xi - mean for xi in x])


def rms_norm(gain: Row, x: Row) -> Row:
    """Return gain * x / sqrt(mean(x**2) + 1e-5), as microgpt has it."""
    scale = (_dot(x, x) / len(x) + 1e-5) ** -0.5
    return [g * xi * scale for g, xi in zip(gain, x, strict=True)]


def gelu(x: Value) -> Value:
    """Return x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))), the form GPT-2 uses."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + inner.tanh())


def attend(query: Row, keys: Matrix, values: Matrix) -> Row:
    """Return sum_t softmax_t(query . keys[t] / sqrt(d)) values[t]: one head, d wide."""
    weights = softmax([_dot(query, key) / len(query) ** 0.5 for key in keys])
    return [_dot(weights, column) for column in zip(*values, strict=True)]


class Block(NamedTuple):
    """The parameters of a block, named and laid out as in funcgrad."""

    attention_norm: Row  # (width,)
    qkv: Matrix  # (width, 3 width): queries, keys and values side by side
    out: Matrix  # (width, width)
    feed_norm: Row  # (width,)
    up: Matrix  # (width, 4 width)
    down: Matrix  # (4 width, width)


class GPT(Module):
    """GPT-2's net on scalars; embedding and output share the rows of `tokens`.

    `norm` is `layer_norm` or `rms_norm`, `activation` is `gelu` or `Value.relu`, or any
    function like them. Weights are normal with GPT-2's standard deviation of 0.02, and
    0.02 / sqrt(2 layers) where a block adds to the stream; `rng` draws them, Python's
    global generator without it.

    >>> model = GPT(3, context=4, width=4, layers=1, heads=2, rng=random.Random(0))
    >>> len(model.parameters())
    232
    >>> for _ in range(80):
    ...     loss = model.loss([0, 1, 2, 0, 1])  # forward: one graph, one number on top
    ...     model.zero_grad()  # zero the gradients
    ...     loss.backward()  # backward
    ...     for p in model.parameters():  # update
    ...         p.data -= 0.5 * p.grad
    >>> loss.data < 0.1
    True
    """

    def __init__(
        self,
        vocab: int,
        *,
        context: int,
        width: int,
        layers: int,
        heads: int,
        activation: Callable[[Value], Value] = gelu,
        norm: Norm = layer_norm,
        rng: random.Random | None = None,
    ):
        if min(vocab, context, width, layers, heads) < 1 or width % heads:
            raise ValueError(
                f"a GPT needs a vocab, context, width, layers and heads of at least 1, "
                f"and heads that divide the width, got vocab={vocab}, "
                f"context={context}, width={width}, layers={layers}, heads={heads}"
            )
        gauss = random.gauss if rng is None else rng.gauss

        def matrix(rows: int, columns: int, std: float = 0.02) -> Matrix:
            return [[Value(gauss(0, std)) for _ in range(columns)] for _ in range(rows)]

        def gain() -> Row:
            return [Value(1.0) for _ in range(width)]

        small = 0.02 / math.sqrt(2 * layers)
        self.tokens = matrix(vocab, width)
        self.positions = matrix(context, width)
        self.blocks = tuple(
            Block(
                gain(),
                matrix(width, 3 * width),
                matrix(width, width, small),
                gain(),
                matrix(width, 4 * width),
                matrix(4 * width, width, small),
            )
            for _ in range(layers)
        )
        self.norm = gain()
        self.heads, self.activation, self.normalize = heads, activation, norm

    def start(self) -> Past:
        """Return the keys and values of no tokens: two empty lists for each block."""
        return [([], []) for _ in self.blocks]

    def step(self, past: Past, token: int) -> Row:
        """Return a logit for each next token; append keys and values to `past`."""
        position = len(past[0][0])
        if not 0 <= token < len(self.tokens):
            raise ValueError(
                f"a token must be 0 to {len(self.tokens) - 1}, got {token}"
            )
        if position == len(self.positions):
            raise ValueError(
                f"this GPT sees {position} tokens, got one more: begin again with the "
                f"last ones, or make it with a larger context"
            )
        x = _add(self.tokens[token], self.positions[position])
        for block, (keys, values) in zip(self.blocks, past, strict=True):
            seen = self.normalize(block.attention_norm, x)
            x = _add(
                x, linear(self._attention(seen, block.qkv, keys, values), block.out)
            )
            hidden = linear(self.normalize(block.feed_norm, x), block.up)
            x = _add(x, linear([self.activation(h) for h in hidden], block.down))
        x = self.normalize(self.norm, x)
        return [_dot(x, row) for row in self.tokens]

    def _attention(self, x: Row, qkv: Matrix, keys: Matrix, values: Matrix) -> Row:
        """Return the heads side by side, after a look at this token and all before."""
        width = len(x)
        projected = linear(x, qkv)
        query = projected[:width]
        keys.append(projected[width : 2 * width])
        values.append(projected[2 * width :])
        out: Row = []
        for start in range(0, width, width // self.heads):
            head = slice(start, start + width // self.heads)
            out += attend(
                query[head], [k[head] for k in keys], [v[head] for v in values]
            )
        return out

    def __call__(self, tokens: Sequence[int]) -> Matrix:
        """Return the logits after each of `tokens`, which are seen one at a time."""
        past = self.start()
        return [self.step(past, token) for token in tokens]

    def loss(self, tokens: Sequence[int]) -> Value:
        """Return the mean of -log softmax(logits)[next token], `tokens` but the first.

        A logit is given for one token less than there are, so `context` + 1 will do.
        """
        if len(tokens) < 2:
            raise ValueError(
                f"a loss needs two tokens, the second one to be foretold, got "
                f"{len(tokens)}"
            )
        logits = self(tokens[:-1])
        losses = [
            -softmax(row)[target].log()
            for row, target in zip(logits, tokens[1:], strict=True)
        ]
        return _sum(losses) / len(losses)

    def parameters(self) -> list[Value]:
        return _flat(self._params())

    @classmethod
    def from_params(
        cls,
        params: Sequence[Any],
        *,
        heads: int,
        activation: Callable[[Value], Value] = gelu,
        norm: Norm = layer_norm,
        number: Callable[[Any], Any] = float,
    ) -> GPT:
        """Build a GPT from funcgrad's params as nested lists.

        They are (tokens, positions, blocks, norm), and a block is as in `Block`.
        `number` is what the Values shall hold: `float`, `Fraction` or `Ball`.
        `jax.tree.map(lambda a: a.tolist(), params)` makes the lists.
        """
        if len(params) != 4:
            raise ValueError(
                f"a GPT needs params of four parts, (tokens, positions, blocks, norm), "
                f"got {len(params)}"
            )
        tokens, positions, blocks, _ = params
        model = cls(
            len(tokens),
            context=len(positions),
            width=len(tokens[0]),
            layers=len(blocks),
            heads=heads,
            activation=activation,
            norm=norm,
            rng=random.Random(0),
        )
        _fill(model._params(), params, number, "params")
        return model

    def to_params(self, attribute: str = "data") -> Any:
        """Return (tokens, positions, blocks, norm) as nested lists, funcgrad's layout.

        `attribute="grad"` gives the gradients in the same layout.
        """
        return _map(lambda p: getattr(p, attribute), self._params())

    def _params(self) -> tuple[Matrix, Matrix, tuple[Block, ...], Row]:
        return self.tokens, self.positions, self.blocks, self.norm

    def __repr__(self) -> str:
        return (
            f"GPT(vocab={len(self.tokens)}, context={len(self.positions)}, "
            f"width={len(self.norm)}, layers={len(self.blocks)}, heads={self.heads})"
        )


def _sum(values: Sequence[Value]) -> Value:
    return sum(values[1:], values[0])


def _dot(a: Sequence[Value], b: Sequence[Value]) -> Value:
    return _sum([ai * bi for ai, bi in zip(a, b, strict=True)])


def _add(a: Row, b: Row) -> Row:
    return [ai + bi for ai, bi in zip(a, b, strict=True)]


def _flat(nested: Any) -> list[Value]:
    if isinstance(nested, Value):
        return [nested]
    return [value for item in nested for value in _flat(item)]


def _map(function: Callable[[Value], Any], nested: Any) -> Any:
    if isinstance(nested, Value):
        return function(nested)
    items = [_map(function, item) for item in nested]
    return tuple(items) if isinstance(nested, tuple) else items


def _fill(values: Any, numbers: Any, number: Callable[[Any], Any], at: str) -> None:
    """Give every Value the number in its place."""
    if isinstance(values, Value):
        values.data = Value(number(numbers)).data
        return
    given = len(numbers) if hasattr(numbers, "__len__") else "one number"
    if len(values) != given:
        raise ValueError(
            f"{at} needs {len(values)} entries, by the widths of tokens and positions "
            f"and funcgrad's layout, got {given}"
        )
    for i, (value, item) in enumerate(zip(values, numbers, strict=True)):
        _fill(value, item, number, f"{at}[{i}]")
