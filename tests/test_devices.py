"""Runs over several devices and processes, all of them on this machine's CPU.

JAX is told how many devices there are before it starts, so each of these is a process
of its own.
"""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import same_bits
from processes import ended, free_address

import funcgrad as fg
from funcgrad.devices import own_part

HERE = Path(__file__).parent / "many_devices"


def environment(devices):
    folders = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(folders),
    }


def pytest_on(devices, test="", *options):
    path = f"{HERE / 'on_eight_devices.py'}{test}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", path,
         *options],
        env=environment(devices), capture_output=True, text=True, cwd=HERE.parents[1],
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


# The bits of runs, and the messages of a small step: the rest compiles for a minute.
BRIEF = ("-k", "integers_are_the_same or (adds_up_the_gradient and sizes0)")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(BRIEF, id="brief"),
        pytest.param((), id="all", marks=pytest.mark.exhaustive),
    ],
)
def test_runs_are_the_same_on_eight_virtual_devices(options):
    code, said = pytest_on(8, "", *options)
    assert code == 0, said
    assert re.search(r"^\d+ passed(, \d+ deselected)? in", said, re.MULTILINE), (
        said
    )  # none is skipped


@pytest.mark.exhaustive
def test_a_failure_there_is_one_here():
    code, said = pytest_on(1, "::test_there_are_eight_devices")
    assert code == 1 and "1 failed" in said


def run_processes(processes, devices, folder):
    """Return what each of some processes found, which have so many devices each."""
    port = free_address().rpartition(":")[2]
    commands = [
        [sys.executable, str(HERE / "worker.py"), port, str(processes), str(number),
         str(folder)]
        for number in range(processes)
    ]  # fmt: skip
    own = {"PYTHONPATH": environment(devices)["PYTHONPATH"]}
    for code, out, err in ended(*commands, folder=folder, devices=devices, **own):
        assert code == 0, out + err
    return [
        pickle.loads((folder / f"{processes}-{number}").read_bytes())
        for number in range(processes)
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what one process with four devices found, and two with two each."""
    folder = tmp_path_factory.mktemp("found")
    return run_processes(1, 4, folder)[0], *run_processes(2, 2, folder)


@pytest.mark.exhaustive
def test_two_processes_do_the_run_of_one(found):
    alone, *both = found
    assert both[0]["devices"] == [0, 0, 1, 1]
    for name, expected in alone.items():
        if name.startswith(("fit", "many")):
            assert same_bits(both[0][name], expected), name
            assert same_bits(both[1][name], expected), name
        elif name.startswith(("counts", "identity")):
            assert both[0][name] == both[1][name] == expected, name
    assert alone["counts 37"] == (5, 5, 5, 5, 5, 4, 4, 4)
    assert both[0]["sharded"] == [(4, 4096)] * 2


@pytest.mark.exhaustive
def test_thirteen_members_of_two_processes_are_those_of_one_device(found):
    sys.path.insert(0, str(HERE))
    try:
        from integer_run import train_many
    finally:
        sys.path.remove(str(HERE))
    alone = train_many(None)
    assert same_bits(found[1]["many"], alone)
    states, losses = alone
    assert losses.shape == (13, 5)
    assert len(np.unique(jax.tree.leaves(states.params)[0], axis=0)) > 5


@pytest.mark.parametrize(("members", "parts"), [(13, 7), (12, 6), (1, 1)])
def test_parts_are_of_one_size_and_hold_every_member(members, parts, monkeypatch):
    mesh, found = fg.data_mesh(1), []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found.append(own_part(mesh, np.arange(members), members))
    assert [len(part) for part in found] == [parts, parts]
    assert np.concatenate(found)[:members].tolist() == [*range(members)]
