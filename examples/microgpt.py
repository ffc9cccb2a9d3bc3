"""A GPT on scalars and the same one on arrays, learning a few names side by side.

The names are spelled letter by letter, and the net learns which letter comes next. It
is Karpathy's microgpt, one block of attention and two layers, trained by Adam: once
with a `Value` for each number, a letter at a time, where forward, loss, zero, backward
and update can be followed with a finger; and once as a pure function of its parameters,
a name at a time, with `jax.grad` and `make_step`. One sees that both losses are the
same all the way down, and a few names that the scalar net then spells by itself.

    python examples/microgpt.py
"""

import random

import jax
import jax.numpy as jnp
import optax

import funcgrad as fg
from reference import GPT, Value
from reference.gpt import rms_norm, softmax

NAMES = ["ada", "anna", "emma", "hanna", "ida", "ina", "mia", "nina"]
END, *LETTERS = ".", *sorted(set("".join(NAMES)))  # token 0 begins and ends a name
CONTEXT = max(map(len, NAMES)) + 1
SIZES = {"context": CONTEXT, "width": 8, "layers": 1, "heads": 2}
PASSES, RATE, BETA1, BETA2, EPSILON = 15, 0.01, 0.9, 0.99, 1e-8
ROWS = [[0, *(1 + LETTERS.index(c) for c in name), 0] for name in NAMES]


def by_values(model):
    """Yield the loss of each step; the parameters change in place."""
    parameters = model.parameters()
    mean, square = [0.0] * len(parameters), [0.0] * len(parameters)
    for step, row in enumerate(PASSES * ROWS):
        loss = model.loss(row)  # forward, loss
        model.zero_grad()  # zero
        loss.backward()  # backward
        for i, p in enumerate(parameters):  # update
            mean[i] = BETA1 * mean[i] + (1 - BETA1) * p.grad
            square[i] = BETA2 * square[i] + (1 - BETA2) * p.grad**2
            m = mean[i] / (1 - BETA1 ** (step + 1))
            s = square[i] / (1 - BETA2 ** (step + 1))
            p.data -= RATE * m / (s**0.5 + EPSILON)
        yield loss.data


def by_jax(model, params):
    """Yield the loss of each step; a step returns new parameters."""
    optimizer = optax.adam(RATE, BETA1, BETA2, EPSILON)
    step = jax.jit(fg.make_step(fg.next_token(model), optimizer))
    state = fg.init_state(params, optimizer)
    for row in PASSES * ROWS:
        padding = [-1] * (CONTEXT + 1 - len(row))  # which does not count
        state, loss = step(state, jnp.array(row + padding))
        yield loss


def spell(model, rng):
    """Return a name: each letter is drawn, then read, until the end is drawn."""
    past, token, name = model.start(), 0, ""
    while len(name) < CONTEXT:
        chances = softmax(model.step(past, token))
        (token,) = rng.choices(range(len(chances)), [p.data for p in chances])
        if token == 0:
            break
        name += LETTERS[token - 1]
    return name


def main():
    model = fg.gpt(1 + len(LETTERS), **SIZES, activation=jax.nn.relu, norm=fg.rms_norm)
    params = model.init(jax.random.key(0))
    lists = jax.tree.map(lambda leaf: leaf.tolist(), params)
    scalar = GPT.from_params(lists, heads=2, activation=Value.relu, norm=rms_norm)
    print(f"{len(scalar.parameters())} parameters, {len(NAMES)} names")
    print("names read  reference.Value  jax.grad")
    both = zip(by_values(scalar), by_jax(model, params), strict=True)
    for read in range(0, len(PASSES * ROWS), len(ROWS)):
        losses = zip(*(next(both) for _ in ROWS), strict=True)
        ours, theirs = (sum(loss) / len(ROWS) for loss in losses)
        print(f"{read + len(ROWS):10}  {ours:15.3f}  {theirs:8.3f}")
    rng = random.Random(0)
    print("spelled:", *(spell(scalar, rng) for _ in range(8)))


if __name__ == "__main__":
    main()
