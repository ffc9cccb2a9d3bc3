from typing import Any
from funcgrad.testing.report import GradientReport
def uncovered(missing): return GradientReport("uncovered", (), (), str(missing.name))
def of_rule(program, grad): return ""
def of_pole(program, rounded): return ""
def of_compiler(program, path): return ""
def of_kink(ties): return ""
def path_notes(rounded): return []
