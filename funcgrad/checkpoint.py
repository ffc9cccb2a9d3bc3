"""Checkpoints: any pytree of arrays as one safetensors file, which holds no code.

Each leaf is a tensor named after its path, such as `params.0.w`, so that any reader of
safetensors can open it. Metadata is text by name.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from funcgrad.errors import listed
from funcgrad.files import write_whole

# The names that safetensors gives to the dtypes of NumPy and JAX.
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
_METADATA = "__metadata__"


def save(
    path: str | os.PathLike[str], tree: Any, metadata: Mapping[str, str] | None = None
) -> None:
    """Write every leaf of `tree`, and `metadata`, to one safetensors file.

    The file appears whole or not at all: a temporary one beside it is written, synced
    and put in its place, and what was there before stays until then. The folder must
    exist. What `load` could not read is refused: a tree without leaves, and the leaf
    name `__metadata__`, which is the format's own.
    """
    metadata = dict(metadata or {})
    for key, value in metadata.items():
        wrong = [x for x in (key, value) if not isinstance(x, str)]
        if wrong:
            raise ValueError(
                f"metadata must be text, got {type(wrong[0]).__name__} for {key!r}: "
                f"convert it, for example with json.dumps"
            )
    folder = Path(path).parent
    if not folder.is_dir():
        raise ValueError(
            f"save needs a folder that exists, got {folder}: make it first, with "
            f"os.makedirs for example"
        )
    tensors = named_tensors(tree)
    if not tensors:
        raise ValueError(
            "save needs a tree with at least one array, got one without leaves: pass "
            "the parameters, or a State"
        )
    if _METADATA in tensors:
        raise ValueError(
            f"no leaf can be named {_METADATA!r}, as the file's format keeps the name "
            f"for itself: rename the key"
        )
    write_whole(path, content_of(tensors, metadata))


def content_of(
    tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> bytes:
    """Return what a file of these tensors holds."""
    return safetensors.numpy.save(tensors, metadata)


def load(path: str | os.PathLike[str], like: Any) -> Any:
    """Return the tree in `path`, with the structure, shapes and dtypes of `like`.

    The leaves of `like` are arrays or `jax.ShapeDtypeStruct`s, such as
    `jax.eval_shape(model.init, key)` gives; those that are already on a device say
    where the new ones go. Nothing is converted: a leaf that is missing, left over, or
    of another shape or dtype raises a `ValueError` that names it.
    """
    return restored(path, read_tensors(path), like)


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata in `path`, without reading the tensors."""
    with _readable(path), safetensors.safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def named_tensors(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves of `tree` by name, or say which of them cannot be saved."""
    tensors = {}
    for name, leaf in _named_leaves(tree):
        if name in tensors:
            raise ValueError(f"two leaves of the tree are named {name!r}: rename a key")
        tensors[name] = _to_numpy(name, leaf)
    return tensors


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return all tensors in `path` by name; memory for twice the file is taken."""
    return tensors_of(Path(path).read_bytes(), path)


def tensors_of(content: bytes, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return all tensors by name in what a file holds, which errors call `path`."""
    with _readable(path):
        tensors = safetensors.deserialize(content)
    unknown = sorted({t["dtype"] for _, t in tensors} - _DTYPES.keys())
    if unknown:
        raise ValueError(
            f"{path} holds tensors of dtype {unknown[0]}, which cannot be read: save "
            f"them as one of {', '.join(_DTYPES)}"
        )
    with _readable(path):  # without a number in it, a tensor can be of any shape
        return {
            name: np.frombuffer(t["data"], _DTYPES[t["dtype"]]).reshape(t["shape"])
            for name, t in tensors
        }


def restored(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], like: Any
) -> Any:
    """Return the tree of these tensors, which are from `path`, as `load` does."""
    wanted = _named_leaves(like)
    names = {name for name, _ in wanted}
    extra, missing = sorted(tensors.keys() - names), sorted(names - tensors.keys())
    if extra or missing:
        has = f"holds {listed(extra)}, which `like` has no place for"
        lacks = f"has no leaf {listed(missing)}, which `like` asks for"
        raise ValueError(
            f"{path} {' and '.join([has] * bool(extra) + [lacks] * bool(missing))}: "
            f"pass the tree that was saved, of the leaves {listed(sorted(tensors))}"
        )
    leaves = [_placed(path, name, tensors, leaf) for name, leaf in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def checksum(tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and numbers, in this order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what safetensors says about a file that it cannot read into a sentence."""
    try:
        yield
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file: it is damaged or of another kind "
            f"({error})"
        ) from error


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Return (name, leaf) pairs in the tree's order; a bare leaf is called `value`."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator=".") or "value", leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _to_numpy(name: str, leaf: Any) -> np.ndarray:
    if isinstance(leaf, (bool, int, float)):
        leaf = np.asarray(leaf, jnp.result_type(leaf))
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or dtype not in _DTYPES.values():
        raise ValueError(
            f"leaf {name!r} must be an array of numbers, got "
            f"{type(leaf).__name__ if dtype is None else dtype}: convert it first, a "
            f"random key with jax.random.key_data"
        )
    return np.ascontiguousarray(leaf).reshape(leaf.shape)


def _placed(
    path: str | os.PathLike[str],
    name: str,
    tensors: Mapping[str, np.ndarray],
    like: Any,
) -> jax.Array:
    found = tensors[name]
    shape = jnp.shape(like)
    dtype = like.dtype if hasattr(like, "dtype") else jnp.result_type(like)
    if found.shape != shape or found.dtype != dtype:
        raise ValueError(
            f"leaf {name!r} must be {dtype} of shape {shape}, as in `like`, got "
            f"{found.dtype} of shape {found.shape} from {path}: pass the tree that was "
            f"saved"
        )
    if isinstance(like, jax.Array):
        return jax.device_put(found, like.sharding)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f"leaf {name!r} is of dtype {dtype}, which JAX keeps only with "
            f"jax_enable_x64: switch it on, or save the tree in a narrower dtype"
        )
    return jnp.asarray(found)
