"""A trained GPT together with the vocabulary that turns its tokens into text."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from funcgrad.data import model_file, text
from funcgrad.data.predictor import MOST_LAYERS
from funcgrad.data.text import Vocabulary
from funcgrad.errors import InputError
from funcgrad.gpt import Gpt, gpt, next_token
from funcgrad.sampling import sample
from funcgrad.version import __version__

# Rows are scored so many tokens at a time.
_TOKENS = 4096


class Sizes(NamedTuple):
    """The arguments of `funcgrad.gpt` that a net for text is made with."""

    context: int
    width: int
    layers: int
    heads: int

    def parameters(self, vocab: int) -> int:
        """Return how many numbers there are to learn."""
        block = 12 * self.width**2 + 2 * self.width
        return (vocab + self.context + 1) * self.width + self.layers * block


class Writer(NamedTuple):
    """A net that writes text on.

    sizes: of the net, a `funcgrad.gpt` with gelu and layer norm.
    vocabulary: its tokens, `Characters` or `Bytes`.
    is_lines: it learnt from lines, each an example; a line's end is where one begins.
    params: the parameters of `net(sizes, vocabulary.size)`.
    provenance: how they were made, as text and numbers by name.
    """

    sizes: Sizes
    vocabulary: Vocabulary
    is_lines: bool
    params: Any
    provenance: Mapping[str, str | float] = {}

    def write(
        self,
        prompt: str = "",
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> str:
        r"""Return `length` tokens, drawn by `seed`, as the text that follows `prompt`.

        Where there is no prompt, it is the end of a line, or the first character of the
        vocabulary where that has none. Of lines what is returned is
        one of them, of `length` tokens at most, without its end.
        """
        tokens = self.vocabulary.encode(("\n" if self.is_lines else "") + prompt)
        if not len(tokens):
            tokens = np.zeros(1, np.int32)
            with suppress(InputError):  # of a text in one line
                tokens = self.vocabulary.encode("\n")
        if not 0 <= temperature < math.inf:
            raise InputError(
                f"must be a finite number, 0 or more, got {temperature:g}: 1 draws as "
                f"the model learnt, 0 takes the likeliest",
                "temperature",
            )
        if length < 1:
            raise InputError(f"must be at least 1, got {length}", "length")
        if top_k is not None and top_k < 1:
            raise InputError(f"must be at least 1, got {top_k}", "top_k")
        drawn = sample(
            net(self.sizes, self.vocabulary.size), self.params, jax.random.key(seed),
            prompt=tokens, length=length, temperature=temperature, top_k=top_k,
        )  # fmt: skip
        said = self.vocabulary.decode(np.asarray(drawn))
        return said.partition("\n")[0] if self.is_lines else said

    def loss(self, rows: np.ndarray) -> float:
        """Return the mean of -log p(token) over rows (n, T + 1), in nats."""
        score = _compiled(self.sizes, self.vocabulary.size)
        at_once = max(1, _TOKENS // (rows.shape[1] - 1))
        total, asked = 0.0, 0
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            full = np.full((at_once, rows.shape[1]), text.IGNORED, np.int32)
            full[: len(part)] = part
            count = int((part[:, 1:] != text.IGNORED).sum())
            if count:
                total += count * float(score(self.params, full))
                asked += count
        return total / asked

    def describe(self) -> list[str]:
        """Return in words, a line each, what the net is and how it was made."""
        return [
            net_line(self.sizes, self.vocabulary),
            *(f"{name}: {value}" for name, value in self.provenance.items()),
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters, with all else as JSON in the file's metadata."""
        about = {
            "sizes": self.sizes._asdict(),
            "vocabulary": text.to_dict(self.vocabulary),
            "is_lines": self.is_lines,
            "format": model_file.FORMAT,
            "version": __version__,
            "provenance": dict(self.provenance),
        }
        model_file.check_params(_like(self.sizes, self.vocabulary.size), self.params)
        model_file.save(path, about, self.params)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Writer:
        """Return the writer in a model file, or say in a sentence why it is none.

        A file that was changed by a single letter is refused.
        """
        about = model_file.read(path)
        if isinstance(about, dict) and "target" in about:
            raise InputError(
                f"{path} is a model of a table, which funcgrad predict takes: give one "
                f"of text"
            )
        with model_file.undamaged(path):
            untrained = _from_json(about, most_numbers=os.path.getsize(path) // 4)
            like = _like(untrained.sizes, untrained.vocabulary.size)
            params = model_file.load(path, about, like)
            model_file.check_params(like, params)
        return untrained._replace(params=params)


@lru_cache
def net(sizes: Sizes, vocab: int) -> Gpt:
    """Return the GPT of these sizes, nanoGPT's; the same one for the same sizes."""
    return gpt(vocab, **sizes._asdict())


def net_line(sizes: Sizes, vocabulary: Vocabulary) -> str:
    """Return in words what the net is."""
    layers, heads = (
        f"{n} {what}{'s' if n > 1 else ''}"
        for n, what in ((sizes.layers, "layer"), (sizes.heads, "head"))
    )
    return (
        f"net: a GPT of {layers}, {heads}, width "
        f"{sizes.width}, context {sizes.context}, "
        f"{sizes.parameters(vocabulary.size):,} parameters; {vocabulary.size} "
        f"{vocabulary.kind}"
    )


@lru_cache
def _compiled(sizes: Sizes, vocab: int) -> Callable[[Any, np.ndarray], jax.Array]:
    return jax.jit(next_token(net(sizes, vocab)))


def _like(sizes: Sizes, vocab: int) -> Any:
    """Return the parameters' shapes, at no cost."""
    return jax.eval_shape(net(sizes, vocab).init, jax.random.key(0))


def _from_json(about: Any, most_numbers: int) -> Writer:
    """Return the writer that `about` tells of, without its parameters.

    Raises before anything is built of it unless all fits together, and its parameters
    are no more than `most_numbers`.
    """
    if not isinstance(about, dict) or not isinstance(about["sizes"], dict):
        raise ValueError("its description has another form")
    model_file.check_format(about)
    if set(about["sizes"]) != set(Sizes._fields):
        raise ValueError("the net has other sizes")
    sizes = Sizes(**about["sizes"])
    if not all(type(n) is int and n > 0 for n in sizes):
        raise ValueError("sizes must be whole numbers above 0")
    if type(about["is_lines"]) is not bool:
        raise ValueError("is_lines must be true or false")
    vocabulary = text.from_dict(about["vocabulary"])
    if sizes.layers > MOST_LAYERS or sizes.width % sizes.heads:
        raise ValueError("there is no such net")
    if sizes.parameters(vocabulary.size) > most_numbers:
        raise ValueError("the net is larger than the file")
    made = model_file.provenance_of(about)
    return Writer(sizes, vocabulary, about["is_lines"], None, made)
