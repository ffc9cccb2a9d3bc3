"""The README's Python runs, and prints what the comments beside it say."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def expected_output(block):
    """Return the comments behind calls of print."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)


def run(block):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, str(README), "exec"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


BLOCKS = python_blocks(README.read_text())


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_prints_what_it_says(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(block) == expected_output(block)
    for written in tmp_path.iterdir():
        kept = README.parent / "docs" / written.name
        assert written.read_text() == kept.read_text()


def test_there_are_blocks_that_print():
    assert sum(len(expected_output(block)) for block in BLOCKS) >= 5


def test_the_check_can_fail():
    block = "print(1 + 1)  # 3\n"
    assert expected_output(block) == ["3"]
    assert run(block) != expected_output(block)
