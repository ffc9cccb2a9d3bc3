"""What `import funcgrad` does and does not do."""

import os
import subprocess
import sys


def touches_a_device(program):
    """Tell whether a program fails where JAX knows no device at all."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "no_such_platform"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "no_such_platform" in done.stderr
    return done.returncode != 0


def test_importing_touches_no_device():
    rooms = "funcgrad, funcgrad.cli, funcgrad.data, funcgrad.tasks, funcgrad.testing"
    assert not touches_a_device(f"import {rooms}")
    assert touches_a_device("import jax; jax.numpy.zeros(1)")  # and it can be told
