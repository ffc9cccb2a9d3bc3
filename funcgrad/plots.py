"""Pictures of a run: the loss, the decision boundary, and how good predictions are.

Each function returns a `matplotlib.figure.Figure`; `png` turns it into bytes. Nothing
here opens a window or touches pyplot's global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.errors import InputError, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by people with colour blindness too; after Okabe and Ito.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_GRID = 300
_DPI = 120
_MOST_NUMBERED_CLASSES = 20
_MOST_NAMED_CLASSES = 30


def loss_curve(
    step: np.ndarray,
    loss: np.ndarray,
    title: str,
    *,
    looks: Mapping[str, np.ndarray] = {},
) -> Figure:
    """Draw the loss before each step, on a logarithmic axis.

    `looks` is a history's. Where it has `validation_loss`, that is drawn beside, with a
    star at its lowest.
    """
    figure, axes = _figure((6.0, 4.0))
    many = len(loss) > 400
    axes.plot(
        step, loss, color=_COLOURS[0], lw=1.2, alpha=0.35 if many else 1,
        label="training",
    )  # fmt: skip
    if many:
        # A hundred medians show where a curve of noisy batches goes.
        cuts = np.linspace(0, len(loss), 101).astype(int)
        parts = [slice(a, b) for a, b in pairwise(cuts)]
        middle = [np.median(step[part]) for part in parts]
        axes.plot(middle, [np.median(loss[part]) for part in parts], color=_COLOURS[0])
    seen = looks.get("validation_loss", np.zeros(0))
    good = np.isfinite(seen)
    if good.any():
        at = looks["step"]
        best = int(np.argmin(np.where(good, seen, np.inf)))
        axes.plot(at, seen, color=_COLOURS[1], lw=1.5, label="validation")
        axes.plot(
            at[best], seen[best], color=_COLOURS[1], marker="*", markersize=12, ls="",
            label=f"best, step {at[best]:,}",
        )  # fmt: skip
        axes.legend(framealpha=0.9, fontsize="small")
    values = np.concatenate([loss, seen[good]])
    if np.all(values > 0):
        axes.set_yscale("log")
        _label_plainly(axes.yaxis, values)
    axes.set(title=_as_text(title, 80), xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3, which="both", lw=0.5)
    return figure


def text_curve(
    step: np.ndarray,
    loss: np.ndarray,
    title: str,
    *,
    looks: Mapping[str, np.ndarray],
    baseline: float,
    token: str,
) -> Figure:
    """Draw the loss of a language model in nats and in bits a token, beside a baseline.

    The baseline is what knows how often each token is, and no order.
    """
    figure = loss_curve(step, loss, title, looks=looks)
    (axes,) = figure.axes
    axes.axhline(
        baseline, color=_COLOURS[2], ls="--", lw=1.2, label=f"how often each {token} is"
    )
    axes.set_yscale("linear")
    axes.set_ylim(bottom=0)
    axes.set(ylabel=f"nats a {token}")
    bits = axes.secondary_yaxis(
        "right", functions=(lambda nats: nats / np.log(2), lambda b: b * np.log(2))
    )
    bits.set_ylabel(f"bits a {token}")
    axes.legend(framealpha=0.9, fontsize="small")
    return figure


def decision_boundary(
    classes_at: Callable[[np.ndarray], ArrayLike],
    points: np.ndarray,
    y: np.ndarray,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    title: str,
    held_out: np.ndarray | None = None,
) -> Figure:
    """Colour the plane by the class that `classes_at((n, 2)) -> (n,)` chooses.

    `points` has shape (n, 2) and `y` holds the numbers of their classes; points that
    are `held_out` are drawn as diamonds.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.08 * (high - low)
    low, high = low - margin, high + margin
    ticks = [np.linspace(low[i], high[i], _GRID) for i in (0, 1)]
    grid = np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2)
    chosen = np.asarray(classes_at(grid)).reshape(_GRID, _GRID)

    figure, axes = _figure((6.0, 5.0))
    axes.imshow(
        _shade(chosen),
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    is_held_out = np.zeros(len(y), bool) if held_out is None else held_out
    labels = []
    for k, name in enumerate(classes):
        for kind, marker, note in ((False, "o", ""), (True, "D", ", held out")):
            rows = (y == k) & (is_held_out == kind)
            if rows.any():
                axes.scatter(
                    *points[rows].T,
                    color=_COLOURS[k % len(_COLOURS)],
                    marker=marker,
                    s=24,
                    edgecolor="white",
                    linewidth=0.6,
                    label=str(k),
                )
                labels.append(f"{_as_text(name)}{note}")
    first, second = map(_as_text, names)
    axes.set(title=_as_text(title, 80), xlabel=first, ylabel=second)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    if len(classes) <= len(_COLOURS):
        legend = axes.legend(framealpha=0.9, fontsize="small")
        # Set afterwards, as a label that begins with _ would be left out.
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(label)
    return figure


def confusion_matrix(
    y: np.ndarray, predicted: np.ndarray, classes: Sequence[str], title: str
) -> Figure:
    """Count the rows of each true class (down) by the class predicted (across)."""
    count = len(classes)
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (y, predicted), 1)
    side = float(np.clip(2.5 + 0.42 * count, 4.5, 11))
    figure, axes = _figure((side + 0.5, side))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if count <= _MOST_NUMBERED_CLASSES:
        for i, j in np.argwhere(matrix):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(
                j, i, matrix[i, j], ha="center", va="center", color=colour, fontsize=9
            )
    if count <= _MOST_NAMED_CLASSES:
        short = [name if len(name) <= 14 else name[:13] + "…" for name in classes]
        turn = 45 if max(map(len, short)) > 3 else 0
        short = [_as_text(name) for name in short]
        axes.set_xticks(
            range(count), short, rotation=turn, ha="right" if turn else "center"
        )
        axes.set_yticks(range(count), short)
    axes.set(title=_as_text(title, 80), xlabel="predicted", ylabel="true")
    return figure


