"""The memory of training a GPT against its width, depth, context and steps, drawn.

`python benchmarks/gpt_memory.py [--quick] [--out FOLDER]`. What XLA sets aside for the
compiled run, beside the limit: what any program that recomputes nothing has to keep. No
time is measured, so that a busy machine gives the same numbers.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import funcgrad as fg

VOCAB = 65


class Point(NamedTuple):
    """A GPT, of four heads, and the windows of `context` that a step sees."""

    width: int = 128
    layers: int = 4
    context: int = 64
    batch: int = 12
    steps: int = 100


CURVES = {
    "width": [Point(width=n) for n in (32, 64, 128, 256, 512)],
    "layers": [Point(layers=n) for n in (1, 2, 4, 8, 16)],
    "context": [Point(context=n) for n in (16, 32, 64, 128, 256)],
    "steps": [Point(width=32, steps=n) for n in (1, 10, 100, 1_000, 10_000)],
}


def model_of(point: Point) -> fg.Gpt:
    return fg.gpt(
        VOCAB, context=point.context, width=point.width, layers=point.layers, heads=4
    )


def used(point: Point) -> int:
    """Return the bytes of a compiled run: of what goes in, comes out and is between."""
    model, optimizer = model_of(point), optax.adamw(1e-3)
    objective = fg.next_token(model)

    def run(state: fg.State, rows: jax.Array) -> Any:
        return fg.train(objective, optimizer, state, rows, steps=point.steps)

    state = jax.eval_shape(
        lambda key: fg.init_state(model.init(key), optimizer), jax.random.key(0)
    )
    rows = jax.ShapeDtypeStruct((point.batch, point.context + 1), jnp.int32)
    compiled = jax.jit(run, donate_argnums=0).lower(state, rows).compile()
    found = compiled.memory_analysis()
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
        - found.alias_size_in_bytes
    )


def limit(point: Point) -> int:
    """Return the bytes that a step keeps at least, if it recomputes nothing.

    Parameters, gradient and two moments; and of each token what the derivatives of the
    products read: in a block its input twice (what a norm made of it), q, k, v, the
    weights of attention, what they gave, and what is before and behind the activation;
    at the end x and the logits.
    """
    shapes = jax.eval_shape(model_of(point).init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    block = (2 + 3 + 1 + 4 + 4) * point.width + 4 * point.context
    token = point.layers * block + point.width + VOCAB
    return 4 * (4 * parameters + point.batch * point.context * token)


def picture(found: dict[str, list[tuple[int, int, int]]]) -> Any:
    """Return a figure of (size, bytes, limit) for each curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.6), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axis, (name, points) in zip(axes, found.items(), strict=True):
        sizes, bytes_, limits = zip(*points, strict=True)
        axis.loglog(sizes, [n / 1e6 for n in bytes_], "o-", color="tab:orange", lw=3)
        axis.loglog(sizes, [n / 1e6 for n in limits], "--", color="0.4", lw=2)
        axis.set_xlabel(name, fontsize=14)
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=9)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("memory of training", fontsize=14)
    axes[0].yaxis.set_major_formatter(lambda n, _: f"{n:,.0f} MB")
    axes[-1].legend(["funcgrad", "the least, recomputing nothing"], loc="upper left")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two points of a curve")
    parser.add_argument("--out", type=Path, default=Path("runs/gpt-memory"))
    given = parser.parse_args(arguments)
    found: dict[str, list[tuple[int, int, int]]] = {}
    for name, curve in CURVES.items():
        found[name] = []
        for point in curve[:2] if given.quick else curve:
            size, bytes_, least = getattr(point, name), used(point), limit(point)
            found[name].append((size, bytes_, least))
            print(
                f"{name} {size:>6,}: {bytes_ / 1e6:>8,.1f} MB, "
                f"{bytes_ / least:.2f} of the least",
                flush=True,
            )
    given.out.mkdir(parents=True, exist_ok=True)
    picture(found).savefig(given.out / "gpt-memory.png", dpi=110)
    print(f"written: {given.out / 'gpt-memory.png'}")


if __name__ == "__main__":
    main()
