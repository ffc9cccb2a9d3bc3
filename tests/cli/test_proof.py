"""The line that proves the gradient before training."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcgrad as fg
from funcgrad.cli import proof
from funcgrad.cli.proof import prove
from funcgrad.data import moons
from funcgrad.data.predictor import LOSSES
from funcgrad.testing import check
from funcgrad.testing.program import trace
from funcgrad.testing.size import FIELDS, rows_that_fit


def nets(loss: str):
    """Return (objective, params, batch) for a small net with that loss."""
    outputs = 3 if loss == "cross_entropy" else 1
    model = fg.mlp([2, 4, outputs], activation=jnp.tanh, final_activation=fg.linear)
    x, y = moons(12)
    y = y + (np.arange(12) % 2 if outputs == 3 else 0)

    def objective(params, batch):
        x, y = batch
        return LOSSES[loss](model.apply(params, x), y) + 0.01 * fg.l2(params)

    params = model.init(jax.random.key(0))
    return objective, params, (x.astype("f"), y.astype(np.int32))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_line_is_a_proof_for_every_loss(loss):
    line = prove(*nets(loss)).text
    found = re.fullmatch(
        r"gradients: all \d+ proven on 12 of 12 rows: rules exact, rounding at most "
        r"(\S+)% of its bound",
        line,
    )
    assert 0 < float(found[1]) <= 100


def test_the_gradient_line_says_where_rounding_has_no_bound(monkeypatch):
    objective, params, batch = nets("hinge")
    report = check.judged(trace(objective, (params, batch)), given=False, exactly=True)
    doubtful = report.leaves[0]._replace(bound=np.inf)
    monkeypatch.setattr(
        proof,
        "judged",
        lambda *_, **__: report._replace(leaves=(doubtful, *report.leaves[1:])),
    )
    assert prove(objective, params, batch).text.endswith(
        "rules exact, rounding without a bound, as a path is in doubt"
    )


def test_the_gradient_line_shows_the_whole_report_of_a_wrong_rule():
    objective, params, batch = nets("hinge")

    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvp(lambda x, t: (cube(*x), 2 * x[0] ** 2 * t[0]))

    def wrong(params, batch):
        return objective(params, batch) + cube(params[0].w[0, 0])

    text = prove(wrong, params, batch).text
    assert text.startswith("gradient: rule (")
    assert "culprit: custom_jvp `cube`" in text


def test_rows_too_many_for_exact_numbers_are_proven_in_fields(monkeypatch):
    problem = nets("hinge")
    assert prove(*problem).miss == 0
    monkeypatch.setattr(proof, "EXACT_SECONDS", 0)
    found = prove(*problem)
    assert (found.verdict, found.rows, found.miss) == ("ok", 12, 2.0**-60)
    assert re.search(
        r"proven on 12 of 12 rows: rules in finite fields \(a wrong one passes once in "
        r"2\^60\), rounding at most \S+% of its bound",
        found.text,
    )


def test_the_gradient_line_takes_as_many_rows_as_fit(monkeypatch):
    problem = nets("hinge")
    monkeypatch.setattr(proof, "EXACT_SECONDS", 0)
    [(whole, one)] = rows_that_fit(*problem, (FIELDS, proof.SECONDS))
    assert whole == 12
    monkeypatch.setattr(proof, "SECONDS", 1.001 * one)
    [(rows, _)] = rows_that_fit(*problem, (FIELDS, proof.SECONDS))
    assert 1 <= rows < 12
    assert f" on {rows} of 12 rows" in prove(*problem).text
    monkeypatch.setattr(proof, "SECONDS", one / 2)
    assert prove(*problem).text.startswith("gradients: not proven, as one row would")
