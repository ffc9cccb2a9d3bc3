"""The graph as SVG: what stands in it, and that nothing lies over anything else."""

import random
import re
import xml.etree.ElementTree as ET
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import MLP, Ball, Value, draw
from reference.drawing import MOST_NODES, short

SVG = "{http://www.w3.org/2000/svg}"


def seed_neuron(number=float):
    """tanh(w1*x1 + w2*x2 + b), the neuron of the lecture."""
    x1, x2 = Value(number(2), label="x1"), Value(number(0), label="x2")
    w1, w2 = Value(number(-3), label="w1"), Value(number(1), label="w2")
    b = Value(number(6.8813735870195432), label="b")
    left, right = w1 * x1, w2 * x2
    left.label, right.label = "w1*x1", "w2*x2"
    total = left + right
    n = total + b
    n.label = "n"
    out = n.relu() if number is Fraction else n.tanh()
    out.label = "o"
    out.backward()
    return out


def boxes(svg):
    """Return (x, y, width, height, texts) of each box, in document order."""
    found = []
    for element in ET.fromstring(svg):
        if element.tag == f"{SVG}rect":
            place = [float(element.get(k)) for k in ("x", "y", "width", "height")]
            found.append((*place, []))
        elif element.tag == f"{SVG}text":
            found[-1][-1].append(element.text or "")
    return found


def edges(svg):
    """Return the curves and lines, each as a list of points or control points."""
    paths = [element.get("d") for element in ET.fromstring(svg).iter(f"{SVG}path")]
    found = []
    for d in paths:
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", d)]
        if "C" in d:
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
        elif "h" in d:
            x, y, length = numbers
            found.append([(x, y), (x + length, y)])
    return found


def faults(svg):
    """Return what overlaps: a Bezier curve stays in the hull of its control points."""
    problems = []
    placed, lines = boxes(svg), edges(svg)
    for i, (x, y, w, h, _) in enumerate(placed):
        for x2, y2, w2, h2, _ in placed[:i]:
            if x < x2 + w2 and x2 < x + w and y < y2 + h2 and y2 < y + h:
                problems.append(("boxes", (x, y), (x2, y2)))
        for points in lines:
            xs, ys = zip(*points, strict=True)
            if (
                max(xs) > x + 0.1
                and min(xs) < x + w - 0.1
                and max(ys) > y + 0.1
                and min(ys) < y + h - 0.1
            ):
                problems.append(("edge through box", points, (x, y)))
    size = ET.fromstring(svg)
    width, height = float(size.get("width")), float(size.get("height"))
    for x, y, w, h, _ in placed:
        if x < 0 or y < 0 or x + w > width or y + h > height:
            problems.append(("outside", (x, y)))
    return problems


def texts(svg):
    return {" ".join(text for text in texts if text) for *_, texts in boxes(svg)}


def test_the_seed_neuron():
    assert texts(draw(seed_neuron())) == {
        "x1 data 2 grad -1.5",
        "x2 data 0 grad 0.5",
        "w1 data -3 grad 1",
        "w2 data 1 grad 0",
        "b data 6.8814 grad 0.5",
        "w1*x1 * data -6 grad 0.5",
        "w2*x2 * data 0 grad 0.5",
        "+ data -6 grad 0.5",
        "n + data 0.8814 grad 0.5",
        "o tanh data 0.7071 grad 1",
    }


def test_fractions_and_balls():
    assert "n + data ≈ 0.8814 grad 1" in texts(draw(seed_neuron(Fraction)))
    drawn = texts(draw(seed_neuron(Ball)))
    assert "w1 data -3 grad 1 ± 2e-38" in drawn
    assert "b data 6.8814 grad 0.5 ± 8e-39" in drawn


def small_net():
    net = MLP(2, [2, 1], rng=random.Random(1))
    out = (net([0.5, -1.0]) - 1) ** 2
    out.backward()
    return out


def chain(n):
    out = Value(1.0)
    for _ in range(n - 1):
        out = -out
    return out


def shared_far_away():
    """Values used many columns apart, so that edges need lanes."""
    leaves = [Value(float(i)) for i in range(1, 12)]
    out = leaves[0]
    for leaf in leaves[1:]:
        out = out * leaf
    for leaf in leaves:
        out = out + leaf
    return out


