"""Checkpoints of a run: whole or told, whatever happened to the file or the process."""

import errno
import hashlib
import json
import os
import pickle
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.run_folder import KEPT, open_run

SAME = {"jax": "1.2.3", "model": "small", "data": "0a1b2c"}
NEWEST = "step-000000005.safetensors"


def state_at(step, size=6):
    return {
        "params": np.arange(size, dtype=np.float32) + step,
        "count": np.int32(step) * np.ones((), np.int32),
    }


LIKE = jax.eval_shape(lambda: state_at(0))


def history_at(step):
    return {"loss": np.arange(step, dtype=np.float64), "step": np.arange(step)}


def write(folder, *steps, best=(), identity=SAME):
    with open_run(folder, identity, resume=True) as run:
        for step in steps:
            run.write(step, state_at(step), history_at(step), step in best)


def go_on(folder, like=LIKE):
    with open_run(folder, SAME, resume=True) as run:
        return run.latest(like)


def assert_is(found, step):
    state, history = found
    for name, leaf in state_at(step).items():
        assert np.array_equal(state[name], leaf)
        assert state[name].dtype == leaf.dtype
    assert list(history) == ["loss", "step"]
    for name, array in history_at(step).items():
        assert np.array_equal(history[name], array)
        assert history[name].dtype == array.dtype


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def sentence(action, *args, **kwargs):
    """Return the one line that a ValueError says."""
    with pytest.raises(ValueError) as caught:
        action(*args, **kwargs)
    text = str(caught.value)
    assert text.isprintable()
    return text


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a run with two checkpoints."""
    folder = tmp_path / "run"
    write(folder, 4, 5)
    return folder


# What is written comes back ----------------------------------------------------------


def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path):
    folder = tmp_path / "new" / "run"
    with open_run(folder, SAME, resume=False) as run:
        assert run.latest(LIKE) is None
        assert run.best(LIKE) is None
        run.write(0, state_at(0), history_at(0))
        run.write(3, state_at(3), history_at(3))
        assert_is(run.latest(LIKE), 3)
    with open_run(folder, SAME, resume=True) as run:
        assert_is(run.latest(LIKE), 3)
        state, _ = run.latest(jax.tree.map(jnp.asarray, state_at(0)))
        assert isinstance(state["params"], jax.Array)


def test_the_last_three_and_the_best_stay(tmp_path):
    write(tmp_path, 1, 2, 3, 4, 5, 6, best=[2, 3])
    assert names(tmp_path) == [
        "best.safetensors",
        *(f"step-{step:09d}.safetensors" for step in (4, 5, 6)),
    ]
    assert len(names(tmp_path)) == 1 + KEPT
    with open_run(tmp_path, SAME, resume=True) as run:
        assert_is(run.best(LIKE), 3)
        assert_is(run.latest(LIKE), 6)


def test_a_checkpoint_is_on_the_disk_before_an_older_one_goes(tmp_path, monkeypatch):
    events = []
    fsync, replace, unlink = os.fsync, os.replace, Path.unlink

    def synced(number):
        events.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def replaced(source, target):
        events.append(f"to {Path(target).stem}")
        replace(source, target)

    def removed(path, **options):
        if path.suffix != ".tmp":
            events.append(f"no {path.stem}")
        unlink(path, **options)

    write(tmp_path, 1, 2, 3)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(Path, "unlink", removed)
    write(tmp_path, 4, best=[4])
    best, step = ["file", "to best"], ["file", "to step-000000004"]
    assert events == [*best, *step, "folder", "no step-000000001"]


def test_steps_are_numbers_however_long(tmp_path):
    with open_run(tmp_path, SAME, resume=False) as run:
        for step in (999_999_998, 999_999_999, 2_147_483_647):
            run.write(step, state_at(step), {})
    (tmp_path / "step-1.safetensors").write_text("of somebody else")
    (tmp_path / "step-999999999999.safetensors").mkdir()
    with open_run(tmp_path, SAME, resume=True) as run:
        state, _ = run.latest(LIKE)
    assert state["count"] == 2_147_483_647


def test_any_reader_of_safetensors_can_open_a_checkpoint(folder):
    metadata = fg.load_metadata(folder / NEWEST)
    header = json.loads(metadata["funcgrad.run"])
    assert (header["format"], header["step"]) == (1, 5)
    assert header["identity"] == SAME
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", header["time"])
    with open_run(folder, SAME, resume=True) as run:
        run.write(np.int64(6), state_at(6), {})
        state, history = run.latest(LIKE)
    assert history == {}
    assert fg.load(folder / "step-000000006.safetensors", {"state": state})


# Whose folder it is ------------------------------------------------------------------


def test_a_folder_with_checkpoints_is_not_taken_for_a_new_run(folder, tmp_path):
    def begin():
        with open_run(folder, SAME, resume=False):
            pass

    text = sentence(begin)
    assert text == (
        f"folder must hold no checkpoints where a run begins, got {folder} with "
        f"{NEWEST}: pass resume=True to go on with that run, or choose another folder"
    )
    for path in folder.glob("step-*"):
        path.rename(folder / "best.safetensors")
    assert "with best.safetensors" in sentence(begin)
    (folder / "best.safetensors").rename(folder / "model.safetensors")
    begin()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "large"}, "whose model is small, where this run's is large: go on"),
        ({"data": "ff", "jax": "2"}, "whose jax is 1.2.3, where this run's is 2: go"),
        ({"new": "a"}, "whose new is None, where this run's is a: "),
        ({"model": None}, "whose model is small, where this run's is None: "),
    ],
)
def test_another_run_is_told_by_the_first_item_that_differs(folder, changed, said):
    now = {k: v for k, v in {**SAME, **changed}.items() if v is not None}
    before = {path: path.read_bytes() for path in folder.iterdir()}
    text = sentence(write, folder, 9, identity=now)
    assert said in text
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert_is(go_on(folder), 5)


def test_of_long_items_the_part_that_differs_is_shown(tmp_path):
    was = "a" * 5000 + "b" + "c" * 5000
    write(tmp_path, 1, identity={"model": was})
    text = sentence(write, tmp_path, 2, identity={"model": was.replace("b", "d")})
    assert "is ...aaa" in text
    assert "ab" + "c" * 49 + "..., where" in text
    assert "ad" + "c" * 49 + "...: go on" in text
    assert len(text) < 600


def test_one_run_at_a_time(folder):
    with open_run(folder, SAME, resume=True) as run:
        text = sentence(go_on, folder)
        run.write(6, state_at(6), history_at(6))
    assert text.startswith(f"folder must be that of one run at a time, got {folder}")
    assert_is(go_on(folder), 6)


def test_what_killed_writers_left_is_removed_and_nothing_else(folder):
    kept = ["notes.txt", ".other.tmp", ".0123456789abcdef.tmp.txt"]
    for name in (*kept, ".0123456789abcdef.tmp"):
        (folder / name).write_text("")
    before = names(folder)
    go_on(folder)
    assert names(folder) == [name for name in before if name != ".0123456789abcdef.tmp"]


# Files that are not what was written -------------------------------------------------


def crafted(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, dtype="F32", size=0):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


NO_CHECKPOINTS = {
    "nothing": b"",
    "a pickle": pickle.dumps({"params": np.ones(3)}),
    "a table": b"x,y\n1,2\n" * 100,
    "no metadata": crafted(tensor([2], size=8), bytes(8)),
    "a long header": struct.pack("<Q", 2**63) + b"{}",
    "a header of its length": struct.pack("<Q", 99_000_000) + b"{}",
    "a tebibyte": crafted(tensor([2**38], size=2**40)),
    "an overflow": crafted(tensor([2**33, 2**33], size=0)),
    "no number, huge": crafted(tensor([0, 2**62])),
    "no number, too huge": crafted(tensor([0, 2**64 - 1])),
    "seventy axes": crafted(tensor([0] * 70)),
    "half a byte": crafted(tensor([2], "F4", 1), b"1"),
    "nested": crafted(b'{"a":' * 100_000),
}


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_told_and_can_be_deleted(folder, name):
    newest = folder / NEWEST
    newest.write_bytes(NO_CHECKPOINTS[name])
    text = sentence(go_on, folder)
    assert text.startswith(f"{newest} is no whole checkpoint of this run (")
    assert text.endswith("): delete it to go on from the one before")
    newest.unlink()
    assert_is(go_on(folder), 4)


def sign(path, header, tensors):
    """Write a file whose checksum is right, as somebody who knows how could."""
    text = header if isinstance(header, str) else json.dumps(header)
    digest = hashlib.sha256(text.encode()).hexdigest()
    fg.save(path, tensors, {"funcgrad.run": text, "sha256": digest})


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("[" * 100_000, "recursion"),
        ("{", "Expecting property name"),
        ("[]", "its header has another form"),
        ({"identity": []}, "its header has another form"),
        ({"format": 1, "identity": SAME}, "its numbers were changed"),
        ({"format": 2, "identity": SAME}, "whose format is 2, where this run's is 1"),
        ({"identity": {**SAME, "jax": 5}, "format": 1}, "whose jax is 5, where this"),
    ],
)
def test_a_header_is_checked_before_it_is_believed(folder, header, said):
    sign(folder / NEWEST, header, {"state": state_at(5)})
    assert said in sentence(go_on, folder)


@pytest.mark.parametrize("name", ["wide", "no number, huge", "seventy axes"])
def test_tensors_are_checked_even_where_the_header_is_right(folder, name):
    text = json.dumps({"format": 1, "identity": SAME})
    digest = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"__metadata__": {"funcgrad.run": text, "sha256": digest}}
    shape = {"wide": [2**31, 0, 2**31], "seventy axes": [0] * 70}.get(name, [0, 2**62])
    (folder / NEWEST).write_bytes(crafted({**tensor(shape), **metadata}))
    assert "delete it to go on from the one before" in sentence(go_on, folder)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"params": np.zeros(6, np.float32)}, "has no leaf 'state.count'"),
        ({**state_at(5), "more": np.zeros(1)}, "holds 'state.more'"),
        ({**state_at(5), "params": np.zeros(6)}, "must be float32 of shape (6,)"),
        ({**state_at(5), "params": np.zeros((6, 1), "f")}, "must be float32 of shape"),
    ],
)
def test_leaves_that_do_not_fit_are_named(folder, state, said):
    with open_run(folder, SAME, resume=True) as run:
        run.write(6, state, {})
        text = sentence(run.latest, LIKE)
    assert said in text
    assert str(folder / "step-000000006.safetensors") in text
    assert "pass the tree that was saved" in text  # the file is fine: not to delete it
    assert "delete" not in text


def test_the_only_checkpoint_and_the_best_say_what_comes_after(tmp_path):
    write(tmp_path, 1, best=[1])
    for name, after in {
        "step-000000001.safetensors": "delete it to begin anew",
        "best.safetensors": "delete it to go on without it",
    }.items():
        (tmp_path / name).write_bytes(b"damaged")
        text = sentence(go_on, tmp_path)
        assert text.endswith(after)
        (tmp_path / name).unlink()
    assert go_on(tmp_path) is None


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), OSError("Input/output error")]
)
def test_a_file_that_cannot_be_read_is_told(folder, monkeypatch, error):
    def broken(path):
        raise error

    monkeypatch.setattr(Path, "read_bytes", broken)
    assert sentence(go_on, folder) == (
        f"{folder / NEWEST} must be a checkpoint that can be read, got "
        f"Input/output error: ask for the right to read it, or delete it"
    )


def told_or_same(folder, content):
    """Put `content` in place of the newest; return whether a sentence told of it."""
    (folder / NEWEST).write_bytes(content)
    try:
        found = go_on(folder)
    except ValueError as error:
        text = str(error)
        assert text.isprintable()
        assert str(folder / NEWEST) in text
        assert text.endswith("delete it to go on from the one before")
        return True
    assert_is(found, 5)
    return False


def test_a_file_that_ends_early_is_told(folder):
    whole = (folder / NEWEST).read_bytes()
    for end in range(0, len(whole), 64):
        assert told_or_same(folder, whole[:end])
    assert told_or_same(folder, whole[:-1])
    assert told_or_same(folder, whole + b"\0")
    assert not told_or_same(folder, whole)


@pytest.mark.parametrize("mask", [0xFF, 0x01])
def test_a_byte_that_was_changed_is_told(folder, mask):
    whole = (folder / NEWEST).read_bytes()
    for at in [*range(0, len(whole), 97), len(whole) - 1]:
        changed = bytearray(whole)
        changed[at] ^= mask
        assert told_or_same(folder, bytes(changed)), at


@pytest.mark.exhaustive
def test_every_bit_counts(folder):
    """Apart from the spaces that pad the header: some other bytes are spaces too."""
    whole = (folder / NEWEST).read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    padding = range(8 + len(whole[8 : 8 + header].rstrip()), 8 + header)
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            assert told_or_same(folder, bytes(changed)) or at in padding, (at, bit)


def fuzzed(whole, seed):
    """Return the file with some of it changed, cut, doubled or moved."""
    draw = random.Random(seed)
    content = bytearray(whole)
    for _ in range(draw.randint(1, 4)):
        a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
        kind = draw.randrange(6)
        if kind == 0:
            content[a:b] = draw.randbytes(b - a)
        elif kind == 1:
            del content[a:b]
        elif kind == 2:
            content[a:a] = content[a:b]
        elif kind == 3:
            content[:8] = struct.pack("<Q", draw.randrange(2 ** draw.randint(1, 64)))
        elif kind == 4:
            numbers = list(re.finditer(rb"\d+", content))
            if numbers:
                found = draw.choice(numbers)
                content[slice(*found.span())] = b"%d" % draw.randrange(2**70)
        else:
            content[a : a + 1] = draw.randbytes(1)
    return bytes(content)


def test_fuzzed_files_are_told(folder):
    whole = (folder / NEWEST).read_bytes()
    assert sum(told_or_same(folder, fuzzed(whole, seed)) for seed in range(200)) > 190


_MEASURE = """
import resource, sys
from pathlib import Path
from test_run_checkpoints import LIKE, go_on

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, files = Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir())
go_on(folder)
before, told = most(), 0
for file in files:
    (folder / sys.argv[3]).write_bytes(file.read_bytes())
    try:
        go_on(folder)
    except ValueError:
        told += 1
