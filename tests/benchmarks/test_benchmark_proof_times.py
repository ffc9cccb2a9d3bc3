"""The times of the proof are printed, a line a network."""

import sys

import pytest

from benchmarks import proof_times


def test_a_line_for_each_network_with_the_best_of_its_rounds(monkeypatch, capsys):
    clock = iter([0.0, 3.0, 10.0, 12.0, 20.0, 24.5])
    monkeypatch.setattr(proof_times.time, "perf_counter", lambda: next(clock))
    proved = []
    monkeypatch.setattr(proof_times, "assert_gradients", lambda *c: proved.append(c))
    check = proof_times.Check(abs, 1.0, 2.0)
    monkeypatch.setattr(proof_times, "CHECKS", {"a network": lambda: check})
    monkeypatch.setattr(sys, "argv", ["proof_times.py", "--rounds", "3"])
    proof_times.main()
    assert proved == [check] * 3
    assert capsys.readouterr().out == f"proof of {'a network':22}   2.00 s\n"


def test_a_wrong_gradient_is_not_timed(monkeypatch):
    def wrong(*check):
        raise AssertionError("gradient: rule")

    monkeypatch.setattr(proof_times, "assert_gradients", wrong)
    with pytest.raises(AssertionError, match="rule"):
        proof_times.seconds(proof_times.Check(abs, 1.0, 2.0), 2)
