"""Checkers at size: the faults are faults, and a row is what the turns say."""

import jax
import numpy as np
import pytest

from benchmarks import gradient_sizes
from benchmarks.gradient_checkers import by_gradcheck
from benchmarks.gradient_sizes import NETS, judged, net, row_of, rows_of, terminal_line

PROOF = "funcgrad.testing"


def gradients(fault, dtype="float64"):
    with jax.enable_x64(True):
        problem = net((3, 4, 2), 5, fault, dtype)
        value, slopes = jax.value_and_grad(problem.f)(problem.params, problem.batch)
    return float(value), jax.tree.map(np.asarray, slopes)


def test_a_fault_is_in_the_gradient_alone_and_where_it_should_be():
    value, (first, last) = gradients("")
    for fault in ("factor", "broadcast"):
        assert gradients(fault)[0] == value
    _, (wrong, same) = gradients("factor")
    # Float64 sums of few terms, which the factor has rounded otherwise.
    np.testing.assert_allclose(wrong.w, first.w * (1 + 2.0**-20), rtol=1e-12)
    np.testing.assert_array_equal(same.w, last.w)
    _, (same, wrong) = gradients("broadcast")
    np.testing.assert_array_equal(same.w, first.w)
    assert np.all(wrong.b != last.b)


@pytest.mark.parametrize("fault", ["", "factor", "broadcast"])
def test_the_proof_tells_them_apart_and_is_measured(fault, monkeypatch):
    monkeypatch.setitem(
        NETS, "tiny", ("tiny", lambda *given: net((2, 3, 1), 4, *given))
    )
    found = judged("tiny", PROOF, fault)
    assert found["accepted"] is (fault == "")
    named = {"": "ok exact", "factor": "`activation`", "broadcast": "`unsummed`"}
    assert named[fault] in found["said"]
    assert found["parameters"] == 2 * 3 + 3 + 3 + 1
    assert found["cpu"] > 0 and found["wall"] > 0


@pytest.mark.exhaustive
def test_a_process_answers(tmp_path):
    assert gradient_sizes.ask("moons", PROOF, "factor")["accepted"] is False
    assert "KeyError" in gradient_sizes.ask("nothing", PROOF, "")["failed"]


def test_a_row_has_medians_of_the_right_gradient_and_tells_what_was_found(monkeypatch):
    seconds = iter((3.0, 1.0, 2.0))

    def ask(net, checker, fault):
        cpu = 99.0 if fault else next(seconds)
        accepted = fault != "broadcast"
        said = fault or "fine"
        return {
            "accepted": accepted,
            "said": said,
            "cpu": cpu,
            "wall": cpu,
            "memory": 5,
        }

    monkeypatch.setattr(gradient_sizes, "ask", ask)
    (row,) = rows_of("moons", [PROOF], 3)
    assert (row.runs, row.cpu, row.right) == (3, 2.0, "accepted, fine")
    assert row.found == {"factor": "missed", "broadcast": "found"}
    assert "0.00 GB  missed     found      accepted, fine" in terminal_line(row)


def test_who_rejects_the_right_gradient_finds_nothing():
    said = {"accepted": False, "said": "no", "cpu": 1.0, "wall": 1.0, "memory": None}
    row = row_of("moons", PROOF, [said], {"factor": said, "broadcast": said})
    assert set(row.found.values()) == {"as right"}
    assert row.right == "rejected, no" and row.memory is None


def test_who_is_stopped_at_a_fault_has_not_found_it():
    right, stopped = ({"accepted": a, "said": ""} for a in (True, None))
    row = row_of("moons", PROOF, [right], {"factor": stopped, "broadcast": right})
    assert row.found == {"factor": "stopped", "broadcast": "missed"}


def test_who_is_stopped_is_asked_once_and_who_fails_says_how(monkeypatch):
    answers = {"stopped": {"accepted": None, "said": "stopped after 60 s"}}
    monkeypatch.setattr(
        gradient_sizes,
        "ask",
        lambda net, name, fault: answers.get(name, {"failed": "x"}),
    )
    stopped, failed = rows_of("moons", ["stopped", "failed"], 3)
    assert (stopped.runs, stopped.right, stopped.found) == (1, "stopped after 60 s", {})
    assert (failed.runs, failed.found) == (1, {})
    assert terminal_line(failed).endswith("failed: x")


def test_gradcheck_is_stopped_at_an_element():
    pytest.importorskip("torch")
    judged = by_gradcheck(lambda x: (x**2).sum(), np.ones(3), seconds=0.0)
    assert judged == (None, "stopped after 0 s at element 0 of 3")


@pytest.mark.parametrize("fast", [False, True])
def test_gradcheck_judges_all_leaves(fast):
    pytest.importorskip("torch")
    with jax.enable_x64(True):
        for fault, accepted in {"": True, "broadcast": False}.items():
            problem = net((2, 3, 1), 4, fault, "float64")
            assert by_gradcheck(*problem, fast=fast).accepted is accepted
