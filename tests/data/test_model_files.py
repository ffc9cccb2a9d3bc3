"""Model files that were damaged or made up: a sentence, or the same predictions."""

import json
import math
import tracemalloc
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.data import Category, Number, Predictor
from funcgrad.data.predictor import MOST_LAYERS
from funcgrad.errors import InputError

SAVED = Path(__file__).with_name("saved_by_0.1.0")
ASKED = {"length": [1.5, -2.0, 40.0], "colour": ["blue", "red", "blue"]}


def three_classes():
    """Return a net on a number and a text that tells three classes apart."""
    random = np.random.default_rng(0)
    layers = [
        fg.Layer(random.normal(size=(n, m)).astype("f"), np.ones(m, "f"))
        for n, m in ((3, 4), (4, 3))
    ]
    inputs = (Number("length", 2.5, 0.75), Category("colour", ("blue", "red")))
    target = Category("kind", ("a", "b", "c"))
    sizes = (3, 4, 3)
    return Predictor(sizes, "tanh", "cross_entropy", inputs, target, tuple(layers))


def said(predictor):
    values, certainty = predictor.predict(ASKED)
    return values.tolist(), certainty.tolist()


@pytest.fixture
def saved(tmp_path):
    three_classes().save(tmp_path / "model")
    return tmp_path / "model"


