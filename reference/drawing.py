"""Draw the graph of a Value as SVG text: one box a Value, inputs left, output right.

Boxes stand in columns, by their distance to the output. An edge that skips a column
gets a lane between the boxes there, and edges bend in the gaps between columns only,
so none runs through a box. Columns are ordered to cross few edges, then moved up and
down until neighbours are nearly level.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from fractions import Fraction
from html import escape
from typing import Any
from unicodedata import east_asian_width

from .engine import Value
from .numbers import Ball

MOST_NODES = 300
LONGEST_LABEL = 32

# Pixels.
CHARACTER, LINE, PADDING = 7.4, 16, 9
SPACE_IN_COLUMN, SPACE_FOR_EDGES, MARGIN = 14, 52, 12

FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# Boxes bring their own light ground; the grey of the edges shows on white and on black.
EDGE, TEXT, FAINT, OP = "#868e96", "#1f2328", "#6b7280", "#b02a0f"
FILL = {"leaf": ("#edf2ff", "#748ffc"), "inner": ("#fff9ec", "#e8a33d")}


class Drawing(str):
    """The text of an SVG picture, which a notebook shows as the picture."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


@dataclass(slots=True, eq=False)
class _Slot:
    """A place in a column: the box of a Value, or a lane for its edges to pass."""

    value: Value
    is_box: bool
    lines: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[_Slot, float]] = field(default_factory=list)  # on the left
    users: list[tuple[_Slot, float]] = field(default_factory=list)  # on the right
    rank: int = 0
    y: float = 0.0

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 2 * PADDING - 3 if self.is_box else 0.0


def draw(value: Value) -> Drawing:
    """Return the graph that `value` was made from as the text of an SVG picture.

    Each box shows label, operation, data and gradient; call `value.backward()` before
    for the gradients. Operands enter a box in order, the first one on top. The text is
    ASCII, and the same whenever the graph is. A notebook shows the picture; elsewhere
    write it to a file:

        Path("neuron.svg").write_text(draw(out))

    >>> w, x = Value(-3.0, label="w"), Value(2.0, label="x")
    >>> out = w * x
    >>> out.backward()
    >>> draw(out).count("<rect")
    3
    """
    if not isinstance(value, Value):
        raise TypeError(
            f"draw takes a Value, got {type(value).__name__}: pass the Value that the "
            f"net or the loss returned"
        )
    nodes = value.graph()
    if len(nodes) > MOST_NODES:
        raise ValueError(
            f"a readable drawing has at most {MOST_NODES} nodes, got {len(nodes)}: "
            f"draw a part, for example one neuron, or a small net on one row"
        )
    columns = _columns(nodes)
    _reorder(columns)
    _level(columns)
    return Drawing(_svg(columns))


def _columns(nodes: list[Value]) -> list[list[_Slot]]:
    """Return the columns from left to right, with a lane wherever an edge skips one."""
    distance = dict.fromkeys(nodes, 0)
    for node in reversed(nodes):
        for child in node._prev:
            distance[child] = max(distance[child], distance[node] + 1)
    depth = max(distance.values())
    columns: list[list[_Slot]] = [[] for _ in range(depth + 1)]
    # way[node] are the slots in which its edges start: its box, and lanes to the right.
    way: dict[Value, list[_Slot]] = {}
    for node in nodes:
        box = _Slot(node, is_box=True, lines=_lines(node))
        for i, child in enumerate(node._prev):
            while len(way[child]) < distance[child] - distance[node]:
                lane = _Slot(child, is_box=False)
                _link(way[child][-1], lane, 0.0)
                columns[depth - distance[child] + len(way[child])].append(lane)
                way[child].append(lane)
            port = (i + 1) / (len(node._prev) + 1) - 0.5
            start = way[child][distance[child] - distance[node] - 1]
            _link(start, box, port * box.height)
        columns[depth - distance[node]].append(box)
        way[node] = [box]
    return columns


def _link(left: _Slot, right: _Slot, port: float) -> None:
    """Connect two slots; `port` is where the edge ends, in pixels below the centre."""
    right.links.append((left, port))
    left.users.append((right, port))


