"""The README and the pages in docs/ run, and print what stands beside their code.

The blocks of a page run from top to bottom in one namespace and one empty folder:
Python, whose calls of `print` are held to the comments behind them, and lines of shell
that begin with `funcgrad`, whose output is held to the text block below, numbers apart.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from funcgrad import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# The reports that docs/gradient-proof.md prints need a test of their own.
PAGES = [
    ROOT / "README.md",
    *sorted(set(DOCS.glob("*.md")) - {DOCS / "gradient-proof.md"}),
]
ALL_PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md")]
# Many runs, each of which the other tests do in small.
LONG = [DOCS / f"{name}.md" for name in ("gpt", "guide", "tables", "training")]


def blocks(text):
    """Yield (language, line of the page, block)."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield found[1], text[: found.start(2)].count("\n"), found[2]


def expected_output(block):
    """Return the comments behind calls of print."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)


def run(block, namespace, page=Path("page"), line=0):
    """Run a block of Python; return the lines that it printed."""
    printed = io.StringIO()
    code = compile("\n" * line + block, str(page), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue().splitlines()


def run_shell(block):
    """Run the lines of a block that are a `funcgrad` command; return their output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for line in block.splitlines():
            if line.startswith("funcgrad "):
                _, *arguments = shlex.split(line, comments=True)
                assert cli.main(arguments) == 0, line
    return printed.getvalue()


def without_numbers(text):
    return [re.sub(r"\d[\d,.e-]*", "N", line) for line in text.split("\n") if line]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page.name, marks=pytest.mark.exhaustive if page in LONG else ()
        )
        for page in PAGES
    ],
)
def test_page_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, output = {"__name__": "__main__"}, ""
    for language, line, block in blocks(page.read_text()):
        if language == "python":
            printed = run(block, namespace, page, line)
            assert printed == expected_output(block), f"{page.name}, line {line}"
        elif language == "sh":
            output = run_shell(block)
        elif language == "text":
            assert without_numbers(output) == without_numbers(block)
    for written in filter(Path.is_file, tmp_path.iterdir()):
        kept = DOCS / written.name
        assert not kept.exists() or written.read_text() == kept.read_text()


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_there_are_blocks_that_print():
    printing = [
        printed
        for page in PAGES
        for language, _, block in blocks(page.read_text())
        if language == "python"
        for printed in expected_output(block)
    ]
    assert len(printing) >= 20


def test_the_check_can_fail():
    block = "print(1 + 1)  # 3\n"
    assert expected_output(block) == ["3"]
    assert run(block, {}) != expected_output(block)
