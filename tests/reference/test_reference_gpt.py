"""The GPT over scalars: its pieces, its layout, its loop, one token at a time."""

import math
import random
from fractions import Fraction

import pytest

import reference.gpt
from reference import GPT, Ball, Module, Value
from reference.gpt import attend, gelu, layer_norm, linear, rms_norm, softmax

SIZES = {"context": 3, "width": 4, "layers": 2, "heads": 2}
TOKENS = [3, 0, 4, 1]


def model(seed=0, **changes):
    return GPT(5, **SIZES | changes, rng=random.Random(seed))


def values(*numbers):
    return [Value(n) for n in numbers]


def data(nested):
    return nested.data if isinstance(nested, Value) else [data(n) for n in nested]


# The pieces, where they are exact ---------------------------------------------------


def test_linear_has_one_row_for_each_input():
    w = [values(1, 2, 3), values(10, 20, 30)]
    assert data(linear(values(2, -1), w)) == [-8, -16, -24]


def test_softmax_of_equal_numbers_is_exact():
    assert data(softmax(values(0.0, 0.0))) == [0.5, 0.5]
    first, second = softmax(values(Ball(0), Ball(3).log()))
    assert (float(first.data), float(second.data)) == (0.25, 0.75)


def test_norms_are_their_formulas():
    """The mean square is 4 - 1e-5, as a fraction, so that the root is exactly 2.

    Balls of 128 bits are off by some 1e-38.
    """
    gain = values(*map(Ball, (1, 2, -3)))
    side = (6 - Ball(1e-5) * Fraction(3, 2)) ** 0.5
    x = [Value(3 + s) for s in (side, Ball(0), -side)]
    expected = [side / 2, 0, side * 3 / 2]
    for given, truth in zip(layer_norm(gain, x), expected, strict=True):
        assert abs(float((given.data - truth).arb)) < 1e-30
    centred = [xi - 3 for xi in x]
    for given, truth in zip(rms_norm(gain, centred), expected, strict=True):
        assert abs(float((given.data - truth).arb)) < 1e-30


def test_gelu_at_its_ends():
    assert gelu(Value(0.0)).data == 0
    assert gelu(Value(100.0)).data == 100
    assert gelu(Value(-100.0)).data == 0


def test_attend_is_a_mean_of_the_values_where_scores_are_equal():
    keys, seen = [values(0, 1), values(0, 5)], [values(1, 2), values(3, 6)]
    assert data(attend(values(1.0, 0.0), keys, seen)) == [2, 4]


def test_attend_divides_scores_by_the_root_of_the_head_width(monkeypatch):
    monkeypatch.setattr(reference.gpt, "softmax", lambda scores: scores)
    query, key = values(*map(Fraction, (1, 2, 3, 4))), values(1, 1, 1, 1)
    assert data(attend(query, [key], [values(2, 1)])) == [10, 5]


# The net ----------------------------------------------------------------------------


def test_loss_of_a_net_that_knows_nothing_is_the_logarithm_of_the_vocabulary():
    net = model()
    for row in net.tokens:
        for value in row:
            value.data = 0.0
    assert net.loss(TOKENS).data == pytest.approx(math.log(5), rel=1e-15)  # some ulps


def test_no_logit_depends_on_a_later_token():
    whole = data(model()(TOKENS[:3]))
    other = data(model()([*TOKENS[:2], 1]))
    assert whole[:2] == other[:2] and whole[2] != other[2]
    net = model()
    past = net.start()
    assert [data(net.step(past, token)) for token in TOKENS[:3]] == whole


def test_start_is_fresh_each_time():
    net = model()
    assert data(net(TOKENS[:3])) == data(net(TOKENS[:3]))


def test_every_parameter_counts_once():
    net = model()
    assert isinstance(net, Module)
    parameters = net.parameters()
    assert len(set(parameters)) == len(parameters) == 5 * 4 + 3 * 4 + 2 * 200 + 4
    net.loss(TOKENS).backward()
    unused = {p for p in parameters if p.grad == 0}
    assert unused == set()
    net.zero_grad()
    assert all(p.grad == 0 for p in parameters)


def test_a_net_learns_a_line_by_heart():
    net = model(norm=rms_norm, activation=Value.relu, layers=1)
    losses = []
    for _ in range(60):
        loss = net.loss(TOKENS)
        net.zero_grad()
        loss.backward()
        for p in net.parameters():
            p.data -= 0.5 * p.grad
        losses.append(loss.data)
    assert losses[0] > 1.5 and losses[-1] < 0.1


