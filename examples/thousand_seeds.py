"""A thousand seeds of the smallest net that can learn exclusive or.

Two hidden neurons are just enough for XOR, so that it depends on the first weights
whether gradient descent gets there. A single run says little about that; `train_many`
does a thousand in one call. One sees how many of them learn it; that nearly all others
get stuck at the same loss, 1/8, with two corners right and 1/2 said at the two others;
and that the members that learnt it agree at the corners, which they were shown, and
disagree elsewhere: the spread of a committee tells where it is guessing.

    python examples/thousand_seeds.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcgrad as fg

SEEDS = 1000

x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = jnp.array([[0.0], [1.0], [1.0], [0.0]])

model = fg.mlp([2, 2, 1], final_activation=fg.linear)
objective = fg.objective(model, fg.mean_squared_error)

# Only the keys differ: all members have the same rate.
states, losses = fg.train_many(
    objective,
    optax.adam,
    model.init,
    {"learning_rate": jnp.full(SEEDS, 0.03)},
    (x, y),
    steps=2000,
    key=jax.random.key(0),
)

last = losses[:, -1]
learnt = last < 0.001
print(f"{learnt.sum()} of {SEEDS:,} seeds learnt exclusive or")

stuck = np.abs(last - 1 / 8) < 0.005
print(f"{stuck.sum()} got stuck at a loss of 1/8")

learners = fg.select(states.params, np.flatnonzero(learnt))
mean, spread = fg.committee(model.apply, learners, x)
print(f"those that learnt it differ by {spread.max():.3f} at most at the corners")
mean, spread = fg.committee(model.apply, learners, jnp.array([0.5, 0.5]))
print(f"and by {spread[0]:.3f} in the middle, where nobody told them")
