"""The error for input that cannot be used, and the words that its sentences share."""

import difflib
from collections.abc import Iterable, Sequence

# Enough for a sentence with eight names in it; a cell may have millions.
MOST_SHOWN = 1000


class InputError(ValueError):
    """Raised where a file, a table or an argument cannot be used as it is.

    The message is one sentence: what is required, what was given, how to mend it.
    Where it is about an argument it begins with its name, which the shell spells as an
    option. What it quotes of files and tables cannot command a terminal, nor fill it.
    """

    def __init__(self, sentence: str, argument: str | None = None):
        sentence = shown(sentence)
        super().__init__(sentence if argument is None else f"{argument} {sentence}")
        self.sentence = sentence
        self.argument = argument


def shown(text: str, most: int | None = MOST_SHOWN) -> str:
    r"""Return `text` as a line that is safe to print, of about `most` characters.

    Names and cells may hold escapes that command a terminal: what cannot be printed is
    written as Python writes it. Of a longer text the middle is left out; None keeps it.

    >>> print(shown("red \x1b[31m"))
    red \x1b[31m
    """
    if most is not None and len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2) :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(names: Sequence[str]) -> str:
    """Return the first few names in words."""
    shown = ", ".join(repr(name) for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def and_more(count: int) -> str:
    """Return what to say where one of `count` cases was named."""
    return f" and {count - 1} more" if count > 1 else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a guess at what was meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""
