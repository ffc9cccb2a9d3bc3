"""What all processes tell each other, outside a run's steps: by JAX's collectives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, TypeVar

import jax
import numpy as np

from funcgrad.errors import InputError
from funcgrad.hosts.ending import lost_in_words, rolls
from funcgrad.hosts.roll_call import first_difference

Item = TypeVar("Item")

# The largest text that a process tells all others at once.
_MOST_TOLD = 8192
_LONGEST_FACT = 200

# To write a checkpoint, and for all to come to where it was written.
_SECONDS_TO_MEET = 300.0


def agree(facts: Mapping[str, str]) -> None:
    """Raise an `InputError` on all processes that names a fact that differs, and whose.

    Long texts are compared by their SHA-256.
    """
    short = {
        name: fact
        if len(fact) <= _LONGEST_FACT
        else sha256(fact.encode()).hexdigest()[:16]
        for name, fact in facts.items()
    }
    told = {p: json.loads(text) for p, text in enumerate(exchange(json.dumps(short)))}
    if difference := first_difference(told):
        raise InputError(difference)


def exchange(text: str) -> list[str]:
    """Return the texts that all processes tell, by their numbers, on each of them."""
    if not jax.distributed.is_initialized():
        return [text]
    # Unequal shapes would end the processes, so that all are of one.
    content = text.encode()[:_MOST_TOLD].ljust(_MOST_TOLD, b"\0")
    from jax.experimental import multihost_utils

    with lost_in_words():
        told = multihost_utils.process_allgather(np.frombuffer(content, np.uint8))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in told]


def from_first(content: bytes) -> bytes:
    """Return on all processes the `content` that process 0 has."""
    if not jax.distributed.is_initialized():
        return content
    size = int(exchange(str(len(content)))[0])
    if size == 0:
        return b""
    from jax.experimental import multihost_utils

    mine = np.frombuffer(content if is_first() else bytes(size), np.uint8)

    with lost_in_words():
        told = multihost_utils.broadcast_one_to_all(mine)
    return np.asarray(told).astype(np.uint8).tobytes()


@contextmanager
def together(where: str | None = None) -> Iterator[None]:
    """Raise on all processes where one of them raises an `InputError` in the block.

    `LostError` names who has not come to its end, in the words of `where`, within five
    minutes.
    """
    caught = None
    try:
        yield
    except InputError as error:
        caught = error
    if where is not None:
        for roll in rolls:
            with lost_in_words():
                roll.meet(where, _SECONDS_TO_MEET)
    said = "" if caught is None else json.dumps([caught.sentence, caught.argument])
    told = exchange(said)
    if caught is not None:
        raise caught
    for process, text in enumerate(told):
        if text:
            sentence, argument = json.loads(text)
            words = sentence if argument is None else f"{argument} {sentence}"
            raise InputError(f"process {process} cannot go on: {words}")


def first_does(where: str, f: Callable[[], Item]) -> Item | None:
    """Do f() on process 0 while all others wait; they return None.

    An `InputError` of it is raised on all; for `where` see `together`.
    """
    done = None
    with together(where):
        if is_first():
            done = f()
    return done


def is_first() -> bool:
    """Return whether this is process 0, which alone prints and writes."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def gathered(tree: Any) -> Any:
    """Return the tree with each leaf that lies on several processes as a whole array.

    All processes must call it.
    """

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if leaf.is_fully_replicated:
            return np.asarray(leaf)
        from jax.experimental import multihost_utils

        with lost_in_words():
            return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)
