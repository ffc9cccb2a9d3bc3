"""The proof finds its engine beside itself, whatever else is named `reference`.

Each case is a process of its own, in a folder with something of that name. The first
lines of a program say how it got in the way, the rest is the same for all.
"""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reference
from funcgrad.testing import engine

ROOT = Path(__file__).parents[2]

FOREIGN = "print('foreign code ran')\nmine = 7\n"

PROVE = """
from funcgrad.testing import check_gradients
from funcgrad.testing.engine import Value

report = check_gradients(lambda x: x * x, 3.0)
print(report.verdict, report.leaves[0].truth, Value.__module__)
"""

THEN = """
import reference
print(reference.mine)
"""

BESIDE = "ok 6.0000000000000000 funcgrad.testing.reference.engine"


def run(folder, program, *path):
    """Return what `program`, started in `folder`, printed; ours is last on the path."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,  # which Python searches first
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.exhaustive
def test_a_file_in_the_current_folder_is_neither_run_nor_replaced(tmp_path):
    (tmp_path / "reference.py").write_text(FOREIGN)
    assert run(tmp_path, PROVE + THEN) == [BESIDE, "foreign code ran", "7"]


@pytest.mark.exhaustive
def test_a_package_of_another_distribution_is_neither_run_nor_replaced(tmp_path):
    """It has a file for each of the engine's, none of which is taken for one."""
    package = tmp_path / "site" / "reference"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FOREIGN)
    for name in ("drawing", "engine", "nn", "numbers"):
        (package / f"{name}.py").write_text("raise SystemExit('foreign code ran')")
    found = run(tmp_path, PROVE + THEN, package.parent)
    assert found == [BESIDE, "foreign code ran", "7"]


@pytest.mark.exhaustive
def test_a_module_that_was_imported_first_stays(tmp_path):
    """And the engine is whole all the same: its values are pickled."""
    (tmp_path / "reference.py").write_text(FOREIGN)
    use = """
import pickle
x = Value(3)
copy = pickle.loads(pickle.dumps(x * x))
print(type(copy) is Value, copy.data)
"""
    found = run(tmp_path, "import reference" + PROVE + use + THEN)
    assert found == ["foreign code ran", BESIDE, "True 9", "7"]


@pytest.mark.exhaustive
def test_what_stands_in_the_table_of_modules_without_a_file_stays(tmp_path):
    first = (
        "import sys, types; sys.modules['reference'] = found = types.ModuleType('x')"
    )
    after = "assert sys.modules['reference'] is found"
    assert run(tmp_path, first + PROVE + after) == [BESIDE]


@pytest.mark.exhaustive
def test_a_folder_without_python_is_not_in_the_way(tmp_path):
    """As one with pages for reference; Python prefers a package, wherever it is."""
    (tmp_path / "reference").mkdir()
    same = "import reference; print(reference.Value is Value)"
    found = run(tmp_path, PROVE + same)
    assert found == [BESIDE.replace("funcgrad.testing.", ""), "True"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("files", [[], ["__init__.py"]], ids=["none", "another"])
def test_an_installation_without_the_engine_says_so(files, tmp_path):
    """As after another distribution's package was installed over it."""
    shutil.copytree(ROOT / "funcgrad", tmp_path / "funcgrad")
    for name in files:
        (tmp_path / "reference").mkdir()
        (tmp_path / "reference" / name).write_text("")
    program = """
try:
    import funcgrad.testing
except ImportError as error:
    print(error)
"""
    assert run(tmp_path, program) == [
        f"the proof needs its package reference beside funcgrad, got "
        f"{'another of that name' if files else 'none'} in {tmp_path}: install "
        f"funcgrad again, where no other distribution brings a package reference"
    ]


def test_where_nothing_is_in_the_way_there_is_one_engine():
    assert engine.Value is reference.Value
    assert engine.flint is reference.numbers.flint
    assert sys.modules.get("funcgrad.testing.reference") is None


def test_values_are_pickled_under_the_name_that_users_import():
    x = reference.Value(3)
    copy = pickle.loads(pickle.dumps(x * x))
    assert isinstance(copy, reference.Value) and copy.data == 9
    assert b"funcgrad" not in pickle.dumps(x)
