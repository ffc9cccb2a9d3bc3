"""What `import funcgrad` does and does not do."""

import os
import subprocess
import sys

import pytest


@pytest.mark.exhaustive
def test_importing_touches_no_device():
    """Where JAX knows no device at all, the first array fails and no import does."""
    rooms = "funcgrad, funcgrad.cli, funcgrad.data, funcgrad.tasks, funcgrad.testing"
    program = f"import {rooms}; print('imported'); import jax; jax.numpy.zeros(1)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "no_such_platform"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "imported\n", done.stderr
    assert done.returncode != 0
    assert "no_such_platform" in done.stderr


@pytest.mark.exhaustive
def test_what_most_runs_never_need_is_not_imported():
    """Each of these takes milliseconds, of every program that imports funcgrad."""
    late = {
        "funcgrad.cli", "funcgrad.data", "funcgrad.hosts", "funcgrad.shared_members",
        "funcgrad.shared_run", "funcgrad.tasks", "funcgrad.testing",
        "jax.experimental.multihost_utils", "jax.extend", "matplotlib", "polars",
        "reference",
    }  # fmt: skip
    program = "import sys, funcgrad; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "funcgrad.fitting" in done.stdout.split()
    assert late & set(done.stdout.split()) == set()
