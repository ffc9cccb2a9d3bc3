"""Model files: parameters as safetensors, and what they are as JSON beside them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from funcgrad import checkpoint
from funcgrad.errors import InputError

# In the file's metadata, and in what it says.
_KEY, _CHECKSUM = "funcgrad", "sha256"

FORMAT = 1
"""The number of the form that descriptions have."""


def save(path: str | os.PathLike[str], about: dict[str, Any], params: Any) -> None:
    """Write the parameters with `about`, and with a checksum of both."""
    about = {**about, _CHECKSUM: _checksum(json.loads(json.dumps(about)), params)}
    checkpoint.save(path, params, {_KEY: json.dumps(about)})


def read(path: str | os.PathLike[str]) -> Any:
    """Return what a model file says of itself, or say in a sentence why it is none."""
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: give the model.safetensors in it")
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        metadata = checkpoint.load_metadata(path) if is_file else {}
    except FileNotFoundError as error:
        raise InputError(f"there is no model file {path}: check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    text = metadata.get(_KEY)
    if text is None:
        raise InputError(
            f"{path} was not written by funcgrad train: give a model.safetensors of it"
        )
    with undamaged(path):
        return json.loads(text)


def load(path: str | os.PathLike[str], about: dict[str, Any], like: Any) -> Any:
    """Return the parameters, of the shapes of `like`, if the checksum is theirs.

    A file that was changed by a single letter is refused; those of version 0.1.0 hold
    no checksum, so in them a changed number is not seen.
    """
    params = checkpoint.load(path, like)
    rest = {key: value for key, value in about.items() if key != _CHECKSUM}
    if about.get(_CHECKSUM) not in (None, _checksum(rest, params)):
        raise ValueError("its checksum is that of another model")
    return params


@contextmanager
def undamaged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what is raised of a file's description into a sentence."""
    try:
        yield
    except RecursionError as error:
        raise _damaged(path, "its description is nested too deep") from error
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from error
    except (ArithmeticError, ValueError) as error:
        raise _damaged(path, error) from error


def is_of_text(about: Any) -> bool:
    """Return whether a file says that it holds a net for text, not one for tables."""
    return isinstance(about, dict) and "vocabulary" in about


def check_format(about: dict[str, Any]) -> None:
    """Raise unless the description has the form that is known here."""
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']}, where {FORMAT} is known")


def provenance_of(about: dict[str, Any]) -> dict[str, str | float]:
    """Return how the model was made, of an older file the version that wrote it."""
    made = about.get("provenance", {"funcgrad": about.get("version", "unknown")})
    if not isinstance(made, dict) or not all(
        isinstance(value, (str, int, float)) for value in made.values()
    ):
        raise ValueError("its provenance must be text and numbers by name")
    return made


def check_params(like: Any, params: Any) -> None:
    """Raise unless they have the shapes of `like`, and are finite."""
    wanted = [leaf.shape for leaf in jax.tree.leaves(like)]
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    if shapes != wanted:
        raise InputError(f"the parameters must have shapes {wanted}, got {shapes}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise InputError("the parameters must be finite numbers, got inf or nan")


def _damaged(path: str | os.PathLike[str], reason: Any) -> InputError:
    return InputError(
        f"{path} is damaged, or of another version of funcgrad ({reason}): train again"
    )


def _checksum(about: dict[str, Any], params: Any) -> str:
    """Return the SHA-256 of all that makes a prediction."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
