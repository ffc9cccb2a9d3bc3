"""Random programs, right and wrong: exact numbers and finite fields say the same."""

import warnings

import jax
import numpy as np
import pytest
from test_random_faults import build as build_at_fault
from test_random_programs import TYPES, on_batches

from funcgrad.testing import at_size, culprit, verdict
from funcgrad.testing.control import Uncovered
from funcgrad.testing.program import trace

BATCHES, FAULTS, PARTS = 3, 40, 4


def by_both(f, *args):
    """Return the reports by exact numbers and by identity."""
    program, found = trace(f, args), []
    for method in (verdict, at_size):
        try:
            found.append(method.judge(program, given=False))
        except Uncovered as missing:
            found.append(culprit.uncovered(missing, program))
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", TYPES)
def test_right_programs_pass_by_both_methods(dtype):
    def judge(batch, f, arguments):
        for report in by_both(f, arguments):
            # That JAX 0.9.2 compiles some wrong is no matter of the rules.
            assert report.verdict in ("ok", "compiler"), f"{batch}\n{report}"

    on_batches(dtype, 1000 + TYPES.index(dtype), BATCHES, judge)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_wrong_by_exact_numbers_is_never_right_by_identity(part):
    for number in range(part * FAULTS, (part + 1) * FAULTS):
        f, x, names = build_at_fault(number)
        with warnings.catch_warnings():
            # Wrong rules make infinities and NaNs, of which NumPy warns.
            warnings.simplefilter("ignore", RuntimeWarning)
            exact, identity = by_both(f, x)
        if identity.verdict == "ok":
            assert exact.verdict == "ok", (number, names, str(exact))
        if identity.verdict == "rule" and exact.verdict == "ok":
            # What is wrong elsewhere is right at 0, by chance.
            assert not np.any(np.asarray(x, np.float32)), (number, names, str(identity))
    jax.clear_caches()
