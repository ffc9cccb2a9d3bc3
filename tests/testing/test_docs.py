"""The blocks of docs/gradient-proof.md run, and give the reports printed there."""

import contextlib
import io
import re
from pathlib import Path

from funcgrad.testing.rules.elementwise import ELEMENTWISE

PAGE = Path(__file__).parents[2] / "docs" / "gradient-proof.md"


def blocks():
    return re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(), re.DOTALL)


def essence(report):
    """Return a report without the numbers that differ between devices, and paths."""
    out = []
    for line in report.strip().splitlines():
        line = re.sub(r" at \S+:\d+", " at FILE", line)
        if re.search(r"  float32  ", line):
            line = " ".join(line.split()[:4])
        out.append(" ".join(line.split()))
    return out


def run(directory):
    """Run all blocks in one namespace; yield each printed report and the real one."""
    space = {}
    for i, (kind, text) in enumerate(blocks()):
        if kind == "python":
            file = directory / f"block{i}.py"
            file.write_text(text)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(text, str(file), "exec"), space)
            said = re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE)
            assert printed.getvalue().splitlines() == said
        else:
            yield text, str(space["report"])


def test_blocks_run_and_reports_are_as_printed(tmp_path):
    try:
        pairs = list(run(tmp_path))
    finally:
        ELEMENTWISE.pop("my_exp", None)
    assert len(pairs) == 3
    for printed, real in pairs:
        assert essence(printed) == essence(real), real
