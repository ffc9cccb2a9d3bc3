"""The entry point: help, version, exit codes, and what is missing."""

import subprocess
import sys

import pytest
from shell import ENVIRONMENT

import funcgrad as fg
from funcgrad import cli


def test_help_and_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"funcgrad {fg.__version__}\n"
    assert cli.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    for option in [
        "target",
        "hidden",
        "activation",
        "optimizer",
        "learning-rate",
        "steps",
        "batch-size",
        "validation",
        "patience",
        "seconds",
        "seed",
        "out",
        "overwrite",
        "quiet",
        "json",
    ]:
        assert f"--{option} " in text
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("train", "predict", "evaluate", "show"))


def test_options_that_are_no_numbers_are_refused_too(capsys):
    assert cli.main(["train", "moons", "--steps", "many"]) == 2
    assert "Invalid value for '--steps'" in capsys.readouterr().err
    assert cli.main(["learn"]) == 2
    assert "No such command 'learn'" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr(cli, "NEEDED", ("typer", "not_there"))
    error = refused("train", "moons")
    assert error.startswith("the command needs not_there, not installed here")
    assert error.endswith('pip install "funcgrad[cli]"')


@pytest.mark.exhaustive
def test_importing_the_entry_point_needs_no_extra():
    blocked = "import sys; sys.modules.update(dict.fromkeys(" + repr(
        ["typer", "rich", "matplotlib", "polars", "flint"]
    )
    code = f"{blocked})); import funcgrad, funcgrad.cli, funcgrad.data, funcgrad.plots"
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT)


def test_python_m_funcgrad_is_the_command(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "funcgrad", *arguments]
        return subprocess.run(
            command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    assert run("--version").stdout == f"funcgrad {fg.__version__}\n"
    refused = run("train", "moon")
    assert refused.returncode == 2
    assert refused.stderr.startswith("funcgrad: 'moon' is neither one of moons, xor")
