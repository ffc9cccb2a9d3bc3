"""What is in a file that a user names, or why it cannot be read."""

import stat
from pathlib import Path

from funcgrad.errors import InputError


def content(path: Path, wanted: str) -> bytes:
    """Return what is in a file, or comes through a pipe, which can be read once.

    `wanted` says in words what kind of file, such as "a CSV file".
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder: give {wanted}")
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(f"{path} is a device: give {wanted}")
        found = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}: check the path") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if b"\0" in found:
        raise InputError(
            f"{path} holds NUL bytes, so it is not text in UTF-8: save it as {wanted} "
            f"in UTF-8"
        )
    return found