GRAPHS = {
    "neuron": seed_neuron,
    "net": small_net,
    "one value": lambda: Value(1.0),
    "the most nodes": lambda: chain(MOST_NODES),
    "twice": lambda: Value(1.0, label="a") + Value(2.0),
    "far": shared_far_away,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_overlaps(name):
    value = GRAPHS[name]()
    svg = draw(value)
    assert len(boxes(svg)) == len(value.graph())
    assert faults(svg) == []


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_nothing_overlaps_in_any_graph(seed):
    rng = random.Random(seed)
    nodes = [Value(1.0), Value(-1.0, label="a long label, to widen its box")]
    for _ in range(25):
        nodes.append(rng.choice(nodes) * rng.choice(nodes))
    svg = draw(nodes[-1])
    assert faults(svg) == []


def drawn_operands(svg):
    """Return, for each box's label, where its edges come from when followed by eye."""
    placed, lines = boxes(svg), edges(svg)
    curves = [p for p in lines if len(p) == 4]
    lanes = [p for p in lines if len(p) == 2]

    def meet(p, q):
        # Coordinates and sizes are written to 0.1 pixels, so sums are off by 0.15.
        return abs(p[0] - q[0]) < 0.2 and abs(p[1] - q[1]) < 0.2

    def source(point):
        for x, y, w, h, words in placed:
            if meet(point, (x + w, y + h / 2)):
                return words[0]
        (lane,) = [lane for lane in lanes if meet(point, lane[1])]
        (curve,) = [curve for curve in curves if meet(curve[-1], lane[0])]
        return source(curve[0])

    return {
        words[0]: [
            source(curve[0])
            for curve in sorted(curves, key=lambda p: p[-1][1])
            if curve[-1][0] == x and y < curve[-1][1] < y + h
        ]
        for x, y, _, h, words in placed
    }


@pytest.mark.parametrize("build", [seed_neuron, small_net, shared_far_away])
def test_edges_lead_from_operands_to_results(build):
    value = build()
    for i, node in enumerate(value.graph()):
        node.label = f"v{i}"
    expected = {n.label: [c.label for c in n._prev] for n in value.graph()}
    assert drawn_operands(draw(value)) == expected


def test_the_overlap_check_can_fail():
    svg = draw(seed_neuron())
    first, second = re.findall(r'<rect x="[\d.]+" y="([\d.]+)"', svg)[:2]
    assert faults(svg.replace(f'y="{second}"', f'y="{float(first) + 5}"'))
    x, y, w, h, _ = boxes(svg)[0]
    through = f'<path d="M{x + w / 2},{y}h{w}"/>'
    assert faults(
        svg.replace("</g>", through.replace(f"{y}h", f"{y + h / 2}h") + "</g>")
    )


def test_inputs_left_output_right():
    value = small_net()
    place = {}
    for x, *_, words in boxes(draw(value)):
        place.setdefault(" ".join(filter(None, words)), x)
    rightmost = max(place, key=place.get)
    assert rightmost.startswith("**2")
    assert all(x < place[rightmost] for t, x in place.items() if t != rightmost)


def crossings(svg):
    """Count the pairs of curves in the same gap that start and end the other way."""
    curves = [(p[0], p[-1]) for p in edges(svg) if len(p) == 4]
    return sum(
        (a[0][1] - b[0][1]) * (a[1][1] - b[1][1]) < 0
        for i, a in enumerate(curves)
        for b in curves[:i]
        if a[0][0] == b[0][0]
    )


def test_crossings_are_few():
    """The neuron is a tree; x1 and x2 each feed both neurons of the net.

    Drawing x1*w11 and x2*w01 apart needs at least one crossing; three is what a reader
    can follow, and what the picture has was looked at.
    """
    assert crossings(draw(seed_neuron())) == 0
    assert crossings(draw(small_net())) <= 3


def test_operands_enter_in_order():
    a, b = Value(1.0, label="a"), Value(2.0, label="b")
    for out in (a - b, b - a):
        svg = draw(out)
        height = {words[0]: y + h / 2 for _, y, _, h, words in boxes(svg)}
        ends = sorted((p[-1][1], p[0][1]) for p in edges(svg))
        first, second = (child.label for child in out._prev)
        assert [start for _, start in ends] == [height[first], height[second]]


def test_text_is_escaped_and_ascii():
    label = 'a<b> & "c" é漢\x00\n</text><script>'
    out = Value(1.0, label=label) + 1
    svg = draw(out)
    assert svg.isascii()
    (shown,) = [words[0] for *_, words in boxes(svg) if words[0].startswith("a")]
    assert shown == 'a<b> & "c" é漢\ufffd\ufffd</text><script>'
    assert "<script" not in svg


def test_long_labels_are_cut():
    svg = draw(Value(1.0, label="x" * 500))
    assert boxes(svg)[0][-1][0] == "x" * 31 + "…"


def test_text_fits_its_box():
    """A monospaced character is about 0.6 em wide, 7.2 of 12 pixels."""
    out = Value(1.0, label="a label") * Value(-1234567.0, label="漢字漢字漢字漢字漢字")
    out.backward()
    for _, _, width, _, words in boxes(draw(out)):
        for left, right in zip(words[::2], words[1::2], strict=True):
            wide = sum(1 + (ord(c) > 0x2E80) for c in left + right)
            assert width >= 7.2 * wide + 10


def test_the_same_text_every_time():
    assert draw(small_net()) == draw(small_net())


def test_too_many_nodes():
    with pytest.raises(ValueError, match="at most 300 nodes, got 301: draw a part"):
        draw(chain(MOST_NODES + 1))
    with pytest.raises(ValueError, match="got 100000"):
        draw(chain(100_000))


@pytest.mark.parametrize(
    "wrong", [1.0, [Value(1.0)], MLP(1, [1], rng=random.Random(0))]
)
def test_what_is_no_value(wrong):
    with pytest.raises(
        TypeError, match=f"draw takes a Value, got {type(wrong).__name__}"
    ):
        draw(wrong)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (True, "1"),
        (2.0, "2"),
        (-1.5, "-1.5"),
        (0.1 + 0.2, "0.3"),
        (123456.789, "123456.789"),
        (1234567.0, "1.235e+6"),
        (0.00012345, "1.234e-4"),
        (5e-324, "4.941e-324"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (10**400, "1e+400"),
        (Fraction(13, 5), "13/5"),
        (Fraction(3), "3"),
        (Fraction(-(10**5000), 3), "≈ -3.333e+4999"),
        (Fraction(1, 3**40), "≈ 8.225e-20"),
    ],
)
def test_short_numbers(number, text):
    assert short(number) == text


def test_short_balls():
    assert short(Ball(0.5)) == "0.5"
    assert short(Ball(2) ** 5000) == "1.412e+1505"
    assert short(Ball(1) / 3) == "0.3333 ± 1e-39"
    assert short(1 / (Ball(1) / 3 * 3 - 1)) == "unknown"
