"""What the command compiles, kept for the next run: where, when, and when not."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jaxlib
import numpy as np
import pytest
from shell import ENVIRONMENT

from funcgrad import cli
from funcgrad.cli import cache
from funcgrad.data import Predictor

OLD = jaxlib.version.__version_info__ < (0, 12)


def test_the_suite_itself_keeps_nothing():
    assert not jax.config.jax_enable_compilation_cache


@pytest.mark.parametrize(
    ("system", "variables", "folder"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/funcgrad"),
        ("linux", {}, "/home/me/.cache/funcgrad"),
        ("linux", {"XDG_CACHE_HOME": "here"}, "/home/me/.cache/funcgrad"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/funcgrad"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/funcgrad"),
        ("win32", {}, None),
    ],
)
def test_the_folder_of_each_system(monkeypatch, system, variables, folder):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert cache.cache_folder() == (folder and Path(folder))


def test_without_a_home_there_is_no_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.cache_folder() is None


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Return a function that tells in which folder JAX would keep things."""
    values = {"jax_compilation_cache_dir": None, "jax_enable_compilation_cache": True}
    config = SimpleNamespace(values=values, update=values.__setitem__)
    monkeypatch.setattr(cache, "jax", SimpleNamespace(config=config))
    monkeypatch.setattr(jaxlib.version, "__version_info__", (0, 12, 0))
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "deep/funcgrad")

    def folder(**changed):
        values.update(changed)
        cache.keep_compiled()
        return values["jax_compilation_cache_dir"]

    return folder


def test_compiled_programs_are_kept_where_nobody_else_can_write(kept, tmp_path):
    folder = tmp_path / "deep/funcgrad"
    assert kept() == str(folder)
    assert folder.is_dir()
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_the_user_told_jax_stays(kept, tmp_path):
    assert kept(jax_compilation_cache_dir="mine") == "mine"
    assert kept(jax_enable_compilation_cache=False) == "mine"
    assert kept(jax_compilation_cache_dir=None) is None
    assert not list(tmp_path.iterdir())


def test_an_xla_that_takes_its_own_entries_for_foreign_gets_none(kept, monkeypatch):
    monkeypatch.setattr(jaxlib.version, "__version_info__", (0, 11, 2))
    assert kept() is None


def test_a_folder_that_cannot_be_made_is_done_without(kept, tmp_path):
    (tmp_path / "deep").write_text("a file")
    assert kept() is None


def test_without_a_folder_nothing_is_kept(kept, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: None)
    assert kept() is None


@pytest.mark.skipif(sys.platform == "win32", reason="rights are told otherwise there")
def test_a_folder_that_others_can_write_to_is_not_trusted(kept, tmp_path):
    folder = tmp_path / "deep/funcgrad"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert kept() is None


def test_a_folder_that_grew_too_large_is_emptied(kept, monkeypatch, tmp_path):
    folder = tmp_path / "deep/funcgrad"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "entry").write_bytes(b"12345")
    monkeypatch.setattr(cache, "MOST_BYTES", 5)
    assert kept() == str(folder)
    assert (folder / "entry").exists()
    monkeypatch.setattr(cache, "MOST_BYTES", 4)
    assert kept(jax_compilation_cache_dir=None) == str(folder)
    assert not list(folder.glob("*"))


@pytest.mark.exhaustive
def test_a_run_is_the_same_with_a_cache_without_and_with_a_damaged_one(
    tmp_path, monkeypatch
):
    """Damage every second entry in another way; the others must be read again."""
    monkeypatch.chdir(tmp_path)
    environment = ENVIRONMENT | {"HOME": str(tmp_path / "home")}
    for name in ("XDG_CACHE_HOME", "JAX_ENABLE_COMPILATION_CACHE"):
        environment.pop(name, None)
    environment |= {"LOCALAPPDATA": str(tmp_path / "home")}

    def run(*options):
        shutil.rmtree("runs", ignore_errors=True)
        call = [sys.executable, "-m", "funcgrad", *options, "train", "xor"]
        done = subprocess.run(
            [*call, "--steps", "5"], env=environment, capture_output=True, check=True
        )
        assert done.stderr == b""
        return parameters()

    def parameters():
        params = Predictor.load("runs/xor/model.safetensors").params
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]

    first = run()
    entries = sorted((tmp_path / "home").rglob("*-cache"))
    if OLD:
        assert entries == []
        return
    assert len(entries) > 2
    before = [entry.stat().st_mtime_ns for entry in entries]
    shutil.rmtree("runs")
    assert cli.main(["train", "xor", "--steps", "5"]) == 0
    assert parameters() == first

    entries[0].write_bytes(entries[0].read_bytes()[:-9])
    entries[2].write_bytes(b"no entry")
    assert run() == first
    assert sorted((tmp_path / "home").rglob("*-cache")) == entries
    assert [e.stat().st_mtime_ns for e in entries[1::2]] == before[1::2]

    shutil.rmtree(tmp_path / "home")
    assert run("--no-cache") == first
    assert not list((tmp_path / "home").rglob("*-cache"))
