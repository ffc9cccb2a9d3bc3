"""The gradient proof: a verdict without tolerances, for any JAX function."""

from funcgrad.testing.check import assert_gradients, check_gradients
from funcgrad.testing.report import GradientReport, LeafReport
from funcgrad.testing.rules.elementwise import add_rule

__all__ = [
    "GradientReport",
    "LeafReport",
    "add_rule",
    "assert_gradients",
    "check_gradients",
]