def flipped(path, content, expected):
    """Change each byte in three ways; count those refused, and those that say it."""
    refused = same = 0
    for place in range(len(content)):
        for mask in (0x01, 0x20, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= mask
            path.write_bytes(damaged)
            try:
                predictor = Predictor.load(path)
            except InputError as error:
                assert "\n" not in str(error)
                assert path.name in str(error)
                refused += 1
                continue
            assert said(predictor) == expected, (place, mask)
            same += 1
    return refused, same


def test_a_byte_that_changed_is_seen_or_changes_nothing(saved, record_property):
    content, expected = saved.read_bytes(), said(Predictor.load(saved))
    assert expected == said(three_classes())
    refused, same = flipped(saved, content, expected)
    record_property("model file: bytes flipped, refused", refused)
    record_property("model file: bytes flipped, unchanged", same)
    assert refused + same == 3 * len(content)
    assert refused > 0.97 * 3 * len(content)


def description(saved):
    """Return what the file tells of the model, and its checksum."""
    about = json.loads(fg.load_metadata(saved)["funcgrad"])
    return about, about.pop("sha256", None)


def rewritten(saved, text, params=None):
    """Write the file again with another description."""
    params = three_classes().params if params is None else params
    fg.save(saved, params, {"funcgrad": text})


def test_the_same_model_is_the_same_file(saved, tmp_path):
    for _ in range(5):
        three_classes().save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_the_flips_would_be_seen_if_nothing_were_checked(saved):
    expected = said(three_classes())
    rewritten(saved, json.dumps(description(saved)[0]))
    with pytest.raises((AssertionError, InputError)):
        flipped(saved, saved.read_bytes(), expected)


@pytest.mark.parametrize("name", ["moons", "mixed", "quantity"])
def test_a_file_of_0_1_0_has_no_checksum_and_gets_one_when_saved(name, tmp_path):
    old = SAVED / f"{name}.safetensors"
    assert description(old)[1] is None
    Predictor.load(old).save(tmp_path / "new")
    assert len(description(tmp_path / "new")[1]) == 64
    first, new = Predictor.load(old), Predictor.load(tmp_path / "new")
    assert new._replace(params=None) == first._replace(params=None)
    assert new.provenance == {"funcgrad": "0.1.0"}
    for a, b in zip(new.params, first.params, strict=True):
        assert np.array_equal(a.w, b.w)
        assert np.array_equal(a.b, b.b)


NUMBER = {"kind": "number", "name": "length", "mean": 2.5, "scale": 0.75}
TEXT = {"kind": "text", "name": "colour", "values": ["blue", "red"]}
HUGE = 10**400

MADE_UP = {
    "no format": ({"format": None}, "format None, where 1 is known"),
    "no sizes": ({"sizes": []}, "a net must have from 1 to 1000 layers"),
    "one size": ({"sizes": [3]}, "a net must have from 1 to 1000 layers"),
    "a size of 0": ({"sizes": [3, 0, 3]}, "each of at least 1 neuron"),
    "a size below 0": ({"sizes": [3, -4, 3]}, "each of at least 1 neuron"),
    "a size of a half": ({"sizes": [3, 4.0, 3]}, "sizes must be whole numbers"),
    "a size of text": ({"sizes": [3, "4", 3]}, "sizes must be whole numbers"),
    "sizes in sizes": ({"sizes": [3, [4], 3]}, "sizes must be whole numbers"),
    "sizes by name": ({"sizes": {"3": 4}}, "sizes must be whole numbers"),
    "huge": ({"sizes": [3, 10**9, 3]}, "the net is larger than the file"),
    "vast": ({"sizes": [3, HUGE, 3]}, "the net is larger than the file"),
    "100,000 layers": ({"sizes": [3] * 100_001}, "a net must have from 1 to 1000 lay"),
    "other sizes": ({"sizes": [3, 5, 3]}, "leaf '0.w' must be float32 of shape (3, 5)"),
    "no activation": ({"activation": ["tanh"]}, "activation must be a name"),
    "no loss": ({"loss": {}}, "loss must be a name"),
    "new activation": ({"activation": "gelu"}, "gelu with cross_entropy is not known"),
    "a loss of one": ({"loss": "hinge"}, "hinge takes one output, got 3"),
    "no columns": ({"inputs": []}, "the columns do not fit the net"),
    "columns of None": ({"inputs": None}, "its description has another form"),
    "a column in a column": ({"inputs": [[NUMBER], TEXT]}, "a column must have a name"),
    "a name of a name": ({"inputs": [NUMBER | {"name": ["a"]}, TEXT]}, "must be text"),
    "no name": ({"inputs": [{"kind": "number"}, TEXT]}, "'name' is missing"),
    "no kind": ({"inputs": [{"name": "length"}, TEXT]}, "'kind' is missing"),
    "new kind": ({"inputs": [NUMBER | {"kind": "date"}, TEXT]}, "of no kind that is"),
    "no scale": ({"inputs": [NUMBER | {"scale": 0}, TEXT]}, "must be above 0"),
    "nan scale": ({"inputs": [NUMBER | {"scale": math.nan}, TEXT]}, "must be finite"),
    "inf mean": ({"inputs": [NUMBER | {"mean": math.inf}, TEXT]}, "must be finite"),
    "vast mean": ({"inputs": [NUMBER | {"mean": HUGE}, TEXT]}, "too large to convert"),
    "mean of text": ({"inputs": [NUMBER | {"mean": "2"}, TEXT]}, "must be finite"),
    "no values": ({"inputs": [NUMBER, TEXT | {"values": []}]}, "have a list of values"),
    "values of text": ({"inputs": [NUMBER, TEXT | {"values": "ab"}]}, "have a list of"),
    "numbers": ({"inputs": [NUMBER, TEXT | {"values": [1, 2]}]}, "must be text, got i"),
    "twice": ({"inputs": [NUMBER, TEXT | {"values": ["a", "a"]}]}, "has a value twice"),
    "no UTF-8": ({"inputs": [NUMBER, TEXT | {"name": "\ud800"}]}, "surrogates not all"),
    "no target": ({"target": None}, "a column must have a name and a kind"),
    "two classes": ({"target": TEXT}, "the target does not fit the net"),
    "one class": ({"target": TEXT | {"values": ["a"]}}, "the target does not fit"),
    "a number": ({"target": NUMBER}, "the target does not fit the net"),
    "made by a list": ({"provenance": ["me"]}, "its provenance must be text and num"),
    "made of nothing": ({"provenance": None}, "its provenance must be text and numb"),
    "made in a tree": ({"provenance": {"a": {"b": 1}}}, "its provenance must be text"),
    "a version of 2": ({"version": [2]}, "its provenance must be text and numbers"),
}


@pytest.mark.parametrize("case", MADE_UP)
def test_made_up_descriptions_are_one_sentence(saved, case):
    change, sentence = MADE_UP[case]
    rewritten(saved, json.dumps(description(saved)[0] | change))
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            Predictor.load(saved)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sentence in str(caught.value)
    assert "is damaged, or of another version of funcgrad (" in str(caught.value)
    assert str(caught.value).endswith("): train again")
    # Python's objects for what the file says, and a megabyte for JAX's own.
    assert peak < 20 * saved.stat().st_size + 2**20


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Expecting value"),
        ("[]", "its description has another form"),
        ("{}", "'inputs' is missing"),
        ("1" * 5000, "limit"),
        ("[" * 100_000, "its description is nested too deep"),
        ('{"inputs":' * 100_000, "its description is nested too deep"),
    ],
)
def test_descriptions_that_are_none(saved, text, sentence):
    rewritten(saved, text)
    with pytest.raises(InputError, match=sentence):
        Predictor.load(saved)


