"""Files that appear whole or not at all."""

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from funcgrad.errors import InputError

# The names that `_beside` gives.
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` such that no half-written file is ever there.

    Of a symbolic link the target is written, and the link stays. What is no regular
    file, such as a pipe, a device or /dev/stdout, is written to as it is.
    """
    if is_stream(path):
        # At the end, as /dev/stdout may be a file that holds something.
        with open(path, "ab") as stream:
            stream.write(content)
        return
    path = _target(path)
    temporary = _beside(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that writing a file to `path` would, and leave all as it is."""
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    temporary = _beside(_target(path))
    try:
        temporary.touch(exist_ok=False)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writable(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about a folder that cannot be written into words."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be written: {error.strerror or error}: choose "
            f"another folder, or make room there, or ask for the right to write"
        ) from error


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove what killed writers left in `folder`, where nobody is writing now."""
    for path in Path(folder).iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Have the names in `folder` on the disk, where the system can be asked for it."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some disks on a network know only of files
            os.fsync(number)
    finally:
        os.close(number)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Tell whether `path` is there and can only be written to in order."""
    path = Path(path)
    # These name what is open already, which may be a regular file too.
    is_open = str(path).startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/"))
    return path.exists() and (is_open or not (path.is_file() or path.is_dir()))


def _target(path: str | os.PathLike[str]) -> Path:
    """Return where links lead to, be a file there or not yet."""
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(target).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return target


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.tmp")
