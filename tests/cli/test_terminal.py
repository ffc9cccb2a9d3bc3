"""What the terminal cannot take, or must not: the work is done all the same."""

import io
import os
import subprocess
import sys

import pytest
from shell import ENVIRONMENT, GOOD, QUANTITY

from funcgrad import cli
from funcgrad.cli import terminal
from funcgrad.data import read_table

RUN = ["boundary.png", "history.csv", "loss.png", "model.safetensors"]


@pytest.fixture
def stdout(monkeypatch):
    """Return a function that makes a stream the standard output."""
    streams = []

    def use(stream):
        streams.append(stream)
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    yield use
    for stream in streams:
        stream.close()


def without_reader():
    """Return a stream that `head` has left."""
    read, write = os.pipe()
    os.close(read)
    return open(write, "w")


def full():
    """Return a stream of a disk that is full."""
    return open("/dev/full", "w")


@pytest.mark.exhaustive
def test_a_reader_that_leaves_does_not_stop_the_run(stdout, tmp_path, capsys):
    stdout(without_reader())
    assert cli.main(["train", "xor", "--steps", "2", "--out", str(tmp_path)]) == 0
    assert sorted(os.listdir(tmp_path)) == RUN
    assert capsys.readouterr().err == ""


def test_a_full_output_is_told_once_the_work_is_done(stdout, tmp_path, capsys):
    stdout(full())
    assert cli.main(["train", "xor", "--steps", "2", "--out", str(tmp_path)]) == 2
    assert sorted(os.listdir(tmp_path)) == RUN
    assert capsys.readouterr().err == (
        "funcgrad: not all output could be written: No space left on device; the work "
        "itself was done\n"
    )


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_what_others_print_to_a_full_output(stdout, argument, capsys):
    stdout(full())
    assert cli.main([argument]) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_a_closed_output_is_no_output(monkeypatch, models, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    (tmp_path / "t.csv").write_text(GOOD)
    model = str(models / "classes/model.safetensors")
    for command in ("predict", "evaluate"):
        assert cli.main([command, model, str(tmp_path / "t.csv")]) == 0


@pytest.mark.exhaustive
def test_nobody_reads_the_sentence_either(tmp_path):
    """Both streams lead to a reader that has left: no traceback, no other code."""
    call = [sys.executable, "-m", "funcgrad", "train", "moon"]
    with without_reader() as gone:
        done = subprocess.run(
            call, env=ENVIRONMENT, cwd=tmp_path, stdout=gone, stderr=gone, check=False
        )
    assert done.returncode == 2


def test_a_terminal_of_ascii_gets_escapes(stdout, models, tmp_path):
    (tmp_path / "t.csv").write_text(QUANTITY)
    out = stdout(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    model = str(models / "quantity/model.safetensors")
    assert cli.main(["evaluate", model, str(tmp_path / "t.csv")]) == 0
    assert out.buffer.getvalue().startswith(rb"R\xb2 ")


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal and keeps what it shows."""

    def isatty(self):
        return True


STRANGE = "a,b,größe \x1b[31m\n1,2,é\x07\n3,4,\x1b]0;x\x07\n"


def printed(stream, model, table):
    assert cli.main(["predict", model, str(table)]) == 0
    return stream.buffer.getvalue().decode()


def test_csv_is_as_it_is_in_a_file_and_safe_on_a_terminal(stdout, models, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(STRANGE)
    model = str(models / "classes/model.safetensors")
    assert cli.main(["predict", model, str(table), "--out", str(tmp_path / "p")]) == 0
    cells = read_table(tmp_path / "p").drop("prediction", "probability")
    assert cells.equals(read_table(table))

    piped = printed(
        stdout(io.TextIOWrapper(io.BytesIO(), encoding="ascii")), model, table
    )
    assert piped == (tmp_path / "p").read_text()

    shown = printed(stdout(Terminal(io.BytesIO(), encoding="utf-8")), model, table)
    assert r"größe \x1b[31m" in shown
    assert r"é\x07" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("\n") == piped.count("\n") == 3

    ascii = printed(stdout(Terminal(io.BytesIO(), encoding="ascii")), model, table)
    assert r"gr\xf6\xdfe \x1b[31m" in ascii


def test_names_never_reach_the_terminal_raw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    red = "\x1b[31m"
    rows = GOOD.replace("yes", f"yes{red}").partition("\n")[2]
    table = tmp_path / f"t{red}.csv"
    table.write_text(f"a{red},b,y{red}\n{rows}")
    target = ["--target", f"y{red}"]
    assert cli.main(["train", str(table), *target, "--steps", "2"]) == 0
    model = f"runs/t{red}/model.safetensors"
    assert cli.main(["evaluate", model, str(table)]) == 0
    (tmp_path / f"other{red}.csv").write_text(f"a{red},b\n1,{red}\n")
    for refused in (
        ["train", str(table)],
        ["train", f"no{red}.csv"],
        ["train", str(table), *target, "--activation", red],
        ["train", str(table), *target, "--hidden", red],
        ["train", str(table), *target, "--out", str(table)],
        ["predict", model, f"other{red}.csv"],
        ["predict", model, f"no{red}.csv"],
        ["predict", model, str(table), "--out", f"no{red}/p.csv"],
        ["predict", str(table), str(table)],
        ["train", str(table), str(table)],
        ["train", str(table), f"--{red}"],
        ["train", str(table), "--steps", red],
        [red],
    ):
        assert cli.main(refused) == 2, refused
    said = capsys.readouterr()
    assert said.out.count(r"\x1b[31m") == 3
    assert said.err.count(r"\x1b[31m") >= 13
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))


def test_a_stream_that_fails_later_keeps_what_it_has_taken(tmp_path):
    terminal.lost.clear()
    with open(tmp_path / "said", "w+") as stream:
        terminal.emit("before\n", stream)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, stream.fileno())
        terminal.emit("lost\n", stream)
        terminal.emit("after\n", stream)
    os.close(full)
    assert (tmp_path / "said").read_text() == "before\n"
    assert [error.strerror for error in terminal.lost] == ["No space left on device"]
    terminal.lost.clear()
