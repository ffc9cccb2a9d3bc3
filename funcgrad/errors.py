"""The error for input that cannot be used, and the words that its sentences share."""

import difflib
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Raised where a file, a table or an argument cannot be used as it is.

    The message is one sentence: what is required, what was given, how to mend it.
    Where it is about an argument it begins with its name, which the shell spells as an
    option.
    """

    def __init__(self, sentence: str, argument: str | None = None):
        super().__init__(sentence if argument is None else f"{argument} {sentence}")
        self.sentence = sentence
        self.argument = argument


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
