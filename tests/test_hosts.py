"""Several processes that train one net: two of two devices each, over loopback."""

import re
import signal
import sys
import time
from pathlib import Path

import hosts_program
import jax
import pytest
from processes import SECONDS, ended, free_address, started

import funcgrad as fg
from funcgrad import hosts

PROGRAM = Path(hosts_program.__file__)
# The same runs for any layout; one process of those of several is slow.
RUNS = ("full", "batches", "until", "diverged", "patience")


def program(*runs, folder, processes=2, heartbeat=20, address=None):
    """Return the commands of the processes that do these runs."""
    address = address or (free_address() if processes else "-")
    return [
        [sys.executable, "-W", "error", str(PROGRAM), address, str(processes),
         str(process), str(folder), str(heartbeat), *runs]
        for process in range(processes or 1)
    ]  # fmt: skip


def in_slurm(commands):
    """Return the commands in an environment as Slurm sets it, as far as JAX reads it.

    Its coordinator's port is made of the job's number.
    """
    job = free_address().rpartition(":")[2]
    return [
        ["env", f"SLURM_JOB_ID={job}", "SLURM_STEP_NODELIST=localhost",
         f"SLURM_NTASKS={len(commands)}", f"SLURM_PROCID={i}", f"SLURM_LOCALID={i}",
         *command]
        for i, command in enumerate(commands)
    ]  # fmt: skip


def said(found):
    """Return what each process has printed, as {run: lines}."""
    told = []
    for code, out, err in found:
        assert code == 0, err
        lines = [line.partition(": ") for line in out.splitlines()]
        told.append({w: [li for k, _, li in lines if k == w] for w, _, _ in lines})
    return told


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """Return what two processes of two devices say of each run, and their folder."""
    folder = tmp_path_factory.mktemp("runs")
    runs = (
        *RUNS,
        "seconds",
        "SIGTERM",
        "SIGINT",
        "unequal",
        "unequal members",
        "refused",
        "folder",
    )
    return said(ended(*program(*runs, folder=folder), folder=folder)), folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("run", RUNS)
def test_two_processes_do_the_run_of_one_to_the_bit(run, of_two):
    (first, second), _ = of_two
    assert first[run] == second[run] == [hosts_program.run(run, devices=1)]


@pytest.mark.exhaustive
def test_process_0s_clock_ends_a_run_for_all(of_two):
    (first, second), _ = of_two
    assert first["seconds"] == second["seconds"]
    assert int(first["seconds"][0].split()[0]) > 1  # that of process 1 was over at once


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_one_ends_all_at_one_step_with_one_checkpoint(name, of_two):
    (first, second), folder = of_two
    assert first[name] == second[name]
    kind, step, _ = first[name][0].split()
    assert kind == ("Preempted" if name == "SIGTERM" else "KeyboardInterrupt")
    assert [p.name for p in (folder / name).glob("*.safetensors")] == [
        f"step-{int(step):09d}.safetensors"
    ]


@pytest.mark.exhaustive
def test_another_run_on_one_of_them_is_named(of_two):
    (first, second), _ = of_two
    assert first["unequal"] == second["unequal"]
    named = [
        re.match(r"all processes must have the same ([\w ]+), got", line)[1]
        for line in first["unequal"]
    ]
    assert named == [
        "optimizer", "objective", "initial state", "data", "mesh", "lowered step",
        "steps", "every", "until", "validation", "validation", "x",
    ]  # fmt: skip
    assert first["unequal"][-1].startswith(
        "all processes must have the same x, got 0 of process 0 and 1 of process 1: "
    )


@pytest.mark.exhaustive
def test_other_members_on_one_of_them_are_named(of_two):
    (first, second), _ = of_two
    (same, *told, of_first), (_, *_, of_second) = (
        of["unequal members"] for of in (first, second)
    )
    assert same == "it went on"
    assert told == second["unequal members"][1:-1]
    named = [
        re.match(r"all processes must have the same ([\w ]+), got", line)[1]
        for line in told
    ]
    assert named == [
        "hyperparams", "hyperparams", "data", "data", "key", "steps", "batch_size",
        "every", "mesh", "init", "optimizer", "objective", "score", "run of a member",
    ]  # fmt: skip
    assert of_second.startswith("data must be finite, got nan at data[0][0, 0]: ")
    assert of_first == f"process 1 cannot go on: {of_second}"


@pytest.mark.exhaustive
def test_a_row_that_is_nan_is_named_to_all_as_its_process_knows_it(of_two):
    (first, second), _ = of_two
    sentence = "data must be finite, got nan at data[0][13, 2]: "
    assert first["refused"][0].startswith(f"process 1 cannot go on: {sentence}")
    assert second["refused"][0].startswith(sentence)


@pytest.mark.exhaustive
def test_train_many_wants_all_rows_on_each_process(of_two):
    (first, second), _ = of_two
    assert first["refused"][1] == second["refused"][1] == (
        "data must be whole on every process, which trains some of the members on all "
        "rows, got arrays that lie on 2 processes: pass them as they were before "
        "rows(), replicate() or shard()"
    )  # fmt: skip


