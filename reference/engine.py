"""A scalar that remembers how it was made, so that the chain rule can run backward.

After Karpathy's micrograd. Each operation returns its result together with the local
gradients d(result)/d(child); one loop in `Value.backward` applies the chain rule.
"""

from __future__ import annotations

from typing import Any

from reference import numbers


class Value:
    """A number, the gradient of some output with respect to it, and its children.

    `data` is a float, a `fractions.Fraction` or a `reference.numbers.Ball`; `grad` is
    d(output)/d(self) once `output.backward()` ran. `label` is for people.

    `<`, `<=`, `>` and `>=` compare data. `==` stays identity, so that a Value can be
    an element of a set and a key of a dict.

    >>> w, x = Value(1.0), Value(2.0)
    >>> loss = (w * x - 6) ** 2
    >>> loss.backward()
    >>> loss.data, w.grad
    (16.0, -16.0)
    """

    __slots__ = ("data", "grad", "label", "_prev", "_local_grads", "_op", "__weakref__")

    def __init__(
        self,
        data: Any,
        _prev: tuple[Value, ...] = (),
        _op: str = "",
        _local_grads: tuple[Any, ...] = (),
        *,
        label: str = "",
    ):
        self.data = data
        self.grad: Any = 0
        self.label = label
        self._prev = _prev
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
        x, n = numbers.same_kind(self.data, exponent)
        slope = n * numbers.power(x, n - 1) if n != 0 else n
        return Value(numbers.power(x, n), (self,), f"**{exponent}", (slope,))

    def __rpow__(self, base: Any) -> Value:
        base, y, x = _operands(self, base)
        out = numbers.power(x, y)
        slope = y * numbers.power(x, y - 1) if y != 0 else y
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
        """Return 1 / (1 + e**-self), written so that no exponential overflows."""
        small = numbers.exp(-self.data if self.data > 0 else self.data)
        larger, smaller = 1 / (1 + small), small / (1 + small)
        out = larger if self.data > 0 else smaller
        return Value(out, (self,), "sigmoid", (larger * smaller,))

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
            for child, local_grad in zip(node._prev, node._local_grads, strict=True):
                child.grad += local_grad * node.grad

    def graph(self) -> list[Value]:
        """Return every node that `self` was made from, children first, `self` last.

        The order depends on nothing but the graph, and depth is bounded by memory
        alone: the traversal keeps its own stack.
        """
        order: list[Value] = []
        seen: set[Value] = set()
        stack = [(self, iter(self._prev))]
        seen.add(self)
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                order.append(node)
                stack.pop()
            elif child not in seen:
                seen.add(child)
                stack.append((child, iter(child._prev)))
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
