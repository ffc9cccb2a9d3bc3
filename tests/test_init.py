"""What `import funcgrad` does and does not do."""

import os
import subprocess
import sys


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
