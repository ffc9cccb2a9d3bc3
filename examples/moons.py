"""Tell two moons of points apart: micrograd's demo, in the functions of funcgrad.

A net of two hidden layers of 16 neurons, the max-margin loss and a little weight decay,
100 steps on all 100 points, the rate falling from 1 to 0.1. One sees the loss fall and
all points on the right side; with matplotlib installed the border is drawn too, in
moons.png. `funcgrad train moons` does the same and proves the gradient first.

    python examples/moons.py
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import optax

import funcgrad as fg
from funcgrad.data import moons

STEPS = 100

x, classes = moons()  # the points of the demo notebook: x (100, 2), classes 0 or 1
signs = 2 * classes - 1

model = fg.mlp(
    [2, 16, 16, 1],
    activation=jax.nn.relu,
    final_activation=fg.linear,
    initializer=fg.uniform,
)


def objective(params, batch):
    """Return the hinge loss of the scores, plus 1e-4 times all squared parameters."""
    x, signs = batch
    scores = model.apply(params, x)[:, 0]
    return fg.hinge(scores, signs) + 1e-4 * fg.l2(params)


optimizer = optax.sgd(optax.linear_schedule(1.0, 0.1, STEPS))
params = model.init(jax.random.key(1337))
state, history = fg.fit(objective, optimizer, params, (x, signs), steps=STEPS)


def classes_at(points):
    """Return the class that the net chooses for each of the points (n, 2)."""
    return np.asarray(model.apply(state.params, points)[:, 0] > 0).astype(int)


accuracy = np.mean(classes_at(x) == classes)
print(f"loss {history.loss[0]:.3g} at first, {history.loss[-1]:.3g} at last")
print(f"accuracy {accuracy:.0%} on {len(x)} points")

if importlib.util.find_spec("matplotlib"):
    from funcgrad import plots

    figure = plots.decision_boundary(
        classes_at,
        x,
        classes,
        names=["x1", "x2"],
        classes=["0", "1"],
        title=f"moons: accuracy {accuracy:.0%}",
    )
    Path("moons.png").write_bytes(plots.png(figure))
    print("drew moons.png")
