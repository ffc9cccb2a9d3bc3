"""Fixtures of several rooms, and the figures that tests record.

Those are printed at the end of a run, the largest of each.
"""

import os

import pytest

# Before JAX is there: no test reads or fills the cache of whoever runs them.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

from funcgrad.fast import groups

# Looked through for doctests, two files of this name would be taken for one.
# And those are programs, which their tests run as processes.
collect_ignore_glob = ["*conftest.py", "many_devices/*", "hosts_program.py"]


@pytest.fixture
def small_groups(monkeypatch):
    """Make groups of three, two to a call: seven members need two calls, one padded."""
    monkeypatch.setattr(groups, "MOST_MEMBERS_OF_A_GROUP", 3)
    monkeypatch.setattr(groups, "FEWEST_CALLS_OF_A_WORKER", 1)
    monkeypatch.setattr(groups, "cores", lambda: 2)
    monkeypatch.setattr(groups, "FEWEST_LANES", 1)


def pytest_terminal_summary(terminalreporter):
    figures = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            figures[name] = max(value, figures.get(name, value))
    if figures:
        terminalreporter.section("figures")
        for name, value in sorted(figures.items()):
            terminalreporter.write_line(f"{name}: {value:,.4g}")