print(told, most() - before)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_no_memory_is_taken_for_what_a_file_only_claims(folder, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    whole = (folder / NEWEST).read_bytes()
    every = [*NO_CHECKPOINTS.values(), *(fuzzed(whole, seed) for seed in range(100))]
    for i, content in enumerate(every):
        (files / f"{i:03}").write_bytes(content)
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder), str(files), NEWEST],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        check=True,
    )
    told, grown = map(int, result.stdout.split()[-2:])
    assert told >= len(NO_CHECKPOINTS) + 90
    # The files are below a megabyte, and the smallest that is claimed takes 99.
    assert grown < 50_000_000


# Disks that are full, or not ours ----------------------------------------------------


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(folder, monkeypatch):
    before = names(folder)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("fsync", "replace"):
        with open_run(folder, SAME, resume=True) as run, monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            text = sentence(run.write, 6, state_at(6), history_at(6), True)
        assert text.startswith(f"the folder {folder} cannot be written: No space left")
        assert "on device: choose another folder, or make room there" in text
        assert names(folder) == before
    assert_is(go_on(folder), 5)


@contextmanager
def files_of_at_most(size):
    """Let the system refuse more, as a full disk does in the middle of a file."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_the_system_cuts_short_is_told(folder):
    before = names(folder)
    large = {"params": np.zeros(100_000)}
    with open_run(folder, SAME, resume=True) as run:
        with files_of_at_most(50_000):
            text = sentence(run.write, 6, large, {})
        assert "cannot be written: File too large: choose another folder" in text
        assert names(folder) == before
        run.write(6, state_at(6), history_at(6))
    assert_is(go_on(folder), 6)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for name, reason in {"file": "File exists", "file/a": "Not a directory"}.items():
        text = sentence(go_on, tmp_path / name)
        assert f"folder {tmp_path / name} cannot be written: {reason}: choose" in text
        assert "or make room there, or ask for the right to write" in text


def test_a_folder_that_cannot_be_written_is_told(folder):
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with open_run(folder, SAME, resume=True) as run:
        folder.chmod(0o555)
        try:
            text = sentence(run.write, 6, state_at(6), history_at(6))
        finally:
            folder.chmod(0o755)
    assert "cannot be written: Permission denied: choose another folder" in text
    assert_is(go_on(folder), 5)


def test_leaves_that_cannot_be_saved_are_named_before_anything_is_written(folder):
    with open_run(folder, SAME, resume=True) as run:
        text = sentence(run.write, 6, {"key": jax.random.key(0)}, {})
    assert "leaf 'state.key' must be an array of numbers" in text
    assert_is(go_on(folder), 5)


# Processes that are killed -----------------------------------------------------------

# A child for each line of input, which writes as fast as it can until it is killed; the
# one that it is a copy of has imported everything, once.
_WRITER = """
import os, sys, numpy as np
from pathlib import Path
from test_run_checkpoints import SAME, history_at, open_run, state_at

