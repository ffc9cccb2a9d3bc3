"""What an argument must be, and the sentence where it is something else."""

import jax
import numpy as np
import pytest

from funcgrad import arguments


@pytest.mark.parametrize("value", [3, np.int64(3), np.int8(3), np.uint32(3)])
def test_whole_numbers_of_python_and_numpy_are_taken(value):
    number = arguments.whole_number(value)
    assert number == 3 and type(number) is int
    assert type(arguments.at_least(3, "n", value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float32(3), "3", None, [3]])
def test_everything_else_is_none(value):
    assert arguments.whole_number(value) is None
    with pytest.raises(ValueError, match="n must be a whole number of at least 0, got"):
        arguments.at_least(0, "n", value)


def test_too_small_is_said():
    with pytest.raises(ValueError, match="n must be a whole number of at least 2, got"):
        arguments.at_least(2, "n", 1)


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0)])
def test_a_key_of_either_kind_is_taken_alone_or_mapped(key):
    arguments.check_key("init", key)
    keys = jax.random.split(key, 3)
    jax.vmap(lambda key: arguments.check_key("init", key) or 0.0)(keys)
    with pytest.raises(ValueError, match=r"init needs one random key, got .* of shape"):
        arguments.check_key("init", keys)


@pytest.mark.parametrize("key", [0, None, np.zeros(2), np.uint32(0)])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ValueError, match="init needs one random key, got"):
        arguments.check_key("init", key)


def test_functions():
    arguments.check_function("activation", len, "jax.nn.relu")
    with pytest.raises(
        ValueError,
        match=r"activation must be a function, such as jax\.nn\.relu, got 'relu'",
    ):
        arguments.check_function("activation", "relu", "jax.nn.relu")


def test_what_has_no_hash_gets_one():
    class Unhashable:
        __hash__ = None

        def __call__(self, x):
            return x + 1

    f = Unhashable()
    assert arguments.hashable(len) is len
    assert arguments.hashable(f)(1) == 2
    assert hash(arguments.hashable(f)) is not None
    assert not arguments.has_hash(f)