def test_weights_are_drawn_as_in_gpt_2():
    """A deviation of 5 % is 3.5 standard errors of 2,400 draws."""
    net = GPT(200, context=1, width=12, layers=2, heads=1, rng=random.Random(0))

    def deviation(matrix):
        numbers = [v.data for row in matrix for v in row]
        return math.sqrt(sum(x * x for x in numbers) / len(numbers))

    assert deviation(net.tokens) == pytest.approx(0.02, rel=0.05)
    down = [row for block in net.blocks for row in block.down]
    assert deviation(down) == pytest.approx(0.01, rel=0.08)  # 1,152 draws
    assert {v.data for v in [*net.norm, *net.blocks[0].feed_norm]} == {1.0}
    again = GPT(200, context=1, width=12, layers=2, heads=1, rng=random.Random(0))
    assert again.to_params() == net.to_params()


def test_params_there_and_back():
    net = model()
    params = net.to_params()
    tokens, positions, blocks, norm = params
    assert (len(tokens), len(positions), len(blocks), norm) == (5, 3, 2, [1.0] * 4)
    assert [len(p) for p in blocks[0]] == [4, 4, 4, 4, 4, 16]
    assert [len(blocks[0][i][0]) for i in (1, 2, 4, 5)] == [12, 4, 16, 4]
    again = GPT.from_params(params, heads=2)
    assert again.to_params() == params
    assert data(again(TOKENS[:3])) == data(net(TOKENS[:3]))
    other = GPT.from_params(params, heads=1)
    assert data(other(TOKENS[:3])) != data(net(TOKENS[:3]))


@pytest.mark.parametrize("number", [Fraction, Ball])
def test_params_become_the_numbers_asked_for(number):
    exact = GPT.from_params(model().to_params(), heads=2, number=number)
    assert {type(p.data) for p in exact.parameters()} == {number}


def test_in_fractions_where_all_is_rational(monkeypatch):
    monkeypatch.setattr(reference.gpt, "softmax", lambda scores: scores)
    net = GPT.from_params(
        model(heads=4).to_params(),
        heads=4,
        activation=Value.relu,
        norm=lambda gain, x: [g * xi for g, xi in zip(gain, x, strict=True)],
        number=Fraction,
    )
    logits = net(TOKENS[:3])
    sum(logits[-1]).backward()
    assert all(type(p.grad) is Fraction for p in net.parameters() if p.grad)


def test_fractions_meet_a_root():
    net = GPT.from_params(model().to_params(), heads=2, number=Fraction)
    with pytest.raises(TypeError, match=r"Fraction .* use reference.numbers.Ball"):
        net.loss(TOKENS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model(heads=3), "heads that divide the width, got .* heads=3"),
        (lambda: model(layers=0), "at least 1, .* got .* layers=0"),
        (lambda: model()([5]), "a token must be 0 to 4, got 5"),
        (lambda: model()([-1]), "a token must be 0 to 4, got -1"),
        (lambda: model()(TOKENS), "this GPT sees 3 tokens, got one more: begin again"),
        (lambda: model().loss([1]), "needs two tokens, .* got 1"),
        (
            lambda: GPT.from_params((*model(width=2).to_params()[:3], [1.0]), heads=2),
            r"params\[3\] needs 2 entries, .* got 1",
        ),
        (
            lambda: GPT.from_params((*model(width=2).to_params()[:3], 1.0), heads=2),
            r"params\[3\] needs 2 entries, .* got one number",
        ),
        (
            lambda: GPT.from_params([([[1.0]], [0.0])], heads=1),
            r"four parts, \(tokens, positions, blocks, norm\), got 1",
        ),
    ],
)
def test_what_cannot_be_built_or_called(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_params_of_another_shape_are_named():
    tokens, positions, blocks, norm = model().to_params()
    blocks[1][1][2].append(0.0)
    with pytest.raises(ValueError, match=r"params\[2\]\[1\]\[1\]\[2\] needs 12 .* 13"):
        GPT.from_params((tokens, positions, blocks, norm), heads=2)


def test_name():
    assert repr(model()) == "GPT(vocab=5, context=3, width=4, layers=2, heads=2)"
