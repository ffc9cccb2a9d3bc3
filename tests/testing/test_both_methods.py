"""Random programs, right and wrong: exact numbers and finite fields say the same."""

import warnings

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from test_random_faults import build as build_at_fault
from test_random_programs import PROGRAMS_PER_EXAMPLE, TYPES, build, programs

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
@pytest.mark.parametrize(
    ("dtype", "batches"),
    [
        pytest.param("float32", 1, id="brief"),
        *(pytest.param(t, BATCHES, marks=pytest.mark.exhaustive) for t in TYPES),
    ],
)
def test_right_programs_pass_by_both_methods(dtype, batches):
    @seed(1000 + TYPES.index(dtype))
    @settings(
        max_examples=batches,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        st.lists(
            programs(), min_size=PROGRAMS_PER_EXAMPLE, max_size=PROGRAMS_PER_EXAMPLE
        )
    )
    def check(batch):
        built = [build(program, dtype) for program in batch]

        def all_of_them(arguments):
            return [f(x, w) for (f, _, _), (x, w) in zip(built, arguments, strict=True)]

        reports = by_both(all_of_them, [(x, w) for _, x, w in built])
        for report in reports:
            # That JAX 0.9.2 compiles some wrong is no matter of the rules.
            assert report.verdict in ("ok", "compiler"), f"{batch}\n{report}"

    with jax.enable_x64(dtype == "float64"):
        check()
    jax.clear_caches()


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
