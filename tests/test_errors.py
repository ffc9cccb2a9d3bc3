"""Sentences that no name or cell in them can turn against the reader."""

import pytest

from funcgrad.errors import InputError, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("R² of größe, 高さ and a \\", "R² of größe, 高さ and a \\"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("two\nlines\r\ttab\0", r"two\nlines\r\ttab\x00"),
        ("\x9b31m \x7f", r"\x9b31m \x7f"),
        ("\u202egnp.txt\u2028", r"\u202egnp.txt\u2028"),
        ("not UTF-8: \udcff", r"not UTF-8: \udcff"),
    ],
)
def test_what_commands_a_terminal_is_shown_as_python_writes_it(text, line):
    assert shown(text) == line
    assert shown(line) == line
    for error in (InputError(f"{text} is wrong"), InputError(f"got {text}", "target")):
        assert line in str(error)
        assert line in error.sentence


def test_of_a_long_text_the_middle_is_left_out():
    short = shown("must be short, got " + 10**6 * "x" + ": cut it")
    assert short.startswith("must be short, got xxx")
    assert short.endswith("xxx: cut it")
    assert " ... " in short
    assert len(short) < 1100
    assert shown(10**6 * "x", most=None) == 10**6 * "x"
    assert len(InputError("must be " + 10**6 * "x").sentence) < 1100
