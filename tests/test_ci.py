"""`.ci/run` fails where anything in it fails: run with programs that do nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")

# Every program writes what it is asked to the log; whoever is named in $BROKEN fails.
PROGRAM = """#!/bin/sh
said="$VERSION ${0##*/} $* [$PYTEST_ADDOPTS]"
echo "$said" >> "$LOG"
case "$said" in *"$BROKEN"*) exit 3 ;; esac
"""
# And an interpreter makes an environment whose programs are of the same kind.
INTERPRETER = """#!/bin/sh
case "$1" in
-c) exit 0 ;;
-m)
    mkdir -p "$3/bin"
    for name in python pip pytest ruff mypy; do cp "$PROGRAM" "$3/bin/$name"; done
    echo "export PATH=$3/bin:\\$PATH VERSION=${0##*python}" > "$3/bin/activate" ;;
esac
"""


@pytest.fixture
def ci(tmp_path):
    """Return a function that runs the script where there are these Pythons."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for name in (".ci/run", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    programs = tmp_path / "programs"
    programs.mkdir()

    def program(path, text):
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PROGRAM": program(tmp_path / "program", PROGRAM),
        "LOG": str(tmp_path / "log"),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }

    def run(*versions, broken="nobody"):
        program(programs / "python3", "#!/bin/sh\nexit 1\n")
        for version in VERSIONS:
            there = INTERPRETER if version in versions else "#!/bin/sh\nexit 1\n"
            program(programs / f"python{version}", there)
        (tmp_path / "log").write_text("")
        done = subprocess.run(
            ["bash", str(tmp_path / ".ci/run")], env={**environment, "BROKEN": broken},
            capture_output=True, text=True,
        )  # fmt: skip
        return done, (tmp_path / "log").read_text().splitlines()

    return run


ALL = "[-m 'exhaustive or not exhaustive']"


def test_every_python_is_tested_and_the_last_one_exhaustively(ci):
    done, log = ci("3.11", "3.13")
    assert done.returncode == 0, done.stderr
    log = [line for line in log if " python " not in line]
    assert log == [
        "3.11 pip install -e .[test] []",
        "3.11 pytest -n auto []",
        "3.11 ruff check . []",
        "3.11 ruff format --check . []",
        "3.11 mypy  []",
        f"3.13 pip install -e .[test] {ALL}",
        f"3.13 pytest -n auto {ALL}",
    ]
    assert "== Python 3.12: not on this machine, skipped" in done.stdout


@pytest.mark.parametrize(
    "broken",
    [
        "3.11 pip", "3.11 pytest", "3.13 pip", "3.13 pytest", "3.11 ruff check",
        "3.11 ruff format", "3.11 mypy",
    ],
)  # fmt: skip
def test_whatever_fails_fails_the_whole(ci, broken):
    done, log = ci("3.11", "3.13", broken=broken)
    assert done.returncode == 3
    assert broken in log[-1]  # and nothing was done after it


def test_no_python_is_a_failure(ci):
    done, log = ci()
    assert (done.returncode, log) == (1, [])
    assert "no supported Python found" in done.stderr


def test_another_test_command_in_the_readme_is_a_failure(ci, tmp_path):
    (tmp_path / "README.md").write_text("make test\n")
    done, log = ci("3.13")
    assert (done.returncode, log) == (1, [])
    assert "README.md no longer holds the test command" in done.stderr


def test_nothing_is_left_behind(ci, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    ci("3.13", broken="pytest")
    assert {path.name for path in tmp_path.iterdir()} - before == {"log"}
