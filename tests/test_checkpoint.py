"""Checkpoints: what goes in comes out, whole or not at all."""

import json
import os
import struct
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import funcgrad as fg


class Pair(NamedTuple):
    left: object
    right: object


DTYPES = [
    "bfloat16",
    "float16",
    "float32",
    "int8",
    "int16",
    "int32",
    "uint8",
    "uint16",
    "uint32",
    "bool",
    "complex64",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype):
    leaf = jnp.arange(6).reshape(2, 3).astype(dtype)
    fg.save(tmp_path / "a", leaf)
    back = fg.load(tmp_path / "a", leaf)
    assert back.dtype == leaf.dtype
    assert np.asarray(back).tobytes() == np.asarray(leaf).tobytes()


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64"])
def test_wide_dtypes_come_back_where_they_are_on(tmp_path, dtype):
    leaf = np.array([1, 2**40 + 1], dtype)
    fg.save(tmp_path / "a", leaf)
    with jax.enable_x64(True):
        back = fg.load(tmp_path / "a", leaf)
    assert back.dtype == leaf.dtype
    assert np.array_equal(back, leaf)
    with pytest.raises(ValueError, match=r"'value' is of dtype .*64, which JAX keeps"):
        fg.load(tmp_path / "a", leaf)


def test_structure_comes_from_like(tmp_path):
    tree = {
        "pair": Pair(jnp.zeros((0, 3)), [jnp.float32(2), None]),
        "numbers": (1, 2.5, True),
        "view": np.arange(6.0, dtype="f").reshape(2, 3).T,
    }
    fg.save(tmp_path / "a", tree)
    back = fg.load(tmp_path / "a", tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert np.array_equal(a, b)


def test_a_state_goes_on_from_the_file_as_if_nothing_had_happened(tmp_path):
    optimizer = optax.adam(0.1)
    model = fg.mlp([2, 3, 1])
    data = (jnp.ones((4, 2)), jnp.zeros((4, 1)))
    objective = fg.objective(model, fg.squared_error)
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    state, _ = fg.train(objective, optimizer, state, data, steps=3)
    fg.save(tmp_path / "a", state)
    names = safetensors.numpy.load_file(tmp_path / "a").keys()
    assert {"params.0.w", "params.1.b", "step"} <= names

    back = fg.load(tmp_path / "a", jax.eval_shape(lambda: state))
    after, _ = fg.train(objective, optimizer, state, data, steps=2)
    after_back, _ = fg.train(objective, optimizer, back, data, steps=2)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(after_back), strict=True):
        assert np.array_equal(a, b)


def test_metadata_is_text_and_comes_back(tmp_path):
    fg.save(tmp_path / "a", 1.0, {"note": "grüß dich", "empty": ""})
    assert fg.load_metadata(tmp_path / "a") == {"note": "grüß dich", "empty": ""}
    with pytest.raises(ValueError, match="metadata must be text, got int for 'n'"):
        fg.save(tmp_path / "b", 1.0, {"n": 1})
    with pytest.raises(ValueError, match="metadata must be text, got int for 1: conv"):
        fg.save(tmp_path / "b", 1.0, {1: "n"})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("like", "sentence"),
    [
        ({"w": jnp.ones(3), "b": jnp.ones(1)}, r"'w' must be float32 of shape \(3,\)"),
        ({"w": jnp.ones(2, "int32"), "b": jnp.ones(1)}, "'w' must be int32 of shape"),
        ({"w": jnp.ones(2)}, "holds 'b', which `like` has no place for"),
        (
            {"w": jnp.ones(2), "b": jnp.ones(1), "c": jnp.ones(1)},
            "a has no leaf 'c', which `like` asks for: pass .* of the leaves 'b', 'w'$",
        ),
        (
            {"w": jnp.ones(2), "c": jnp.ones(1), "d": jnp.ones(1)},
            "a holds 'b', which `like` has no place for and has no leaf 'c', 'd', which"
            " `like` asks for: pass the tree that was saved",
        ),
    ],
)
def test_a_mismatch_names_the_leaf(tmp_path, like, sentence):
    fg.save(tmp_path / "a", {"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match=sentence):
        fg.load(tmp_path / "a", like)


def test_leaves_that_are_no_numbers_are_refused(tmp_path):
    for leaf in (jax.random.key(0), "text", np.array(["text"]), object()):
        with pytest.raises(ValueError, match="leaf 'a' must be an array of numbers"):
            fg.save(tmp_path / "a", {"a": leaf})
    with pytest.raises(ValueError, match=r"two leaves of the tree are named 'a\.b'"):
        fg.save(tmp_path / "a", {"a": {"b": 1.0}, "a.b": 2.0})
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    for tree in ({}, (), None, {"a": [None, ()]}):
        with pytest.raises(ValueError, match="at least one array, got one without lea"):
            fg.save(tmp_path / "a", tree)
    with pytest.raises(ValueError, match="no leaf can be named '__metadata__', as"):
        fg.save(tmp_path / "a", {"__metadata__": 1.0, "b": 1.0})
    assert list(tmp_path.iterdir()) == []
    fg.save(tmp_path / "a", {"b": {"__metadata__": 1.0}})  # named b.__metadata__
    assert fg.load(tmp_path / "a", {"b": {"__metadata__": 0.0}})["b"]["__metadata__"]


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("nowhere", "no/where", "file"):
        with pytest.raises(
            ValueError, match=f"save needs a folder that exists, got .*/{folder}: make"
        ):
            fg.save(tmp_path / folder / "a", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_damaged_and_foreign_files_are_named(tmp_path):
    whole = tmp_path / "whole"
    fg.save(whole, jnp.ones(100))
    content = whole.read_bytes()
    for name, wrong in {
        "cut": content[:-1],
        "empty": b"",
        "long": content + b"x",
        "text": b"a,b\n1,2\n" * 50,
    }.items():
        path = tmp_path / name
        path.write_bytes(wrong)
        for read in (lambda p: fg.load(p, jnp.ones(100)), fg.load_metadata):
            with pytest.raises(ValueError, match=f"{name} is not a whole safetensors"):
                read(path)
    assert fg.load(whole, jnp.ones(100)).sum() == 100


@pytest.mark.parametrize("shape", [[0, 2**62], [0, 2**64 - 1], [0] * 70])
def test_shapes_that_no_array_can_have_are_told(tmp_path, shape):
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header = json.dumps({"value": tensor}).encode()
    path = tmp_path / "crafted"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="crafted is not a whole safetensors file: "):
        fg.load(path, jnp.ones(1))


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    fg.save(tmp_path / "a", jnp.ones(2), {"run": "old"})

    def fail(*_):
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(OSError, match="disk full"):
                fg.save(tmp_path / "a", jnp.zeros(2), {"run": "new"})
        assert os.listdir(tmp_path) == ["a"]
        assert fg.load_metadata(tmp_path / "a") == {"run": "old"}
        assert fg.load(tmp_path / "a", jnp.ones(2)).sum() == 2


def test_leaves_go_where_those_of_like_are(tmp_path):
    device = jax.devices()[-1]
    like = jax.device_put(jnp.zeros(3), device)
    fg.save(tmp_path / "a", jnp.arange(3.0))
    assert fg.load(tmp_path / "a", like).sharding == like.sharding
