"""What tests of the command share: runs, only to be read, and a look at a refusal."""

import subprocess
import sys

import pytest
from shell import ENVIRONMENT, GOOD, QUANTITY, snapshot

from funcgrad import cli


@pytest.fixture(scope="session")
def moons_run(tmp_path_factory):
    """Return the folder and the output of the installed way to call the command."""
    folder = tmp_path_factory.mktemp("moons")
    call = "import sys; from funcgrad.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", call, "train", "moons"],
        cwd=folder,
        # A window that matplotlib does not know must not matter to a picture in a file.
        env=ENVIRONMENT | {"MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command and checks that it refuses properly.

    The folder holds a run of an earlier day, which must stay as it is.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("t", "moons"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.safetensors").write_text("of yesterday")

    def check(*arguments: str) -> str:
        before = snapshot(tmp_path)
        code = cli.main(arguments)
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("funcgrad: ")
        assert error.count("\n") == 1, error
        assert "Traceback" not in error
        assert snapshot(tmp_path) == before
        return error.removeprefix("funcgrad: ").strip()

    return check


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Return a folder with the model of a classifier and that of a regression."""
    folder = tmp_path_factory.mktemp("models")
    for name, content in {"classes": GOOD, "quantity": QUANTITY}.items():
        table = folder / f"{name}.csv"
        table.write_text(content)
        arguments = ["train", str(table), "--target", "y", "--out", str(folder / name)]
        assert cli.main([*arguments, "--steps", "2"]) == 0
    return folder
