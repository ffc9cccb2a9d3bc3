"""micrograd's own programs: the README's expression, cheat sheet, demo notebook.

`micrograd_demo_losses.txt` holds the loss of each of the 100 steps, printed by
micrograd 0.1.0 itself when it ran the demo notebook's loop (Python 3.11, float64).
"""

import random
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import make_moons

import funcgrad as fg
from reference import MLP


def readme_expression(a, b, relu):
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + relu(b + a)
    d += 3 * d + relu(b - a)
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g


def test_readme_numbers_from_jax_grad():
    def g(a, b):
        return readme_expression(a, b, jax.nn.relu)

    value, (a_grad, b_grad) = jax.value_and_grad(g, argnums=(0, 1))(-4.0, 2.0)
    assert f"{value:.4f} {a_grad:.4f} {b_grad:.4f}" == "24.7041 138.8338 645.5773"


def test_cheat_sheet_through_make_step():
    """From w = 1, x = 2, y = 6 and rate 0.1: loss 16, w 2.6, 0.64, 2.92, 0.0256.

    The rate 0.1 and so 2.6 are no floats; the fractions nearest to the float64 results
    with small denominators are the cheat sheet's numbers.
    """

    def loss(w, x):
        return (w * x - 6) ** 2

    with jax.enable_x64(True):
        assert jax.grad(loss)(1.0, 2.0) == -16
        optimizer = optax.sgd(0.1)
        step = fg.make_step(loss, optimizer)
        state = fg.init_state(1.0, optimizer)
        seen = []
        for _ in range(3):
            state, before = step(state, 2.0)
            seen += [before, state.params]
        seen = [Fraction(float(v)).limit_denominator(1000) for v in seen[:5]]
    assert seen == [
        16,
        Fraction(13, 5),
        Fraction(16, 25),
        Fraction(73, 25),
        Fraction(16, 625),
    ]


def demo():
    """Return the notebook's rows, signs and freshly drawn net."""
    state = np.random.get_state()
    np.random.seed(1337)
    x, y = make_moons(n_samples=100, noise=0.1)
    np.random.set_state(state)
    net = MLP(2, [16, 16, 1], "relu", "linear", rng=random.Random(1337))
    return x, y * 2 - 1, net


def rate(k):
    return 1.0 - 0.9 * k / 100


def demo_losses():
    text = Path(__file__).with_name("micrograd_demo_losses.txt").read_text()
    losses = [float(line) for line in text.split()]
    assert len(losses) == 100
    return losses


def in_float32(losses):
    """Round to float32: see "Correctly rounded to float32" in the README.

    The engines add in different orders, so the last bits of float64 differ; rounding to
    float32 takes 29 bits away, and leaves no tolerance to choose.
    """
    return np.asarray(losses, np.float64).astype(np.float32).tolist()


def demo_objective():
    model = fg.mlp([2, 16, 16, 1], activation=jax.nn.relu, final_activation=fg.linear)
    data_loss = fg.objective(model, fg.hinge)
    return model, lambda params, batch: data_loss(params, batch) + 1e-4 * fg.l2(params)


def test_demo_notebook_in_float64():
    x, signs, net = demo()
    model, objective = demo_objective()
    optimizer = optax.sgd(rate)
    with jax.enable_x64(True):
        params = tuple(fg.Layer(jnp.array(w), jnp.array(b)) for w, b in net.to_params())
        data = (jnp.array(x), jnp.array(signs, float)[:, None])
        state = fg.init_state(params, optimizer)
        state, losses = fg.train(objective, optimizer, state, data, steps=100)
        accuracy = np.mean((model.apply(state.params, data[0]) > 0) == (data[1] > 0))
    expected = demo_losses()
    assert expected[0] == 0.8958441028683222
    assert in_float32(losses) == in_float32(expected)
    assert in_float32(losses)[-1] == in_float32([0.010978370135492719])[0]
    assert accuracy == 1


def test_first_steps_of_the_demo_from_the_reference():
    x, signs, net = demo()
    losses = []
    for k in range(2):
        scores = [net(row) for row in x.tolist()]
        margins = [
            (1 + -sign * score).relu()
            for sign, score in zip(signs.tolist(), scores, strict=True)
        ]
        total_loss = sum(margins) * (1.0 / len(margins))
        total_loss += 1e-4 * sum(p * p for p in net.parameters())
        net.zero_grad()
        total_loss.backward()
        for p in net.parameters():
            p.data -= rate(k) * p.grad
        losses.append(total_loss.data)
    assert in_float32(losses) == in_float32(demo_losses()[:2])


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrong", ["rate", "seed"])
def test_the_demo_comparison_can_fail(wrong):
    x, signs, net = demo()
    if wrong == "seed":
        net = MLP(2, [16, 16, 1], "relu", "linear", rng=random.Random(1338))
    _, objective = demo_objective()
    optimizer = optax.sgd(1.0 if wrong == "rate" else rate)
    with jax.enable_x64(True):
        params = tuple(fg.Layer(jnp.array(w), jnp.array(b)) for w, b in net.to_params())
        data = (jnp.array(x), jnp.array(signs, float)[:, None])
        state = fg.init_state(params, optimizer)
        _, losses = fg.train(objective, optimizer, state, data, steps=3)
    assert in_float32(losses) != in_float32(demo_losses()[:3])
