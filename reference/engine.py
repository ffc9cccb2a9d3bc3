"""A scalar that remembers how it was made, so that the chain rule can run backward.

After Karpathy's micrograd. Each operation returns its result together with the local
gradients d(result)/d(child); one loop in `Value.backward` applies the chain rule.
"""

from __future__ import annotations

from typing import Any

from . import numbers


class Value:
    """A number, the gradient of some output with respect to it, and its children.

    `data` is a float (an int will do), a `fractions.Fraction` or a
    `reference.numbers.Ball`; `grad` is d(output)/d(self) once `output.backward()` ran.
    `label` is for people. `reference.drawing.draw(value)` shows the whole graph.

    `<`, `<=`, `>` and `>=` compare data. `==` stays identity, so that a Value can be
    an element of a set and a key of a dict.

    >>> w, x = Value(1.0), Value(2.0)
    >>> loss = (w * x - 6) ** 2
    >>> loss.backward()
    >>> loss.data, w.grad
    (16.0, -16.0)
    """

    __slots__ = ("__weakref__", "_local_grads", "_op", "_prev", "data", "grad", "label")

    def __init__(
        self,
        data: Any,
        _children: tuple[Value, ...] = (),
        _op: str = "",
        _local_grads: tuple[Any, ...] = (),
        *,
        label: str = "",
    ):
        if type(data) is not float and not _children:
            data = numbers.number(data)
        self.data = data
        self.grad: Any = 0
        self.label = label
        self._prev = _children
        self._op = _op
        self._local_grads = _local_grads

    def __add__(self, other: Any) -> Value:
        other, a, b = _operands(self, other)
        return Value(a + b, (self, other), "+", (1, 1))

    def __sub__(self, other: Any) -> Value:
        other, a, b = _operands(self, other)
        return Value(a - b, (self, other), "-", (1, -1))

    def __mul__(self, other: Any) -> Value:
        other, a, b = _operands(self, other)
        return Value(a * b, (self, other), "*", (b, a))

    def __truediv__(self, other: Any) -> Value:
        other, a, b = _operands(self, other)
        quotient = a / b
        return Value(quotient, (self, other), "/", (1 / b, -quotient / b))

    def __pow__(self, exponent: Any) -> Value:
        """Return self ** exponent; a plain number is a constant, a Value a variable."""
        if isinstance(exponent, Value):
            return exponent.__rpow__(self)
        x, n = numbers.same_kind(self.data, numbers.number(exponent))
        out = numbers.power(x, n)
        try:
            slope = n * numbers.power(x, n - 1) if n != 0 else n
        except ZeroDivisionError as error:
            raise ZeroDivisionError(f"x ** {n} has no finite slope at x = 0") from error
        return Value(out, (self,), f"**{exponent}", (slope,))

    def __rpow__(self, base: Any) -> Value:
        base, n, x = _operands(self, base)
        if x <= 0:
            raise ValueError(
                f"{x} ** Value({n}) has no slope in its exponent: a variable exponent "
                f"needs a base above 0, a constant one is given as a plain number"
            )
        out = numbers.power(x, n)
        slope = n * numbers.power(x, n - 1)
        return Value(out, (base, self), "**", (slope, out * numbers.log(x)))

    def __neg__(self) -> Value:
        return Value(-self.data, (self,), "neg", (-1,))

    def __radd__(self, other: Any) -> Value:
        return Value(other) + self

    def __rsub__(self, other: Any) -> Value:
        return Value(other) - self

    def __rmul__(self, other: Any) -> Value:
        return Value(other) * self

    def __rtruediv__(self, other: Any) -> Value:
        return Value(other) / self

    def relu(self) -> Value:
        """Return max(0, self); the slope at 0 is 0."""
        out = type(self.data)(0) if self.data < 0 else self.data
        return Value(out, (self,), "relu", (int(self.data > 0),))

    def exp(self) -> Value:
        out = numbers.exp(self.data)
        return Value(out, (self,), "exp", (out,))

    def log(self) -> Value:
        return Value(numbers.log(self.data), (self,), "log", (1 / self.data,))

    def tanh(self) -> Value:
        out = numbers.tanh(self.data)
        return Value(out, (self,), "tanh", (1 - out * out,))

    def sigmoid(self) -> Value:
        out = numbers.sigmoid(self.data)
        return Value(out, (self,), "sigmoid", (out * numbers.sigmoid(-self.data),))

    def backward(self) -> None:
        """Add d(self)/d(leaf) to `grad` of every leaf, by the chain rule.

        Leaves accumulate over calls, so zero them between steps of training; inner
        nodes start from zero each time, so a second call adds each gradient once more.
        """
        nodes = self.graph()
        for node in nodes:
            if node._prev:
                node.grad = 0
        self.grad += 1
        for node in reversed(nodes):
            grad = node.grad
            for child, local_grad in zip(node._prev, node._local_grads, strict=True):
                child.grad += local_grad * grad

    def graph(self) -> list[Value]:
        """Return every node that `self` was made from, children first, `self` last.

        The order depends on nothing but the graph, and depth is bounded by memory
        alone: the walk keeps its own path from `self` down to where it is.
        """
        order: list[Value] = []
        seen = {self}
        path = [(self, iter(self._prev))]
        while path:
            node, children = path[-1]
            for child in children:
                if child not in seen:
                    seen.add(child)
                    path.append((child, iter(child._prev)))
                    break
            else:
                order.append(node)
                path.pop()
        return order

    def __lt__(self, other: Any) -> bool:
        return self.data < _data(other)

    def __le__(self, other: Any) -> bool:
        return self.data <= _data(other)

    def __gt__(self, other: Any) -> bool:
        return self.data > _data(other)

    def __ge__(self, other: Any) -> bool:
        return self.data >= _data(other)

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data}, grad={self.grad}{label})"


def _operands(value: Value, other: Any) -> tuple[Value, Any, Any]:
    """Return `other` as a Value, and the data of both in one kind of number."""
    if not isinstance(other, Value):
        other = Value(other)
    a, b = value.data, other.data
    if type(a) is not type(b):
        a, b = numbers.same_kind(a, b)
    return other, a, b


def _data(x: Any) -> Any:
    return x.data if isinstance(x, Value) else x
