"""Small data sets drawn on the spot, in NumPy: moons, xor, spirals.

Each returns (x, y): `x` of shape (n, 2), float64, and `y` of shape (n,), the class of
each point, 0 or 1. The same seed gives the same points.
"""

import numpy as np

SEED = 1337
"""micrograd's: `moons()` gives the 100 points of its demo notebook."""


def moons(
    n: int = 100, noise: float = 0.1, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two half circles, one in the crook of the other, radius 1.

    `noise` is the standard deviation added to each coordinate. The points are those of
    scikit-learn's `make_moons(n, noise=noise, random_state=seed)`, bit for bit.
    """
    _check(n, noise)
    # The legacy generator is scikit-learn's, and NumPy has frozen what it draws.
    random = np.random.RandomState(seed)
    outer = np.linspace(0, np.pi, n // 2)
    inner = np.linspace(0, np.pi, n - n // 2)
    x1 = np.concatenate([np.cos(outer), 1 - np.cos(inner)])
    x2 = np.concatenate([np.sin(outer), 1 - np.sin(inner) - 0.5])
    y = np.repeat([0, 1], [len(outer), len(inner)])
    order = np.arange(n)
    random.shuffle(order)
    x = np.stack([x1, x2], axis=1)[order]
    return x + random.normal(scale=noise, size=x.shape), y[order]


def xor(
    n: int = 200, noise: float = 0.15, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points around the corners of the unit square; class 1 where one side is up.

    `noise` is the standard deviation added to each coordinate.
    """
    _check(n, noise)
    random = np.random.default_rng(seed)
    corner = random.permutation(np.arange(n) % 4)
    x = np.stack([corner // 2, corner % 2], axis=1)
    return x + random.normal(scale=noise, size=x.shape), x[:, 0] ^ x[:, 1]


def spirals(
    n: int = 300, noise: float = 0.03, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two interleaved spirals of one and a half turns, radius 1.

    `noise` is the standard deviation added to each coordinate.
    """
    _check(n, noise)
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(n) % 2)
    # The root spreads the points evenly along the arm instead of crowding its start.
    radius = np.sqrt(random.uniform(0.02, 1, n))
    angle = 3 * np.pi * radius + np.pi * y
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return x + random.normal(scale=noise, size=x.shape), y


def _check(n: int, noise: float) -> None:
    if n < 2:
        raise ValueError(f"n must be at least 2, one point for each class, got {n}")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise must be a finite number of at least 0, got {noise}")
