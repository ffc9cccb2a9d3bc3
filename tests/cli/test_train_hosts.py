"""`funcgrad train` as several processes: who prints, what fails how, and 75."""

import os
import re
import signal
import sys
import time

import numpy as np
import pytest
from processes import free_address, started

import funcgrad as fg
from funcgrad.cli import worker
from funcgrad.data import Predictor


def commands(*options, processes=2, counts=None, address=None):
    """Return the command of each process."""
    address = address or free_address()
    return [
        [sys.executable, "-m", "funcgrad", "train", "xor", *options,
         "--coordinator", address, "--process", str(process),
         "--processes", str((counts or [processes] * processes)[process])]
        for process in range(processes)
    ]  # fmt: skip


def child_of(process):
    """Return the process that trains, which the command has started."""
    path = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(path) as file:
        (child,) = file.read().split()
    return int(child)


def steps_in(folder):
    return sorted(path.name for path in folder.glob("step-*.safetensors"))


GIVEN = ("--steps", "20", "--batch-size", "16", "--checkpoint-every", "5", "--out")


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory):
    """Return the folder of a run, and what its two processes have printed."""
    folder = tmp_path_factory.mktemp("two")
    with started(*commands(*GIVEN, "run"), folder=folder) as (a, b):
        assert (a.wait(), b.wait()) == (0, 0), (a.output(), b.output())
        return folder, a.output(), b.output()


def test_process_0_alone_prints_and_writes(run_of_two):
    folder, (out, err), of_other = run_of_two
    assert of_other == ["", ""]
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("xor: ")
    assert lines[-1].startswith("wrote model.safetensors, history.csv, loss.png")
    assert [path.name for path in folder.iterdir()] == ["run"]
    assert steps_in(folder / "run/checkpoints")[-1] == "step-000000020.safetensors"


@pytest.mark.exhaustive
def test_one_process_with_all_devices_makes_the_same_net(run_of_two, tmp_path):
    """The same numbers are added on the same four devices, in the same order."""
    folder, *_ = run_of_two
    alone = commands(*GIVEN, "run", processes=1)
    with started(*alone, folder=tmp_path, devices=4) as (process,):
        assert process.wait() == 0, process.output()
    of_two, of_one = (
        Predictor.load(place / "run/model.safetensors") for place in (folder, tmp_path)
    )
    for a, b in zip(of_two.params, of_one.params, strict=True):
        assert np.array_equal(a.w, b.w)
        assert np.array_equal(a.b, b.b)


@pytest.mark.exhaustive
def test_sigterm_to_one_saves_and_ends_all_with_75(tmp_path):
    with started(*commands("--steps", "1000000", "--out", "run"), folder=tmp_path) as (
        a,
        b,
    ):
        a.wait_for("gradients: ")
        time.sleep(3)
        b.popen.send_signal(signal.SIGTERM)
        codes = a.wait(), b.wait()
        said = [process.output()[1] for process in (a, b)]
    assert codes == (75, 75), said
    (step,) = steps_in(tmp_path / "run/checkpoints")
    expected = (
        f"funcgrad: the run was asked to end by SIGTERM: go on with --resume from "
        f"{tmp_path}/run/checkpoints/{step}\n"
    )
    assert said == [expected] * 2
    assert not (tmp_path / "run/model.safetensors").exists()


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("which", ["the command", "the process that trains"])
def test_sigkill_of_one_ends_all_with_75_and_a_sentence(which, tmp_path):
    with started(
        *commands("--steps", "1000000", "--checkpoint-every", "3", "--out", "run"),
        folder=tmp_path,
    ) as (a, b):
        a.wait_for("gradients: ")
        while not (tmp_path / "run/checkpoints").exists() or not steps_in(
            tmp_path / "run/checkpoints"
        ):
            assert a.popen.poll() is None, a.output()
            time.sleep(0.05)
        child = child_of(b)
        if which == "the command":
            b.popen.kill()
        else:
            # As by the system, where memory is short.
            os.kill(child, signal.SIGKILL)
        killed = time.monotonic()
        code = a.wait()
        seconds = time.monotonic() - killed
        _, err = a.output()
    assert code == 75, err
    assert seconds < 5  # of the issue
    assert re.fullmatch(
        r"funcgrad: (process 1 of this run is gone|another process of this run is "
        r"gone, or does not answer): go on with --resume from "
        r"\S+/run/checkpoints/step-\d{9}\.safetensors\n",
        err,
    ), err


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_frozen_process_ends_the_others_within_the_heartbeat(tmp_path):
    with started(
        *commands("--steps", "1000000", "--heartbeat", "3", "--out", "run"),
        folder=tmp_path,
    ) as (a, b):
        a.wait_for("gradients: ")
        time.sleep(3)
        child = child_of(b)
        os.kill(child, signal.SIGSTOP)
        try:
            frozen = time.monotonic()
            assert a.wait() == 75
            assert time.monotonic() - frozen < 15
            assert "is gone, or does not answer" in a.output()[1]
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["rows that fill no strata", "lines", "text"])
def test_other_tasks_too(kind, tmp_path):
    (tmp_path / "words.txt").write_text("to be or not to be\n" * 40)
    options = {
        "rows that fill no strata": ["moons", "--steps", "30"],
        "lines": ["words.txt", "--lines", "--steps", "6"],
        "text": ["words.txt", "--steps", "6", "--context", "8", "--width", "8"],
    }[kind]
    of_all = [
        [*command[:4], *options, *command[5:]] for command in commands("--out", "run")
    ]
    with started(*of_all, folder=tmp_path) as (a, b):
        assert (a.wait(), b.wait()) == (0, 0), (a.output(), b.output())
        assert b.output() == ["", ""]
        assert "wrote model.safetensors" in a.output()[0]