folder = Path(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        with open_run(folder, SAME, resume=True) as run:
            for step in range(int(line), 10**9):
                state = state_at(step, size=100_000)
                run.write(step, state, {"step": np.arange(3)}, step % 3 == 0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.fixture
def writers(tmp_path):
    """Return a process that begins one writer into tmp_path a line of input."""
    if not hasattr(os, "fork"):
        pytest.skip("a process cannot be copied here")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _WRITER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def begin_writer(writers, step):
    writers.stdin.write(f"{step}\n")
    writers.stdin.flush()
    return int(writers.stdout.readline())


def wait_for(folder, step):
    """Wait until a writer has come to `step`."""
    deadline = time.monotonic() + 60
    while not (folder / f"step-{step:09d}.safetensors").exists():
        steps = [int(path.stem[5:]) for path in folder.glob("step-*")]
        if max(steps, default=-1) > step:
            break
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill(writers, child):
    os.kill(child, signal.SIGKILL)
    assert writers.stdout.readline() == "dead\n"


def test_a_run_that_is_killed_goes_on_from_a_whole_checkpoint(tmp_path, writers):
    draw, step, left = random.Random(0), 0, 0
    like = jax.eval_shape(lambda: state_at(0, size=100_000))

    def whole(found):
        state, history = found
        found_step = int(state["count"])
        assert np.array_equal(state["params"], state_at(found_step, 100_000)["params"])
        assert history["step"].tolist() == [0, 1, 2]
        return found_step

    for _ in range(20):
        child = begin_writer(writers, step)
        wait_for(tmp_path, step)
        time.sleep(draw.uniform(0, 0.05))
        kill(writers, child)
        left += any(name.endswith(".tmp") for name in names(tmp_path))
        with open_run(tmp_path, SAME, resume=True) as run:
            assert not any(name.endswith(".tmp") for name in names(tmp_path))
            now = whole(run.latest(like))
            assert now >= step
            assert whole(run.best(like)) in (now - now % 3, now + 1)
            step = now + 1
    assert left > 0  # some were killed in the middle of a write
    write(tmp_path, step)  # and removes what those killed before removing did not
    assert len(names(tmp_path)) == 1 + KEPT


@pytest.mark.exhaustive
def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, writers):
    child = begin_writer(writers, 0)
    try:
        wait_for(tmp_path, 0)
        text = sentence(go_on, tmp_path)
        assert "into which another one is writing: wait until it ends" in text
    finally:
        kill(writers, child)
    with open_run(tmp_path, SAME, resume=True):
        pass
