"""Programs that run as several processes of this machine, and end with the test."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import funcgrad as fg

ROOT = Path(fg.__file__).parents[1]

# Every process of a test ends within so many seconds, whatever becomes of it.
SECONDS = 60


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


class Process:
    """A process whose output goes to files, so that it never waits for a reader."""

    def __init__(self, command, folder, environment):
        self.out, self.err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self.popen = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=self.out, stderr=self.err, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self):
        return self.popen.pid

    def output(self):
        """Return what was printed so far, on stdout and on stderr."""
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            lines = file.read().splitlines(keepends=True)
            # Some lines are those of JAX's C++, of any number.
            texts.append("".join(li for li in lines if "[Gloo]" not in li))
        return texts

    def wait(self, seconds=SECONDS):
        """Return the exit code."""
        return self.popen.wait(seconds)

    def wait_for(self, text, seconds=SECONDS):
        """Return once `text` was printed, on either stream."""
        end = time.monotonic() + seconds
        while not any(text in printed for printed in self.output()):
            assert self.popen.poll() is None, self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.02)

    def end(self):
        """End it and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        self.out.close()
        self.err.close()


@contextmanager
def started(*commands, folder, devices=2, **environment):
    """Give the processes of these commands, each with so many virtual devices."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        # One core for each, as the tests may have two.
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    processes = []
    try:
        for command in commands:
            processes.append(Process(command, folder, environment))
        yield processes
    finally:
        for process in processes:
            process.end()


def python(code, *arguments):
    return [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]


def ended(*commands, folder, devices=2, **environment):
    """Return (exit code, stdout, stderr) of each process."""
    with started(*commands, folder=folder, devices=devices, **environment) as all_of:
        codes = [process.wait() for process in all_of]
        return [(c, *p.output()) for c, p in zip(codes, all_of, strict=True)]
