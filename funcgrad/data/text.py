"""Text for language models: characters or bytes as tokens, and rows of tokens.

A row has context + 1 tokens: a model sees all but the last, and is asked for all but
the first. Where a row ends early it is filled with -1, which no loss counts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcgrad.arguments import Array, at_least
from funcgrad.batches import Drawn
from funcgrad.data.content import content
from funcgrad.errors import InputError, and_more

IGNORED = -1
"""What fills a row where its text has ended."""

# What an int32 can number.
_MOST_TOKENS = 2**31

Text = TypeVar("Text", str, np.ndarray)


@dataclass(frozen=True)
class Characters:
    """A vocabulary of characters: token i is character i of `characters`.

    >>> vocabulary = Characters.fit("banana")
    >>> vocabulary.encode("nab")
    array([2, 0, 1], dtype=int32)
    >>> vocabulary.decode([1, 0, 2])
    'ban'
    """

    characters: str

    kind: ClassVar[str] = "characters"

    @classmethod
    def fit(cls, text: str) -> Characters:
        """Return the vocabulary of all characters in `text`, by their code points."""
        if not text:
            raise InputError("a text must have at least one character, got none")
        return cls("".join(sorted(set(text))))

    @property
    def size(self) -> int:
        """The number of tokens there are."""
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """Return the token of each character, int32 (n,), or name one that is new."""
        points = _code_points(text)
        # One place more than there are known points, for all that are beyond.
        tokens = self._token_of[np.minimum(points, len(self._token_of) - 1)]
        unknown = np.flatnonzero(tokens < 0)
        if len(unknown):
            place = int(unknown[0])
            raise InputError(
                f"a text must be made of the {self.size:,} characters of the "
                f"vocabulary, got {text[place]!r} as character {place + 1:,}"
                f"{and_more(len(unknown))}: leave it out, or train on a text that "
                f"has it"
            )
        return tokens

    def decode(self, tokens: Any) -> str:
        """Return the text of tokens (n,)."""
        chosen = self._points[_checked(tokens, self.size)]
        return chosen.tobytes().decode("utf-32-le")

    @cached_property
    def _points(self) -> np.ndarray:
        return _code_points(self.characters)

    @cached_property
    def _token_of(self) -> np.ndarray:
        """The token of each code point, and -1 where there is none."""
        table = np.full(int(self._points.max()) + 2, -1, np.int32)
        table[self._points] = np.arange(self.size)
        return table


@dataclass(frozen=True)
class Bytes:
    """A vocabulary that knows every text: the 256 bytes, a text being its UTF-8.

    >>> Bytes().encode("é")
    array([195, 169], dtype=int32)
    """

    kind: ClassVar[str] = "bytes"
    size: ClassVar[int] = 256

    def encode(self, text: str) -> np.ndarray:
        """Return the token of each byte, int32 (bytes,)."""
        return np.frombuffer(_encoded(text, "utf-8"), np.uint8).astype(np.int32)

    def decode(self, tokens: Any) -> str:
        """Return the text of tokens (n,), with U+FFFD where they are no UTF-8."""
        whole = _checked(tokens, self.size).astype(np.uint8)
        return whole.tobytes().decode("utf-8", "replace")


Vocabulary = Characters | Bytes


def to_dict(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the vocabulary as `from_dict` takes it, for JSON."""
    return {"kind": vocabulary.kind} | asdict(vocabulary)


