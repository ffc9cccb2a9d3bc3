"""What a notebook shows of a result, as HTML, and whether a notebook is there."""

from __future__ import annotations

import sys
from html import escape
from typing import Any

import jax
import numpy as np


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook; IPython's terminal has none."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")


def text_html(text: str) -> str:
    """Return `text` as it is, in letters of one width and with its own lines alone."""
    return f'<pre style="white-space: pre">{escape(text)}</pre>'


def fit_html(state: Any, history: Any) -> str:
    """Return a table of how a run ended: `Fit`'s state and history.

    Of each metric of the validation it has the last.
    """
    step, loss = history.step, history.loss
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(state.params))
    rows = [("steps done", f"{int(state.step):,}"), ("last loss", _last(loss))]
    if len(loss):
        at = int(np.argmin(loss))
        rows.append(("lowest loss", f"{loss[at]:.4g} at step {step[at]:,}"))
    rows.append(("parameters", f"{parameters:,}"))
    for name, values in history.looks.items():
        if name.startswith("validation"):
            rows.append((f"last {name.replace('_', ' ')}", _last(values)))
    return _table(rows)


def _last(values: Any) -> str:
    return f"{values[-1]:.4g}" if len(values) else "none"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = (
        f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table>{''.join(cells)}</table>"