def predicted_against_true(
    true: np.ndarray, predicted: np.ndarray, name: str, title: str
) -> Figure:
    """Draw a point for each row; a perfect prediction lies on the line."""
    figure, axes = _figure((5.0, 5.0))
    low = min(true.min(), predicted.min())
    high = max(true.max(), predicted.max())
    axes.plot([low, high], [low, high], color="0.5", lw=1, zorder=0)
    axes.scatter(
        true, predicted, s=22, color=_COLOURS[0], edgecolor="white", linewidth=0.5
    )
    name = _as_text(name)
    axes.set(
        title=_as_text(title, 80), xlabel=f"true {name}", ylabel=f"predicted {name}"
    )
    axes.set_aspect("equal")
    axes.grid(alpha=0.3, lw=0.5)
    return figure


def score_against(
    hyper: dict[str, np.ndarray], scores: np.ndarray, name: str
) -> Figure:
    """Draw the members' scores against each hyper-parameter, and mark the best."""
    figure, first = _figure((4.2 * len(hyper), 4.0))
    first.remove()
    good = np.isfinite(scores)
    best = np.argmin(np.where(good, scores, np.inf))
    panels = figure.subplots(1, len(hyper), sharey=True, squeeze=False)[0]
    for axes, (label, values) in zip(panels, hyper.items(), strict=True):
        axes.scatter(values[good], scores[good], s=8, color=_COLOURS[0], alpha=0.5)
        axes.scatter(values[best], scores[best], s=60, color=_COLOURS[1], marker="*")
        if np.ptp(np.log(values)) > np.log(20):
            axes.set_xscale("log")
            _label_plainly(axes.xaxis, values)
        if np.all(scores[good] > 0):
            axes.set_yscale("log")
            _label_plainly(axes.yaxis, scores[good])
        axes.set(xlabel=label.replace("_", " "))
        axes.grid(alpha=0.3, lw=0.5)
    panels[0].set(ylabel="lowest loss on the rows of the score")
    lost = f", {np.sum(~good)} diverged" if not good.all() else ""
    title = _as_text(f"{name}: {len(scores):,} nets{lost}", 80)
    figure.suptitle(title, fontsize=11)
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_dpi(_DPI)
    # The bytes of `savefig`, which lays out all twice.
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def start_early() -> None:
    """Import matplotlib on a thread of its own, so that pictures come quickly.

    A run can spend that time while XLA, which needs no lock of Python's, compiles.
    """

    def load() -> None:
        # What fails here fails again, and is told, when the first picture is due.
        with suppress(Exception):
            import matplotlib.backends.backend_agg
            import matplotlib.figure  # noqa: F401

    Thread(target=load).start()


def _figure(size: tuple[float, float]) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is not installed: "
            'pip install "funcgrad[cli]"'
        ) from error
    except ValueError as error:
        raise InputError(
            f"matplotlib cannot be loaded ({error}): unset MPLBACKEND, or correct it"
        ) from error
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _label_plainly(axis: Any, values: np.ndarray) -> None:
    """Write 0.01 on a logarithmic axis: a typeset power of 10 takes 0.1 s to draw."""
    axis.set_major_formatter("{x:g}")
    within_a_decade = np.max(values) < 10 * np.min(values)
    axis.set_minor_formatter("{x:g}" if within_a_decade else "")


def _as_text(name: str, most: int = 40) -> str:
    """Return a name that matplotlib draws as it is, and not as mathematics.

    One that is too long would leave no place for the picture.
    """
    return shown(name, most).replace("$", r"\$")


def _shade(chosen: np.ndarray) -> np.ndarray:
    """Return each class's colour, mixed with white, as (rows, columns, 3) in [0, 1]."""
    colours = [[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in _COLOURS]
    return 1 - 0.3 * (1 - np.array(colours)[chosen % len(_COLOURS)])