def _reorder(columns: list[list[_Slot]]) -> None:
    """Sort each column by the mean rank of its neighbours, and keep the best order."""
    _number(columns)
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(24):
        rightward = sweep % 2 == 1
        for column in columns if rightward else reversed(columns):
            column.sort(key=lambda slot: _mean_rank(slot, rightward))
            _number([column])
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    columns[:] = best
    _number(columns)


def _number(columns: list[list[_Slot]]) -> None:
    for column in columns:
        for rank, slot in enumerate(column):
            slot.rank = rank


def _mean_rank(slot: _Slot, rightward: bool) -> float:
    if rightward:
        ranks = [float(left.rank) for left, _ in slot.links]
    else:
        ranks = [_end(right, port) for right, port in slot.users]
    return sum(ranks) / len(ranks) if ranks else slot.rank


def _end(slot: _Slot, port: float) -> float:
    """Return the rank at which an edge ends: ports lie within their box's own rank."""
    return slot.rank + (port / slot.height if slot.is_box else 0.0)


def _crossings(columns: list[list[_Slot]]) -> int:
    total = 0
    for column in columns:
        ends: list[float] = []
        for slot in column:
            mine = [_end(right, port) for right, port in slot.users]
            total += sum(len(ends) - bisect_right(ends, end) for end in mine)
            for end in mine:
                insort(ends, end)
    return total


def _level(columns: list[list[_Slot]]) -> None:
    """Choose each `y` near the mean of the neighbours', without overlap."""
    for column in columns:
        _place(column, [0.0] * len(column))
    for sweep in range(30):
        for column in columns if sweep % 2 else reversed(columns):
            wanted = []
            for slot in column:
                levels = [left.y - port for left, port in slot.links]
                levels += [right.y + port for right, port in slot.users]
                wanted.append(sum(levels) / len(levels) if levels else 0.0)
            _place(column, wanted)


def _place(column: list[_Slot], wanted: list[float]) -> None:
    """Set `y` as near to `wanted` (least squares) as order and space allow.

    Less the room that the slots above it take, each y must not fall from slot to slot:
    this is isotonic regression, solved by pooling adjacent violators.
    """
    room, rooms = 0.0, []
    for above, slot in zip([None, *column], column, strict=False):
        if above is not None:
            room += (above.height + slot.height) / 2 + SPACE_IN_COLUMN
        rooms.append(room)
    pools: list[tuple[float, int]] = []  # mean and number of slots
    for want, room in zip(wanted, rooms, strict=True):
        mean, count = want - room, 1
        while pools and pools[-1][0] > mean:
            other, n = pools.pop()
            mean, count = (mean * count + other * n) / (count + n), count + n
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    for slot, mean, room in zip(column, means, rooms, strict=True):
        slot.y = mean + room


def _svg(columns: list[list[_Slot]]) -> str:
    slots = [slot for column in columns for slot in column]
    top = min(slot.y - slot.height / 2 for slot in slots) - MARGIN
    for slot in slots:
        slot.y -= top
    height = max(slot.y + slot.height / 2 for slot in slots) + MARGIN
    edges, boxes = [], []
    x = float(MARGIN)
    for column in columns:
        width = max(_width(slot) for slot in column)
        for slot in column:
            edges += [_edge(x, slot.y + port, left) for left, port in slot.links]
            if slot.is_box:
                boxes.append(_box(x, width, slot))
                edges += [_arrowhead(x, slot.y + port) for _, port in slot.links]
            else:
                edges.append(f'<path d="M{x:.1f},{slot.y:.1f}h{width:.1f}"/>')
        x += width + SPACE_FOR_EDGES
    width = x - SPACE_FOR_EDGES + MARGIN
    n = len(boxes)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'font-family="{FONT}" font-size="12">',
            f"<title>A graph of {n} value{'s' if n > 1 else ''}</title>",
            f'<g fill="none" stroke="{EDGE}" stroke-width="1.4">',
            *edges,
            "</g>",
            *boxes,
            "</svg>\n",
        ]
    )