def from_dict(about: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary of `to_dict`, or raise ValueError or KeyError."""
    if not isinstance(about, dict):
        raise ValueError("a vocabulary must have a kind")
    if about["kind"] == Bytes.kind:
        return Bytes()
    if about["kind"] != Characters.kind:
        raise ValueError("the vocabulary is of no kind that is known")
    characters = about["characters"]
    if not isinstance(characters, str) or not characters:
        raise ValueError("the characters of a vocabulary must be text")
    characters.encode()  # raises ValueError where UTF-8 cannot write it
    if len(set(characters)) < len(characters):
        raise ValueError("a vocabulary has a character twice")
    return Characters(characters)


# Texts ----------------------------------------------------------------------------


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Return the text in a file of UTF-8; its lines end with \n alone."""
    try:
        text = content(Path(path), "a text file").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not text in UTF-8, as its byte {error.start + 1:,} shows: save "
            f"it as a text file in UTF-8"
        ) from error
    if not text.strip():
        raise InputError(f"{path} is empty: give a text file with a text in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pydoc_text() -> str:
    """Return the documentation that every Python carries, `pydoc_data`: about 500 kB.

    It is the reference of the language in English, all topics by their names, and
    differs a little from version to version.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError(
            "this Python comes without pydoc_data, its own documentation: give a text "
            "file"
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def hold_out_end(text: Text, share: float) -> tuple[Text, Text]:
    """Return (train, held_out): the last `share` of a text, or of its tokens.

    A text is cut and not shuffled, so that nothing that is held out stands beside what
    is learnt from. share * length is rounded, and each part has one entry at least.

    >>> hold_out_end("abcdefghij", 0.2)
    ('abcdefgh', 'ij')
    """
    if not (isinstance(share, (float, np.floating)) and 0 < share < 1):
        raise InputError(
            f"share must be a number between 0 and 1, got {share!r}: for a tenth pass "
            f"0.1"
        )
    if len(text) < 2:
        raise InputError(
            f"a text must have two tokens at least, as one is held out, got "
            f"{len(text)}: give a longer one"
        )
    held = min(max(1, round(share * len(text))), len(text) - 1)
    return text[:-held], text[-held:]


# Rows -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Windows:
    """The draw of `windows`; equal ones share what was compiled."""

    context: int
    batch: int

    def __call__(self, key: jax.Array, tokens: jax.Array) -> jax.Array:
        last = len(tokens) - self.context
        starts = jax.random.randint(key, (self.batch,), 0, last)

        def window(start: jax.Array) -> jax.Array:
            return lax.dynamic_slice_in_dim(tokens, start, self.context + 1)

        return jax.vmap(window)(starts).astype(jnp.int32)


def windows(tokens: Array, context: int, batch: int) -> Drawn:
    """Return data of which each step draws `batch` windows of a long text.

    They begin anywhere, drawn with replacement by the step's key, inside the compiled
    run: rows int32 (batch, context + 1). The tokens, (n,), travel as they are, in the
    narrowest of uint8, uint16 and uint32; all windows as rows would be context + 1
    times as many.

    >>> import jax
    >>> data = windows(np.arange(100), context=3, batch=2)
    >>> data.draw(jax.random.key(0), data.source).shape
    (2, 4)
    """
    context, batch = at_least(1, "context", context), at_least(1, "batch", batch)
    tokens = _checked(tokens)
    if len(tokens) <= context:
        raise InputError(
            f"a text must have more tokens than the context of {context:,}, got "
            f"{len(tokens):,}: give a longer text, or a shorter context"
        )
    narrow = tokens.astype(np.min_scalar_type(int(tokens.max())))
    return Drawn(_Windows(context, batch), jnp.asarray(narrow))


def windows_in_order(tokens: Array, context: int) -> np.ndarray:
    """Return all of a text as rows side by side, int32 (rows, context + 1).

    Each token but the first is asked for once, so that a loss of these rows is that of
    the whole text. Row i begins with token i * context, the last of the row before, and
    the last row is filled with -1.

    >>> windows_in_order(np.arange(6), context=3)
    array([[ 0,  1,  2,  3],
           [ 3,  4,  5, -1]], dtype=int32)
    """
    context, tokens = at_least(1, "context", context), _checked(tokens)
    if len(tokens) < 2:
        raise InputError(
            f"a text must have two tokens at least, one to see and one to ask for, got "
            f"{len(tokens)}: give a longer one"
        )
    rows = -(-(len(tokens) - 1) // context)
    filled = np.full(rows * context + 1, IGNORED, np.int32)
    filled[: len(tokens)] = tokens
    return filled[np.arange(rows)[:, None] * context + np.arange(context + 1)]


def pad(
    sequences: Sequence[Any],
    context: int,
    begin: int | None = None,
    end: int | None = None,
) -> np.ndarray:
    """Return one row for each sequence of tokens, int32 (sequences, context + 1).

    A row is the token `begin`, the sequence, the token `end`, each where it is given,
    and then -1. One that is longer is cut after context + 1 tokens, as microgpt does.

    >>> pad([[1, 2], [3, 4, 5, 6, 7]], context=4, begin=0, end=0)
    array([[ 0,  1,  2,  0, -1],
           [ 0,  3,  4,  5,  6]], dtype=int32)
    """
    context = at_least(1, "context", context)
    if not len(sequences):
        raise InputError("there must be at least one sequence, got none")
    lengths = np.array([len(sequence) for sequence in sequences])
    filled = [np.asarray(s) for s in sequences if len(s)]
    tokens = _checked(np.concatenate(filled) if filled else [])
    rows = np.full((len(lengths), context + 1), IGNORED, np.int32)
    # The place within its sequence of each entry of a row.
    place = np.arange(context + 1) - (begin is not None)
    is_text = (place >= 0) & (place < lengths[:, None])
    starts = np.cumsum(lengths) - lengths
    rows[is_text] = tokens[(starts[:, None] + place)[is_text]]
    if begin is not None:
        rows[:, 0] = at_least(0, "begin", begin)
    if end is not None:
        rows[place == lengths[:, None]] = at_least(0, "end", end)
    wholes = lengths + (begin is not None) + (end is not None)
    short = np.flatnonzero(wholes < 2)
    if len(short):
        raise InputError(
            f"a sequence must have two tokens at least, with begin and end where they "
            f"are given, got {wholes[short[0]]} in sequence {short[0] + 1:,}"
            f"{and_more(len(short))}: leave such ones out"
        )
    return rows


def unigram_loss(train: Array, held_out: Array, vocabulary: int) -> float:
    """Return mean -log p(token) of `held_out`, in nats, what a model must beat.

    p goes by how often a token is in `train`, and knows of no order: by Laplace's rule
    (count + 1) / (all + vocabulary), so that none is impossible. Tokens below 0, which
    rows are filled with, are left out. Divided by log 2 it is in bits.

    >>> round(unigram_loss(np.array([0, 0, 1]), np.array([0, 1]), 2), 4)  # 3/5 and 2/5
    0.7136
    """
    seen, asked = (
        np.bincount(kept[kept >= 0], minlength=vocabulary)
        for kept in (np.asarray(train).ravel(), np.asarray(held_out).ravel())
    )
    log_p = np.log((seen + 1) / float(seen.sum() + vocabulary))
    return float(-(asked @ log_p) / asked.sum())


# What tokens must be --------------------------------------------------------------


def _checked(tokens: Any, size: int = _MOST_TOKENS) -> np.ndarray:
    """Return tokens as an array (n,), or say that they are none of a vocabulary."""
    tokens = np.asarray(tokens)
    if tokens.size == 0:  # of no dtype in a list
        tokens = tokens.astype(np.int32)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InputError(
            f"tokens must be whole numbers of shape (n,), got {tokens.dtype} of shape "
            f"{tokens.shape}: a text is encoded by its vocabulary"
        )
    wrong = (tokens < 0) | (tokens >= size)
    if wrong.any():
        raise InputError(
            f"tokens must be from 0 to {size - 1}, got {tokens[wrong][0]}"
            f"{and_more(int(wrong.sum()))}: leave out what is none of the vocabulary"
        )
    return tokens


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(_encoded(text, "utf-32-le"), "<u4")


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise InputError(
            f"a text must be of characters that UTF-8 can write, got "
            f"{text[error.start]!r} as character {error.start + 1:,}: leave it out"
        ) from error