@pytest.mark.exhaustive
def test_a_run_of_two_goes_on_in_one(of_two):
    """It is complete; 20 steps more are those of a run of one to the bit."""
    _, folder = of_two
    objective, params, data = hosts_program.problem()
    given = {"steps": 60, "batch_size": 16, "key": hosts_program.key(), "every": 10}
    rows = hosts_program.placed(data, 1)
    whole = fg.fit(objective, hosts_program.SIGN, params, rows, progress=None, **given)
    run = fg.fit(
        objective, hosts_program.SIGN, params, rows, progress=None, folder=folder,
        resume=True, **given,
    )  # fmt: skip
    assert hosts_program.digest(run) == hosts_program.digest(whole)
    assert run.history.looks["step"].tolist() == [10, 20, 30, 40, 50, 60]


@pytest.mark.exhaustive
def test_a_process_that_is_killed_ends_the_others_and_another_layout_goes_on(tmp_path):
    with started(*program("killed", folder=tmp_path), folder=tmp_path) as (a, b):
        assert b.wait() == -signal.SIGKILL
        killed = time.monotonic()
        code = a.wait()
        assert time.monotonic() - killed < 5  # of the issue
        _, err = a.output()
        assert code == hosts.RESUME, err
    assert "process 1 of this run is gone" in err
    assert sorted(p.name for p in tmp_path.glob("*.safetensors"))[-1] in (
        "step-000000010.safetensors", "step-000000020.safetensors"
    )  # fmt: skip
    (told,) = said(
        ended(
            *program("folder", folder=tmp_path, processes=0), folder=tmp_path, devices=4
        )
    )
    assert told["folder"] == [hosts_program.run("batches", devices=1)]


@pytest.mark.exhaustive
def test_a_process_of_a_cluster_that_is_killed_ends_the_others_too(tmp_path):
    """Far sooner than the heartbeat."""
    commands = program(
        "killed meanwhile", folder=tmp_path, heartbeat=60, address="cluster"
    )
    with started(*in_slurm(commands), folder=tmp_path) as (a, b):
        assert b.wait() == -signal.SIGKILL
        killed = time.monotonic()
        assert a.wait() == hosts.RESUME, a.output()
        assert time.monotonic() - killed < 5
        assert "process 1 of this run is gone" in a.output()[1]


@pytest.mark.exhaustive
def test_a_frozen_process_ends_the_others_within_the_heartbeat(tmp_path):
    commands = program("frozen", folder=tmp_path, heartbeat=3)
    with started(*commands, folder=tmp_path) as (a, b):
        b.wait_for("look")
        b.popen.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        # JAX's C++ ends it; the shell makes 75 of that.
        assert a.wait() in (-signal.SIGABRT, hosts.RESUME)
        assert time.monotonic() - frozen < 15


@pytest.mark.exhaustive
def test_a_bug_on_one_process_ends_all_without_waiting(tmp_path):
    code = (
        "import sys; from funcgrad import hosts; hosts.join(sys.argv[1], 2, "
        "int(sys.argv[2]))\nif sys.argv[2] == '1': 1 / 0\nhosts.exchange('x')"
    )
    address = free_address()
    commands = [[sys.executable, "-c", code, address, str(i)] for i in range(2)]
    began = time.monotonic()
    (code, _, _), (of_the_bug, _, err) = ended(*commands, folder=tmp_path)
    assert of_the_bug == 1
    assert "ZeroDivisionError" in err
    assert code in (hosts.RESUME, -signal.SIGABRT)
    assert time.monotonic() - began < SECONDS / 2


# What needs no other process --------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("localhost:1", 2, None), "process must be given where one of coordinator"),
        ((None, 2, 0), "coordinator must be given where one of"),
        (("localhost:1", 0, 0), "processes must be a whole number of at least 1"),
        (("localhost:1", 2, 2), "process must be a whole number from 0 to 1, got 2"),
        (("localhost", 2, 1), "coordinator must be HOST:PORT"),
    ],
)
def test_what_cannot_be_joined_is_said(arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        hosts.join(*arguments, seconds=0.1)
    assert not jax.distributed.is_initialized()


def test_one_process_agrees_with_itself_and_waits_for_nobody():
    hosts.agree({"jax": "1"})
    assert hosts.is_first()
    assert hosts.exchange("a") == ["a"]
    assert hosts.from_first(b"a") == b"a"
    assert hosts.first_does("here", lambda: 3) == 3
    with pytest.raises(fg.errors.InputError, match="no"), hosts.together():
        raise fg.errors.InputError("no")


def test_other_errors_of_jax_are_no_lost_process():
    with pytest.raises(jax.errors.JaxRuntimeError), hosts.lost_in_words():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    with pytest.raises(hosts.LostError, match="is gone"), hosts.lost_in_words():
        raise jax.errors.JaxRuntimeError("Gloo all-reduce failed: reset by peer")
