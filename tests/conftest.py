"""Figures that tests record are printed at the end of a run, the largest of each."""


def pytest_terminal_summary(terminalreporter):
    figures = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            figures[name] = max(value, figures.get(name, value))
    if figures:
        terminalreporter.section("figures")
        for name, value in sorted(figures.items()):
            terminalreporter.write_line(f"{name}: {value:,.4g}")
