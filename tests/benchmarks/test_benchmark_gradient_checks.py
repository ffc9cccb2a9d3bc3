"""The comparison with finite differences counts what a checker lets pass."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import gradient_checkers, gradient_checks, gradient_sizes
from benchmarks.gradient_checkers import Judged
from benchmarks.gradient_checks import Row, measure, terminal_line


def accepts_within(error):
    """Return a checker that lets a gradient pass if it is as near to the truth."""

    def accepted(f, x):
        if f in [right for right, _ in gradient_checks.RIGHT.values()]:
            return Judged(f is not gradient_checks.RIGHT["exp"][0], "")
        got = np.asarray(jax.grad(lambda x: f(x).sum())(x))
        truth = np.asarray(1 - jax.numpy.tanh(x) ** 2)
        return Judged(bool(np.all(abs(got / truth - 1) <= error)), "")

    return accepted


@pytest.mark.parametrize(
    ("error", "caught", "missed"),
    [(0.1, 1 + 2.0**-3, ""), (0.6, 2.0, ""), (1.5, None, "zero"), (9, None, "sign")],
)
def test_the_smallest_factor_is_found(error, caught, missed):
    (row, _) = measure({"within": accepts_within(error)}, sizes=[3])
    right = len(gradient_checks.RIGHT)
    assert row == Row("within", "float32", 3, caught, missed, 1, right)


def test_whoever_rejects_everything_is_asked_down_to_the_last_bit():
    single, double = measure({"never": lambda f, x: Judged(False, "")}, sizes=[1])
    assert (single.dtype, single.smallest_caught) == ("float32", 1 + 2.0**-23)
    assert (double.dtype, double.smallest_caught) == ("float64", 1 + 2.0**-52)
    assert single.rejected == single.right


@pytest.mark.exhaustive
def test_the_proof_catches_the_last_bit_of_a_number_and_rejects_nothing_right():
    single, _ = measure({"proof": gradient_checkers.by_proof}, sizes=[1])
    assert (single.smallest_caught, single.rejected) == (1 + 2.0**-23, 0)


@pytest.mark.parametrize(
    ("caught", "missed", "said"),
    [
        (
            1 + 2.0**-23,
            "",
            "who                float32    10  1 + 2^-23                ",
        ),
        (
            1 + 2.0**-52,
            "",
            "who                float32    10  1 + 2^-52                ",
        ),
        (2.0, "", "who                float32    10  2                        "),
        (None, "zero", "who                float32    10  not even zero            "),
    ],
)
def test_a_line_is_made_of_the_row(caught, missed, said):
    row = Row("who", "float32", 10, caught, missed, 3, 12)
    assert terminal_line(row) == said + "3 of 12"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Return the command, without torch; its checkers accept what they are given."""

    def accept(f, x):
        return Judged(True, "")

    monkeypatch.setattr(gradient_checkers, "by_proof", accept)
    monkeypatch.setattr(gradient_checkers, "by_check_grads", accept)
    monkeypatch.setitem(sys.modules, "torch", None)

    def run(*items):
        arguments = ["gradient_checks", *items, "--json", str(tmp_path / "rows.json")]
        monkeypatch.setattr(sys, "argv", arguments)
        gradient_checks.main()
        told = json.loads((tmp_path / "rows.json").read_text())
        return capsys.readouterr().out.splitlines(), told

    return run


def test_the_command_prints_and_writes_and_names_the_extra(command):
    (header, *lines, absent), told = command("digits")
    assert header.startswith("checker            dtype       n  smallest factor caught")
    rows = [Row(**row) for row in told["rows"]]
    assert {"jax", "numpy"} == told["versions"].keys()
    assert lines == [terminal_line(row) for row in rows]
    assert len(rows) == 2 * 2 * len(gradient_checks.SIZES)
    assert rows[0].missed == "sign" and rows[0].rejected == 0
    assert absent.endswith('absent: needs torch: pip install "funcgrad[bench]"')
    assert told["sizes"] == []


def test_the_command_has_a_line_of_size_for_each_checker_that_is_there(
    command, monkeypatch
):
    answer = {"accepted": True, "said": "ok", "cpu": 1, "wall": 2, "memory": 10**9}
    monkeypatch.setattr(gradient_sizes, "ask", lambda *given: dict(answer))
    (header, *lines, absent), told = command("moons")
    assert header == gradient_sizes.HEADER
    checkers = [row["checker"] for row in told["sizes"]]
    assert checkers == [n for n in gradient_sizes.CHECKERS if "torch" not in n]
    assert all("1.00 GB  missed     missed     accepted, ok" in s for s in lines[:3])
    assert told["rows"] == [] and "absent: needs torch" in absent


def test_an_unknown_item_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("nonsense")
    assert (
        "items are digits, moons, images, gpt; got nonsense" in capsys.readouterr().err
    )
