"""Options for the compiler are given where it knows them, and only there."""

import jax
import pytest

from funcgrad.fast import options


@pytest.fixture(autouse=True)
def afresh():
    options.compiler_options.cache_clear()
    yield
    options.compiler_options.cache_clear()


@pytest.mark.parametrize("is_group", [True, False])
def test_what_a_cpu_is_told_compiles(is_group):
    given = options.compiler_options("cpu", is_group=is_group)
    known = {"xla_cpu_prefer_vector_width"}
    if is_group:
        known.add("xla_cpu_experimental_ynn_fusion_type")
    assert set(given) <= known
    assert jax.jit(lambda: 1, compiler_options=given)() == 1


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu", "METAL"])
def test_other_platforms_are_told_nothing(platform):
    assert options.compiler_options(platform, is_group=True) == {}


def test_an_option_that_is_not_known_is_left_out_and_the_other_is_given(monkeypatch):
    real = jax.jit

    def jit(f, compiler_options):
        if "xla_cpu_experimental_ynn_fusion_type" in compiler_options:
            raise RuntimeError("No such compile option: x")
        return real(f)

    monkeypatch.setattr(options.jax, "jit", jit)
    given = options.compiler_options("cpu", is_group=True)
    assert set(given) == {"xla_cpu_prefer_vector_width"}


def test_any_other_error_is_nobody_s_to_hide(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(options.jax, "jit", refuse)
    with pytest.raises(RuntimeError, match="out of memory"):
        options.compiler_options("cpu", is_group=True)
