"""Options for the compiler are given where it knows them, and only there."""

import jax
import pytest

from funcgrad.fast import options


@pytest.fixture(autouse=True)
def afresh():
    options.compiler_options.cache_clear()
    yield
    options.compiler_options.cache_clear()


def test_what_a_cpu_is_told_compiles():
    given = options.compiler_options("cpu")
    assert given is None or set(given) == {"xla_cpu_experimental_ynn_fusion_type"}
    assert jax.jit(lambda: 1, compiler_options=given)() == 1


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu", "METAL"])
def test_other_platforms_are_told_nothing(platform):
    assert options.compiler_options(platform) is None


@pytest.mark.parametrize(
    ("message", "is_unknown"), [("No such compile option: x", True), ("no", False)]
)
def test_an_option_that_is_not_known_is_left_out(monkeypatch, message, is_unknown):
    def refuse(*_, **__):
        raise RuntimeError(message)

    monkeypatch.setattr(options.jax, "jit", refuse)
    if is_unknown:
        assert options.compiler_options("cpu") is None
    else:
        with pytest.raises(RuntimeError, match="no"):
            options.compiler_options("cpu")
