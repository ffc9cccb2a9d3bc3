"""Text as tokens and rows: there and back, what is drawn, and what is refused."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import funcgrad as fg
from funcgrad.arguments import has_hash
from funcgrad.data import (
    Bytes,
    Characters,
    hold_out_end,
    pad,
    pydoc_text,
    read_text,
    unigram_loss,
    windows,
    windows_in_order,
)
from funcgrad.data.text import from_dict, to_dict
from funcgrad.errors import InputError
from funcgrad.run_identity import identity

KEY = jax.random.key(7)
TEXT = "Grüße,\nΔx → 0 \U0001f600\t'\"\\ and \x00 too"

# Vocabularies ------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TEXT, "a", "banana\r\n", "\U0010ffff\x00"])
def test_every_text_comes_back(text):
    for vocabulary in (Characters.fit(text), Bytes()):
        tokens = vocabulary.encode(text)
        assert tokens.dtype == np.int32
        assert tokens.min() >= 0
        assert tokens.max() < vocabulary.size
        assert vocabulary.decode(tokens) == text
        assert vocabulary.decode(jnp.asarray(tokens)) == text
        assert vocabulary.decode([]) == ""
        assert len(vocabulary.encode("")) == 0


def test_tokens_are_places_by_code_point():
    vocabulary = Characters.fit("éba\nab")
    assert vocabulary.characters == "\nabé"
    assert vocabulary.size == 4
    assert vocabulary.encode("aé\nb").tolist() == [1, 3, 0, 2]
    assert Bytes().encode("aé").tolist() == list("aé".encode())


def test_a_vocabulary_goes_through_the_metadata_of_a_model(tmp_path):
    path = tmp_path / "model.safetensors"
    for vocabulary in (Characters.fit(TEXT), Bytes()):
        fg.save(path, {"w": jnp.ones(1)}, {"text": json.dumps(to_dict(vocabulary))})
        again = from_dict(json.loads(fg.load_metadata(path)["text"]))
        assert again == vocabulary
        assert again.decode(again.encode(TEXT)) == TEXT


@pytest.mark.parametrize(
    "about",
    [
        [],
        {"kind": "words"},
        {"kind": "characters", "characters": ""},
        {"kind": "characters", "characters": ["a"]},
        {"kind": "characters", "characters": "aba"},
        {"kind": "characters", "characters": "a\ud800"},
    ],
)
def test_a_vocabulary_that_is_none_is_refused(about):
    with pytest.raises(ValueError, match=r"vocabulary|surrogates"):
        from_dict(about)


def test_bytes_that_are_no_text_are_marked():
    assert Bytes().decode([97, 195, 98]) == "a\ufffdb"


# Texts --------------------------------------------------------------------------------


def test_a_file_is_read_with_plain_line_ends(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffé\r\nb\rc\n".encode())
    assert read_text(path) == "é\nb\nc\n"


def test_python_carries_its_documentation():
    text = pydoc_text()
    assert 300_000 < len(text) < 1_000_000
    assert 'The "assert" statement' in text
    assert text == pydoc_text()


@pytest.mark.parametrize(
    ("share", "held_out"), [(0.1, 1), (0.25, 2), (0.5, 5), (0.01, 1), (0.99, 9)]
)
def test_the_end_of_a_text_is_held_out(share, held_out):
    tokens = np.arange(10)
    train, end = hold_out_end(tokens, share)
    assert len(end) == held_out
    assert np.array_equal(np.concatenate([train, end]), tokens)


# Windows ------------------------------------------------------------------------------


def test_windows_are_what_is_drawn_by_hand():
    """All starts are drawn, the first and the last too, and each row runs on."""
    tokens = np.arange(100, 110)
    data = windows(tokens, context=7, batch=64)
    rows = np.asarray(data.draw(KEY, data.source))
    assert rows.dtype == np.int32
    assert rows.shape == (64, 8)
    starts = jax.random.randint(KEY, (64,), 0, 3)
    assert set(starts.tolist()) == {0, 1, 2}
    by_hand = [tokens[start : start + 8] for start in starts.tolist()]
    assert np.array_equal(rows, by_hand)


@pytest.mark.parametrize(
    ("most", "dtype"), [(255, np.uint8), (256, np.uint16), (65_536, np.uint32)]
)
def test_tokens_travel_in_a_narrow_dtype(most, dtype):
    tokens = np.array([0, most, 1])
    data = windows(tokens, context=2, batch=1)
    assert data.source.dtype == dtype
    assert data.draw(KEY, data.source).tolist() == [[0, most, 1]]


def bigrams(table, rows):
    """Return the loss of a model that knows the last token alone."""
    return fg.cross_entropy(table[rows[:, :-1]], rows[:, 1:])


@pytest.mark.exhaustive
def test_equal_windows_are_compiled_once():
    tokens, traces = np.arange(20) % 5, 0

    def counted(table, rows):
        nonlocal traces
        traces += 1
        return bigrams(table, rows)

    def run(text, batch):
        fg.fit(
            counted, optimizer, jnp.zeros((5, 5)), windows(text, 3, batch), steps=2,
            key=KEY, progress=None,
        )  # fmt: skip

    optimizer = optax.sgd(0.5)
    run(tokens, 2)
    first = traces
    run(tokens[::-1].copy(), 2)
    assert traces == first
    run(tokens, 4)  # another batch: the guard above can fail
    assert traces > first
    assert has_hash(windows(tokens, 3, 2).draw)


def test_a_run_is_told_by_its_windows():
    optimizer, tokens = optax.sgd(0.5), np.arange(20) % 5

    def told(data):
        state = fg.init_state(jnp.zeros((5, 5)), optimizer)
        return identity(bigrams, optimizer, state, data, None, KEY)

    here = told(windows(tokens, 3, 2))
    assert told(windows(tokens, 3, 2)) == here
    other = told(windows(tokens, 4, 2))
    assert {name for name in here if here[name] != other[name]} == {
        "data", "draw", "objective",
    }  # fmt: skip


def test_the_text_is_no_constant_of_a_run():
    data = windows(np.arange(1_000_000) % 5, context=3, batch=2)
    state = fg.init_state(jnp.zeros((5, 5)), optax.sgd(0.5))
    lowered = jax.jit(
        lambda s, d: fg.train(bigrams, optax.sgd(0.5), s, d, steps=2, key=KEY)
    ).lower(state, data)
    text = lowered.as_text()
    assert "tensor<1000000xui8>" in text
    assert len(text) < 100_000
    made = lowered.compile().memory_analysis()
    assert made.temp_size_in_bytes < 100_000  # nor is it widened as a whole


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8])
def test_in_order_each_token_is_asked_for_once(n):
    tokens = np.arange(10, 10 + n)
    rows = windows_in_order(tokens, context=3)
    assert rows.dtype == np.int32
    assert rows.shape == (math.ceil((n - 1) / 3), 4)
    asked = rows[:, 1:].ravel()
    assert asked[asked >= 0].tolist() == tokens[1:].tolist()
    assert np.all(asked[n - 1 :] == -1)
    seen = rows[:, :-1].ravel()  # the last one sees itself, and is asked for nothing
    assert np.array_equal(seen[: n - 1], tokens[:-1])


# Rows of lines ------------------------------------------------------------------------


def test_lines_are_filled_and_long_ones_cut():
    lines = [[5], [], [1, 2, 3], np.array([4, 5, 6, 7], np.uint8)]
    assert pad(lines, 3, begin=0, end=9).tolist() == [
        [0, 5, 9, -1], [0, 9, -1, -1], [0, 1, 2, 3], [0, 4, 5, 6],
    ]  # fmt: skip
    assert pad(lines[2:], 4).tolist() == [[1, 2, 3, -1, -1], [4, 5, 6, 7, -1]]
    assert pad(lines[2:], 4, begin=0).tolist() == [[0, 1, 2, 3, -1], [0, 4, 5, 6, 7]]
    assert pad(lines[:1], 1, end=0).tolist() == [[5, 0]]
    assert pad(lines[:2], 2, begin=8, end=9).dtype == np.int32


# What a model must beat ---------------------------------------------------------------


def test_the_baseline_by_hand():
    """Counts 3, 1, 0 and one more each, of 7; the filling counts for nothing."""
    train, held_out = np.array([[0, 0, -1], [1, 0, -1]]), np.array([0, 1, 2, -1])
    by_hand = -(math.log(4 / 7) + math.log(2 / 7) + math.log(1 / 7)) / 3
    # Two ways of summing three logarithms differ in the last bits.
    assert math.isclose(unigram_loss(train, held_out, 3), by_hand, rel_tol=1e-15)


@pytest.mark.exhaustive
def test_a_run_on_windows_learns_more_than_counts():
    """Bigrams of a text in which each letter tells much of the next."""
    text = "the cat sat on the mat and the rat ate that. " * 20
    vocabulary = Characters.fit(text)
    train, held_out = hold_out_end(vocabulary.encode(text), 0.1)
    size = vocabulary.size
    fit = fg.fit(
        bigrams, optax.adam(0.1), jnp.zeros((size, size)), windows(train, 8, 16),
        steps=200, key=KEY, progress=None,
    )  # fmt: skip
    loss = float(bigrams(fit.state.params, np.stack([held_out])))
    baseline = unigram_loss(train, held_out, size)
    assert math.isclose(float(fit.history.loss[0]), math.log(size), rel_tol=1e-5)
    assert loss < 0.6 * baseline
    # An exact count of pairs is the floor that such a model can reach.
    assert loss > 0.3 * baseline


# Bad input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Characters.fit(""), "at least one character, got none"),
        (
            lambda: Characters.fit("ab").encode("abé?"),
            "of the 2 characters of the vocabulary, got 'é' as character 3 and 1 more: "
            "leave it out",
        ),
        (lambda: Characters.fit("ab").encode("\U0010ffff"), "got '\\\\U0010ffff' as"),
        (lambda: Bytes().encode("a\udc80"), "that UTF-8 can write, got '\\\\udc80' as"),
        (lambda: Characters.fit("a").encode("\ud800"), "that UTF-8 can write"),
        (lambda: Characters.fit("ab").decode([0, 2, -1]), "from 0 to 1, got 2 and 1"),
        (lambda: Bytes().decode([256]), "from 0 to 255, got 256:"),
        (lambda: Bytes().decode([0.5]), "whole numbers of shape .n,., got float64"),
        (lambda: Bytes().decode([[1]]), r"got int64 of shape \(1, 1\)"),
        (lambda: windows([0, 1, 2], 3, 1), "more tokens than the context of 3, got 3"),
        (lambda: windows([0, -1, 2], 1, 1), "tokens must be from 0 to .*, got -1"),
        (lambda: windows([0, 1, 2], 0, 1), "context must be a whole number of at"),
        (lambda: windows([0, 1, 2], 1, 0.5), "batch must be a whole number of at"),
        (lambda: windows_in_order([0], 3), "two tokens at least, .* got 1: give a"),
        (lambda: windows_in_order([0, 1], 0), "context must be a whole number of"),
        (lambda: pad([], 3), "at least one sequence, got none"),
        (lambda: pad([[1], [2, 3], []], 3), "two tokens .* got 1 in sequence 1 and 1"),
        (lambda: pad([[], []], 3, begin=0), "got 1 in sequence 1 and 1 more: leave"),
        (lambda: pad([[1, -1]], 3), "from 0 to .*, got -1"),
        (lambda: pad([[1, 2]], 3, begin=-1), "begin must be a whole number"),
        (lambda: pad([[1, 2]], 3, end=1.5), "end must be a whole number"),
        (lambda: hold_out_end("abc", 1), "share must be a number between 0 and 1"),
        (lambda: hold_out_end("a", 0.5), "two tokens at least, .* got 1: give"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: give a text file"),
        (b" \n\t", "is empty"),
        (b"ab\xff", "is not text in UTF-8, as its byte 3 shows: save it as"),
        ("text".encode("utf-16"), "is not text in UTF-8"),
        (b"a\0b", "holds NUL bytes"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, sentence):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_text(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*nowhere: check"):
        read_text(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a folder: give a text file"):
        read_text(Path(tmp_path))


def test_a_python_without_its_documentation_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match="without pydoc_data, its own documentation"):
        pydoc_text()
