"""Neuron, Layer and MLP over scalars."""

import random
from fractions import Fraction

import numpy as np
import pytest
from sklearn.datasets import make_moons

from reference import MLP, Ball, Layer, Module, Neuron, Value


def data(module):
    return [p.data for p in module.parameters()]


@pytest.fixture
def global_random():
    state = random.getstate()
    yield
    random.setstate(state)


def test_weights_are_drawn_in_micrograd_order(global_random):
    """Neuron by neuron uniform(-1, 1) for each weight; biases are 0 and draw nothing.

    The numbers were printed by micrograd 0.1.0 after random.seed(1337).
    """
    random.seed(1337)
    net = MLP(2, [3, 2, 1])
    assert data(net.layers[0]) == [
        *(0.23550571390294128, 0.06653114721000164, 0),
        *(-0.26830328150124894, 0.1715747078045431, 0),
        *(-0.6686254326224383, 0.6487474938152629, 0),
    ]
    assert data(net.layers[2]) == [0.31255526637777775, 0.8246106857787521, 0]


def test_an_explicit_generator_draws_the_same(global_random):
    random.seed(7)
    expected = data(MLP(3, [4, 1]))
    random.seed(8)
    before = random.getstate()
    assert data(MLP(3, [4, 1], rng=random.Random(7))) == expected
    assert random.getstate() == before
    assert data(MLP(3, [4, 1], rng=random.Random(8))) != expected


def test_parameters_in_micrograd_order():
    net = MLP(2, [2, 1], rng=random.Random(0))
    expected = []
    for layer in net.layers:
        for neuron in layer.neurons:
            expected += [*neuron.w, neuron.b]
    assert net.parameters() == expected
    assert len(expected) == 2 * 3 + 3
    assert Module().parameters() == []


def test_activations():
    """Hidden layers get `activation`, the last `final_activation` if there is one."""

    def activations(*args):
        net = MLP(2, [2, 2, 1], *args, rng=random.Random(0))
        return [neuron.activation for layer in net.layers for neuron in layer.neurons]

    assert activations() == ["tanh"] * 5
    assert activations("relu") == ["relu"] * 5
    assert activations("relu", "linear") == ["relu"] * 4 + ["linear"]


@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh"])
def test_a_neuron_is_its_formula(activation):
    neuron = Neuron(2, activation, rng=random.Random(0))
    w0, w1, b = data(neuron)
    total = Value(b + w0 * 0.5 + w1 * -2.0)
    expected = total if activation == "linear" else getattr(total, activation)()
    assert neuron([0.5, Value(-2.0)]).data == expected.data


def test_names_as_in_micrograd():
    net = MLP(2, [2, 1], "relu", "linear", rng=random.Random(0))
    hidden = "Layer of [ReLUNeuron(2), ReLUNeuron(2)]"
    assert str(net) == f"MLP of [{hidden}, Layer of [LinearNeuron(2)]]"
    assert str(Layer(1, 1, rng=random.Random(0))) == "Layer of [TanhNeuron(1)]"


def test_a_single_neuron_gives_a_bare_value():
    rng = random.Random(0)
    assert isinstance(MLP(2, [3, 1], rng=rng)([1.0, 2.0]), Value)
    assert len(MLP(2, [3, 2], rng=rng)([1.0, 2.0])) == 2
    assert len(MLP(2, [1, 2], rng=rng)([1.0, 2.0])) == 2  # and it can feed a layer