def _edge(x: float, y: float, left: _Slot) -> str:
    """Return the curve from `left` across the gap to (x, y), level at both ends."""
    start, bend = x - SPACE_FOR_EDGES, SPACE_FOR_EDGES / 2
    return (
        f'<path d="M{start:.1f},{left.y:.1f}'
        f'C{start + bend:.1f},{left.y:.1f} {x - bend:.1f},{y:.1f} {x:.1f},{y:.1f}"/>'
    )


def _arrowhead(x: float, y: float) -> str:
    return f'<path d="M{x:.1f},{y:.1f}l-7,-3.5v7z" fill="{EDGE}" stroke="none"/>'


def _box(x: float, width: float, slot: _Slot) -> str:
    fill, stroke = FILL["inner" if slot.value._prev else "leaf"]
    top = slot.y - slot.height / 2
    parts = [
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{slot.height:.1f}" rx="5" fill="{fill}" stroke="{stroke}"/>'
    ]
    has_header = len(slot.lines) == 3
    for i, (left, right) in enumerate(slot.lines):
        y = top + PADDING + LINE * i + 10
        if has_header and i == 0:
            left_style, right_style = (
                f'fill="{TEXT}" font-weight="bold"',
                f'fill="{OP}"',
            )
        else:
            left_style, right_style = f'fill="{FAINT}"', f'fill="{TEXT}"'
        parts += [
            f'<text x="{x + PADDING:.1f}" y="{y:.1f}" {left_style}>'
            f"{_text(left)}</text>",
            f'<text x="{x + width - PADDING:.1f}" y="{y:.1f}" text-anchor="end" '
            f"{right_style}>{_text(right)}</text>",
        ]
    return "\n".join(parts)


def _lines(node: Value) -> list[tuple[str, str]]:
    """Return what stands in the box: left and right part of each line."""
    label, op = str(node.label), str(node._op)
    if len(label) > LONGEST_LABEL:
        label = label[: LONGEST_LABEL - 1] + "…"
    header = [(label, op)] if label or op else []
    return [*header, ("data", short(node.data)), ("grad", short(node.grad))]


def _width(slot: _Slot) -> float:
    """Return the width that a box's text needs; wide characters take two places."""
    places = max(
        (
            sum(2 if east_asian_width(c) in "WF" else 1 for c in left + right)
            + (1 if left and right else 0)
            for left, right in slot.lines
        ),
        default=0,
    )
    return places * CHARACTER + 2 * PADDING if slot.is_box else 0.0


def _text(text: str) -> str:
    """Return `text` fit for XML, in ASCII, whatever file encoding it will meet."""
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return escape(printable).encode("ascii", "xmlcharrefreplace").decode()


def short(x: Any) -> str:
    """Return a number in a few characters, exactly where that is possible.

    >>> [short(x) for x in (2.0, 0.70710678, -1e-7, Fraction(13, 5), 1e300)]
    ['2', '0.7071', '-1e-7', '13/5', '1e+300']
    """
    if isinstance(x, Ball):
        if not x.arb.is_finite():
            return "unknown"
        middle, radius = (
            Decimal(part.str(9, radius=False)) for part in (x.arb.mid(), x.arb.rad())
        )
        return _decimal(middle) + (f" ± {radius:.0e}" if radius else "")
    if isinstance(x, Fraction):
        if x.numerator.bit_length() + x.denominator.bit_length() <= 32:
            return str(x)
        with localcontext(prec=12, Emax=MAX_EMAX, Emin=MIN_EMIN):
            return "≈ " + _decimal(Decimal(x.numerator) / x.denominator)
    if isinstance(x, int):
        return _decimal(Decimal(x))
    x = float(x)
    return _decimal(Decimal(x)) if math.isfinite(x) else str(x)


def _decimal(x: Decimal) -> str:
    """Return `x` with four places behind the point, or in powers of ten."""
    if x == 0:
        return "0"
    if Decimal("0.001") <= abs(x) < 1_000_000:
        return f"{x:.4f}".rstrip("0").rstrip(".")
    digits, _, exponent = f"{x:.3e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{exponent}"