def test_how_it_was_made_is_kept_and_belongs_to_the_checksum(saved):
    made = {"command": "funcgrad train \x1b[31m", "steps": 3, "seconds": 0.5}
    three_classes()._replace(provenance=made).save(saved)
    assert Predictor.load(saved).provenance == made
    text = fg.load_metadata(saved)["funcgrad"]
    assert '"steps": 3' in text
    rewritten(saved, text.replace('"steps": 3', '"steps": 4'))
    with pytest.raises(InputError, match="its checksum is that of another model"):
        Predictor.load(saved)


def test_what_is_no_provenance_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="its provenance must be text and numbers"):
        three_classes()._replace(provenance={"a": [1]}).save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_parameters_that_are_no_numbers_are_neither_saved_nor_loaded(saved, wrong):
    whole = saved.read_bytes()
    first, last = three_classes().params
    params = (first, last._replace(b=last.b * np.float32([1, wrong, 1])))
    with pytest.raises(InputError, match="must be finite numbers, got inf or nan"):
        three_classes()._replace(params=params).save(saved)
    assert saved.read_bytes() == whole
    rewritten(saved, json.dumps(description(saved)[0]), params)
    with pytest.raises(InputError, match="must be finite numbers, got inf or nan"):
        Predictor.load(saved)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    good = three_classes()
    for change, sentence in [
        ({"sizes": (3, 5, 3)}, r"must have shapes \[\(3, 5\), \(5,\).* got \[\(3, 4\)"),
        ({"target": Category("kind", ("a", "b"))}, "the target does not fit the net"),
        ({"inputs": (Number("a", 0.0, 0.0),)}, "scale of column 'a' must be above 0"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            good._replace(**change).save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_checksum_of_another_model_is_refused(saved):
    text = fg.load_metadata(saved)["funcgrad"]
    first, last = three_classes().params
    other = (first, last._replace(b=last.b * 2))
    rewritten(saved, text, other)
    with pytest.raises(InputError, match="its checksum is that of another model"):
        Predictor.load(saved)


def test_no_net_is_deeper_than_a_file_may_hold(tmp_path):
    one = fg.Layer(np.ones((1, 1), "f"), np.zeros(1, "f"))
    x, y = Number("x", 0.0, 1.0), Number("y", 0.0, 1.0)
    for layers in (MOST_LAYERS, MOST_LAYERS + 1):
        sizes, params = (1,) * (layers + 1), (one,) * layers
        net = Predictor(sizes, "tanh", "mean_squared_error", (x,), y, params)
        if layers == MOST_LAYERS:
            net.save(tmp_path / "model")
            assert len(Predictor.load(tmp_path / "model").params) == layers
        else:
            with pytest.raises(ValueError, match="from 1 to 1000 layers"):
                net.save(tmp_path / "model")


def test_other_dtypes_are_named(saved):
    params = [
        p._replace(w=jnp.asarray(p.w, "bfloat16")) for p in three_classes().params
    ]
    rewritten(saved, json.dumps(description(saved)[0]), tuple(params))
    with pytest.raises(InputError, match=r"'0.w' must be float32 .* got bfloat16"):
        Predictor.load(saved)