@pytest.mark.exhaustive
def test_a_cluster_is_asked_and_one_that_is_none_is_a_sentence(tmp_path):
    """Slurm, as far as JAX reads what it sets."""
    train = [sys.executable, "-m", "funcgrad", "train", "xor", "--steps", "5"]
    (job,) = {int(free_address().rpartition(":")[2])}
    of_all = [
        ["env", f"SLURM_JOB_ID={job}", "SLURM_STEP_NODELIST=localhost",
         "SLURM_NTASKS=2", f"SLURM_PROCID={i}", f"SLURM_LOCALID={i}", *train,
         "--cluster"]
        for i in range(2)
    ]  # fmt: skip
    with started(*of_all, folder=tmp_path) as (a, b):
        assert (a.wait(), b.wait()) == (0, 0), (a.output(), b.output())
        assert "wrote model.safetensors" in a.output()[0]
        assert b.output() == ["", ""]
    with started([*train, "--cluster"], folder=tmp_path) as (alone,):
        assert alone.wait() == 2
        assert alone.output()[1].startswith(
            "funcgrad: --cluster needs Slurm, MPI or Kubernetes, got none that JAX"
        )


@pytest.mark.exhaustive
def test_another_count_is_a_sentence_for_all(tmp_path):
    with started(
        *commands("--out", "run", counts=[2, 3]), folder=tmp_path
    ) as processes:
        ends = [process.wait() for process in processes]
        said = [process.output() for process in processes]
    assert ends == [2, 2], said
    assert said == [
        ["", "funcgrad: --processes must be the same on all, got 2 of process 0 and 3 "
         "of process 1: start all with the same count\n"]
    ] * 2  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_options_that_name_no_run_are_refused(refused):
    assert refused("train", "xor", "--process", "0").startswith(
        "--coordinator must be given where one of coordinator, processes and process is"
    )


# The command that waits --------------------------------------------------------------


def test_only_a_run_on_several_hosts_has_a_worker(monkeypatch):
    assert worker.is_for_worker(["train", "xor", "--coordinator", "a:1"])
    assert worker.is_for_worker(["train", "xor", "--coordinator=a:1"])
    assert worker.is_for_worker(["train", "xor", "--cluster"])
    assert not worker.is_for_worker(["train", "xor", "--seed", "1"])
    monkeypatch.setenv(worker.NOTES, "here")
    assert not worker.is_for_worker(["train", "xor", "--cluster"])


@pytest.mark.parametrize(
    ("code", "notes", "sentence"),
    [
        (3, {}, None),
        (75, {"reason": "why"}, "why: no step was done, begin anew"),
        (-9, {}, "the process that trains was ended by SIGKILL: no step was done"),
        (-6, {"native": "the JAX distributed service detected"}, "another process of"),
        (-6, {"checkpoints": "CK"}, "SIGABRT: no checkpoint was written, begin anew"),
        (75, {"checkpoints": "away"}, "go on with --resume from away of process 0"),
    ],
)
def test_the_end_of_a_worker_in_words(code, notes, sentence, tmp_path, monkeypatch):
    """The child is a program that leaves these notes and ends so."""
    notes = {k: str(tmp_path) if v == "CK" else v for k, v in notes.items()}
    program = (
        f"import os, signal, pathlib\n"
        f"for name, text in {notes!r}.items():\n"
        f"    pathlib.Path(os.environ['{worker.NOTES}'], name).write_text(text)\n"
        f"if {code} < 0: signal.signal({max(-code, 0)}, signal.SIG_DFL) if "
        f"{code} != -9 else 0; os.kill(os.getpid(), {-code})\n"
        f"os._exit({max(code, 0)})\n"
    )
    child = tmp_path / "child.py"
    child.write_text(program)
    monkeypatch.setattr(worker, "PROGRAM", [sys.executable, str(child)])
    ended, said = worker.run_worker([])
    assert ended == (code if code > 0 else 75)
    assert said is None if sentence is None else sentence in said


def test_the_newest_checkpoint_is_named(tmp_path):
    for step in (999_999_999, 1_000_000_000):
        fg.save(tmp_path / f"step-{step:09d}.safetensors", {"x": np.ones(1)})
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "checkpoints").write_text(str(tmp_path))
    assert worker.how_to_go_on(notes).endswith("step-1000000000.safetensors")
