"""Tables that are strange: what can be read is, and the rest is a sentence each."""

import os
import threading

import pytest

from funcgrad.data import read_table
from funcgrad.errors import InputError

ROWS = "1,2,no\n3,4,yes\n"

READ = {
    "a byte order mark": ("\ufeffa,b,y\n" + ROWS, ["a", "b", "y"]),
    "two byte order marks": ("\ufeff\ufeffa,b,y\n" + ROWS, ["a", "b", "y"]),
    "a mark and quotes": ('\ufeff"a",b,y\n' + ROWS, ["a", "b", "y"]),
    "a quote in quotes": ('a,"b""c",y\n' + ROWS, ["a", 'b"c', "y"]),
    "a comma in quotes": ('a,"b,c",y\n' + ROWS, ["a", "b,c", "y"]),
    "a line break in quotes": ('a,"b\nc",y\n' + ROWS, ["a", "b\nc", "y"]),
    "lines that end in CR LF": ("a,b,y\r\n1,2,no\r\n", ["a", "b", "y"]),
    "a long name": ("a," + "b" * 100_000 + ",y\n" + ROWS, ["a", "b" * 100_000, "y"]),
    "escapes": ("a,\x1b[31m,y\n" + ROWS, ["a", "\x1b[31m", "y"]),
}


@pytest.mark.parametrize("case", READ)
def test_tables_that_can_be_read(tmp_path, case):
    content, names = READ[case]
    (tmp_path / "t.csv").write_text(content, newline="")
    table = read_table(tmp_path / "t.csv")
    assert table.columns == names
    assert table.row(0) == ("1", "2", "no")


REFUSED = {
    "spaces alone": ("  \n \n", "t.csv is empty: give a CSV table"),
    "an empty first line": ("\na,b,y\n" + ROWS, "has an empty first line: the first"),
    "a quote without end": (
        'a,"b,y\n' + ROWS,
        "has a first line that cannot be read: unexpected end of data: each quote must",
    ),
    "text after a quote": (
        'a,"b"c,y\n' + ROWS,
        "first line that cannot be read: ',' e",
    ),
    "a quote without end in a row": (
        "a,b,y\n" + ROWS + '1,"2,no\n',
        "each line must have as many cells as the first, and each quote its end",
    ),
    "a longer row": ("a,b,y\n1,2,no,5\n", "each line must have as many cells as the f"),
    "a NUL in a name": ("a,b\0,y\n" + ROWS, "t.csv holds NUL bytes, so it is not text"),
    "a NUL in a cell": (
        "a,b,y\n1,\x002,no\n",
        "t.csv holds NUL bytes, so it is not te",
    ),
    "a name of a million": (
        "a," + "b" * 10**6 + ",y\n" + ROWS,
        "field larger than field limit (131072): each quote must have its end, and nam",
    ),
    "a million columns": (
        ",".join(map(str, range(10**6))) + "\n1,2\n",
        "has 1,000,000 columns, where at most 100,000 can be read: leave some out",
    ),
    "names that are the same without spaces": (
        "a, a ,y\n" + ROWS,
        "has two columns named 'a': rename one",
    ),
    "lines that end in CR": (
        "a,b,y\r1,2,no\r3,4,yes\r",
        "t.csv has lines that end in an unusual way: save it as a CSV file with",
    ),
    "names that command a terminal, twice": (
        "\x1b[2J,\x1b[2J\n1,2\n",
        r"has two columns named '\x1b[2J': rename one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_cannot(tmp_path, case):
    content, sentence = REFUSED[case]
    (tmp_path / "t.csv").write_text(content, newline="")
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "t.csv")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 1200


def test_text_in_utf_16_is_told_what_is_required(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(InputError, match="save it as a CSV file in UTF-8"):
        read_table(tmp_path / "t.csv")


def test_a_pipe_can_be_read_and_a_device_cannot(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    text = "a,b,y\n" + ROWS * 50_000  # more than a pipe holds
    write = (tmp_path / "pipe").write_text
    writer = threading.Thread(target=write, args=[text], daemon=True)
    writer.start()
    assert read_table(tmp_path / "pipe").height == 100_000
    writer.join(timeout=10)
    with pytest.raises(InputError, match="/dev/null is a device: give a CSV file"):
        read_table("/dev/null")
    with pytest.raises(InputError, match="x cannot be read: File name too long"):
        read_table("x" * 300)
