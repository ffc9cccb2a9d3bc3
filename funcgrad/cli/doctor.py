"""`funcgrad doctor`."""

import typer

from funcgrad.cli.terminal import say
from funcgrad.testing import doctor as checks


def doctor() -> None:
    """Hold this device's compiled numbers against exact ones.

    Products on small integers must be right to the last bit, and gradients of small
    programs are proven. Prints each check; the exit code is 1 if one fails.
    """
    for name, what in checks.describe_device().items():
        say(f"{name}: {what}")
    findings = []
    for finding in checks.examine():
        findings.append(finding)
        say(f"{'ok' if finding.ok else finding.verdict.upper():8s}  {finding.name}")
        if not finding.ok:
            for line in finding.detail.splitlines():
                say(line)
    failed = [finding for finding in findings if not finding.ok]
    if not failed:
        say(f"all {len(findings)} checks passed: compiled numbers can be trusted here")
        return
    say(f"{len(failed)} of {len(findings)} checks failed; what to do:")
    for advice in dict.fromkeys(finding.advice for finding in failed):
        say(f"- {advice}")
    raise typer.Exit(1)
