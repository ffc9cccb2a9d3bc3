"""What a gradient check found, as data and as text."""

from __future__ import annotations

import math
from typing import NamedTuple

from funcgrad.notebook import text_html

MEANINGS = {
    "ok": "every derivative rule is right, and rounding explains the rest",
    "rule": "a derivative rule is mathematically wrong here",
    "compiler": "the rules are right, but rounding cannot explain the compiled numbers",
    "kink": "at an exact tie, the derivative lies outside the one-sided ones",
    "pole": "a NaN or an infinity is made on the way",
    "uncovered": "the proof has no exact rule for something in this program",
}

# The worst verdict of a leaf is the verdict of the whole.
SEVERITY = ("ok", "compiler", "kink", "rule", "pole", "uncovered")


class LeafReport(NamedTuple):
    """One leaf of the gradient.

    `worst`, `truth` and `value` describe its worst element: the exact derivative to 17
    digits and the number JAX returned. `rule_error` is the largest exact(g) - truth, as
    text, "0" where it is zero; `ulps` the largest distance of a float from exact(g) in
    units in the last place, and `bound` what rounding may cost there; `digits` the
    decimal digits of the worst element that agree with the truth.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str
    worst: tuple[int, ...]
    truth: str
    value: str
    rule_error: str
    ulps: float
    bound: float
    digits: float


class GradientReport(NamedTuple):
    """The verdict over all leaves, with the equation to blame where there is one.

    `explained` is the largest exact(g) - truth, in ulps, that goes away where rounded
    constants are read as the numbers that they stand for; a note names them.

    `method` is "exact", or "identity" where the program is too large to be walked
    number by number; `miss` is how likely a wrong rule passes: 2^-60 for each time that
    3 fields were asked, 10^-11 for each rule that is read as a lemma. By identity, a
    leaf's `truth` is float64's, `ulps` and `bound` are of the sum of its elements with
    random signs, or of one element that its own bound does not explain, as a share of
    its norm in units of epsilon, and `rule_error` is a share of the largest element.
    """

    verdict: str
    leaves: tuple[LeafReport, ...]
    notes: tuple[str, ...] = ()
    culprit: str = ""
    explained: float = 0.0
    method: str = "exact"
    miss: float = 0.0

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"

    def __str__(self) -> str:
        lines = [f"gradient: {self.verdict} ({MEANINGS[self.verdict]})"]
        if self.leaves:
            lines += ["", *_table(self.leaves)]
        if self.culprit:
            lines += ["", f"culprit: {self.culprit}"]
        if self.method == "identity":
            lines += ["", _identity(self.miss)]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return text_html(str(self))


def _identity(miss: float) -> str:
    return (
        f"method: identity in 3 random fields; a wrong rule passes with probability "
        f"about 2^{math.log2(miss):.0f} (random-function model)"
    )


_HEADINGS = (
    "leaf",
    "shape",
    "dtype",
    "verdict",
    "worst",
    "truth",
    "value",
    "rule error",
    "ulps",
    "bound",
    "digits",
)


def _table(leaves: tuple[LeafReport, ...]) -> list[str]:
    rows = [_HEADINGS, *(_row(leaf) for leaf in leaves)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    ]  # fmt: skip


def _row(leaf: LeafReport) -> tuple[str, ...]:
    return (
        leaf.path,
        "x".join(map(str, leaf.shape)) or "scalar",
        leaf.dtype,
        leaf.verdict,
        "[" + ",".join(map(str, leaf.worst)) + "]" if leaf.worst else "",
        leaf.truth,
        leaf.value,
        leaf.rule_error,
        f"{leaf.ulps:.3g}",
        f"{leaf.bound:.3g}",
        f"{leaf.digits:.1f}",
    )


def worst(verdicts: list[str]) -> str:
    """Return the most severe of the verdicts; "ok" of none.

    >>> worst(["ok", "rule", "compiler"])
    'rule'
    """
    return max(verdicts, key=SEVERITY.index, default="ok")