def test_zero_grad():
    net = MLP(2, [2, 1], rng=random.Random(0))
    net([1.0, 2.0]).backward()
    assert any(p.grad for p in net.parameters())
    net.zero_grad()
    assert all(p.grad == 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLP(0, [1]), r"at least one input .* got n_in=0 and n_outs=\[1\]"),
        (lambda: MLP(2, []), r"one layer of at least one neuron, got .* n_outs=\[\]"),
        (lambda: MLP(2, [3, 0]), r"at least one neuron, got .* n_outs=\[3, 0\]"),
        (lambda: Neuron(2, "swish"), "one of linear, relu, sigmoid, tanh, got 'swish'"),
        (lambda: Neuron(2, False), "activation must be one of .* got False"),
        (lambda: Neuron(2)([1.0]), "takes 2 inputs, got 1: pass one row of 2 numbers"),
    ],
)
def test_what_cannot_be_built_or_called(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Nested lists


PARAMS = [
    ([[0.5, -1.0, 2.0], [1.5, 0.25, -3.0]], [0.0, 1.0, -0.125]),
    ([[1.0], [2.0], [-0.5]], [0.75]),
]


def test_nested_lists_both_ways():
    net = MLP.from_params(PARAMS)
    assert net.to_params() == PARAMS
    assert [w.data for w in net.layers[0].neurons[1].w] == [-1.0, 0.25]
    other = MLP(3, [2, 4, 2], rng=random.Random(0))
    assert MLP.from_params(other.to_params()).to_params() == other.to_params()


@pytest.mark.parametrize("number", [float, Fraction, Ball])
def test_nested_lists_in_every_kind(number):
    net = MLP.from_params(PARAMS, "relu", "linear", number=number)
    assert all(type(p.data) is number for p in net.parameters())
    out = net([number(1), number(2)])
    out.backward()
    # Hidden sums are 3.5, 0.5 and -4.125, so the last one is cut off.
    assert out.data == Fraction(0.75) + Fraction(3.5) + 2 * Fraction(0.5)
    assert net.to_params("grad") == [
        ([[1, 2, 0], [2, 4, 0]], [1, 2, 0]),
        ([[3.5], [0.5], [0]], [1]),
    ]


def test_from_params_takes_arrays_and_draws_nothing(global_random):
    before = random.getstate()
    arrays = [(np.array(w), np.array(b)) for w, b in PARAMS]
    net = MLP.from_params(arrays)
    assert net.to_params() == PARAMS
    assert all(type(p.data) is float for p in net.parameters())
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "at least one layer, got none"),
        ([([[1.0, 2.0]], [0.0])], r"layer 0 needs w of shape \(1, 1\), .* 1 rows of"),
        ([([[1.0], [1.0, 2.0]], [0.0])], r"layer 0 .* got 2 rows of \[1, 2\]"),
        ([([[1.0]], [0.0]), ([], [0.0])], r"layer 1 .* shape \(1, 1\), .* got 0 rows"),
        (
            [([[1.0]], [0.0]), ([[1.0], [2.0]], [0.0])],
            r"layer 1 needs w of shape \(1, 1\), .* got 2 rows of \[1\]",
        ),
        ([([[]], [])], "at least one neuron"),
    ],
)
def test_shapes_that_do_not_fit(params, message):
    with pytest.raises(ValueError, match=message):
        MLP.from_params(params)


def test_the_transposed_layout_is_refused():
    w, b = PARAMS[0]
    transposed = [list(column) for column in zip(*w, strict=True)]
    with pytest.raises(ValueError, match=r"one row for each input and one column"):
        MLP.from_params([(transposed, b)])


# micrograd's demo, as written there: NumPy rows and signs, `map(Value, row)`

DEMO = [0.8958441028683222, 1.7235905336972022, 0.7429006313851131]


def demo_steps(x, signs, net, steps):
    """Return the losses of the demo's loop; `tests/test_micrograd.py` has all of it."""
    losses = []
    for k in range(steps):
        inputs = [list(map(Value, row)) for row in x]
        scores = list(map(net, inputs))
        margins = [
            (1 + -sign * score).relu()
            for sign, score in zip(signs, scores, strict=True)
        ]
        loss = sum(margins) * (1.0 / len(margins))
        loss += 1e-4 * sum(p * p for p in net.parameters())
        net.zero_grad()
        loss.backward()
        for p in net.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * p.grad
        losses.append(loss.data)
    return losses


def test_first_steps_of_the_demo_notebook(global_random):
    """DEMO was printed by micrograd 0.1.0 itself, running the notebook's cells.

    Its gradients differ from run to run in the last bits, as its children are in sets:
    so all but the first loss are compared in float32, which is far coarser.
    """
    state = np.random.get_state()
    np.random.seed(1337)
    x, y = make_moons(n_samples=100, noise=0.1)
    np.random.set_state(state)
    random.seed(1337)
    net = MLP(2, [16, 16, 1], "relu", "linear")
    losses = demo_steps(x, y * 2 - 1, net, 3)
    assert all(type(loss) is float for loss in losses)
    assert losses[0] == DEMO[0]
    assert np.float32(losses).tolist() == np.float32(DEMO).tolist()
