"""The doctor finds a healthy device healthy, and a sick one sick."""

import jax.numpy as jnp
import numpy as np

from funcgrad.testing import doctor


def test_healthy_device():
    findings = list(doctor.examine())
    assert len(findings) > 30
    assert [f for f in findings if not f.ok] == []


def test_versions_and_device_are_named():
    assert set(doctor.describe_device()) >= {"device", "jax", "jaxlib", "python"}


def test_one_wrong_number_is_found():
    x = np.arange(6).reshape(2, 3)
    finding = doctor.on_integers(
        "a product", lambda x: (x * 2 + (x == 4),), (x,), (x * 2,)
    )
    assert finding.verdict == "compiler"
    assert "(1, 1): 9.0 instead of 8" in finding.detail
    assert finding.advice


def test_reduced_precision_is_found(monkeypatch):
    """bfloat16 operands stand in for TF32, which a CPU has not."""

    def sloppy(x, w):
        return x @ w

    real = doctor.check_gradients

    def check(f, x, w, argnums):
        def lower(x, w):
            g = jnp.ones((x.shape[0], w.shape[1]))
            half = [a.astype(jnp.bfloat16).astype(jnp.float32) for a in (x, w)]
            return np.asarray(g @ half[1].T), np.asarray(half[0].T @ g)

        ones = jnp.ones((x.shape[0], w.shape[1]))
        return real(f, x, w, argnums=argnums, grad=lower, cotangents=ones)

    monkeypatch.setattr(doctor, "check_gradients", check)
    x = jnp.linspace(-1, 1, 32).reshape(4, 8)
    finding = doctor.proof("products", sloppy, x, x.T, argnums=(0, 1))
    assert not finding.ok


def test_integer_sums_stay_exact_in_float32():
    assert 40_000 * 3 * 3 * 3 < 2**24
