"""Gradient descent by hand, in both engines.

One neuron without an activation: prediction = w * x, loss = (w * x - y)^2. With w = 1,
x = 2, y = 6 and the rate 0.1, the loss is 16 and the gradient 2 (w x - y) x = -16, so w
becomes 1 + 0.1 * 16 = 2.6; the loss is then 0.64, and after w = 2.92 it is 0.0256. One
sees the same numbers twice: from the scalar engine, which
records a graph and walks it backward, and from JAX, which makes a function of the
gradient. What differs is the zeroing: a `Value` adds to its gradient, and forgetting to
set it back is the silent bug that beginners make; `jax.grad` returns a new one.

    python examples/worked_example.py
"""

import jax

from reference import Value

X, Y, RATE = 2.0, 6.0, 0.1


def by_values(steps):
    """Yield (loss, gradient, w after the update), one number at a time."""
    w = Value(1.0)
    for _ in range(steps):
        loss = (w * X - Y) ** 2
        w.grad = 0.0
        loss.backward()
        w.data -= RATE * w.grad
        yield loss.data, w.grad, w.data


def by_jax(steps):
    """Yield the same from `jax.value_and_grad`."""
    w = 1.0
    for _ in range(steps):
        loss, grad = jax.value_and_grad(lambda w: (w * X - Y) ** 2)(w)
        w = w - RATE * grad
        yield loss, grad, w


def main():
    for name, engine in {"reference.Value": by_values, "jax.grad": by_jax}.items():
        print(name)
        print("  w = 1")
        for loss, grad, w in engine(3):
            print(f"  loss {loss:.4g}, gradient {grad:.4g}: w = {w:.4g}")


if __name__ == "__main__":
    main()
