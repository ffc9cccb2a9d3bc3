"""What the command compiles, kept for its next run in the user's cache folder."""

import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import jax
import jaxlib.version

# A run of moons leaves a tenth of a megabyte.
MOST_BYTES = 100_000_000


def keep_compiled() -> None:
    """Let JAX keep what it compiles, unless that is unsafe here or decided already.

    JAX's own key of an entry holds the program, the compiler's version and flags, and
    the processor's features. Before 0.12, XLA reports its own entries as those of
    another machine (jax-ml/jax#38445).
    """
    config = jax.config.values
    decided = config["jax_compilation_cache_dir"] is not None
    if decided or not config["jax_enable_compilation_cache"]:
        return
    if jaxlib.version.__version_info__ < (0, 12):
        return
    folder = cache_folder()
    if folder is None or not _is_ours(folder):
        return
    with suppress(OSError):  # another run may be emptying it too
        files = list(folder.iterdir())
        if sum(file.stat().st_size for file in files) > MOST_BYTES:
            for file in files:
                file.unlink()
    # An entry that cannot be read or written is compiled as if it were not there.
    warnings.filterwarnings("ignore", "Error .* persistent compilation cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_compilation_cache_dir", str(folder))


def cache_folder() -> Path | None:
    """Return where this system keeps what can be made again, None if nowhere."""
    try:
        if sys.platform == "win32":
            own = os.environ.get("LOCALAPPDATA", "")
        elif sys.platform == "darwin":
            own = str(Path.home() / "Library/Caches")
        else:
            own = os.environ.get("XDG_CACHE_HOME", "")
            if not os.path.isabs(own):  # to be ignored, by its specification
                own = str(Path.home() / ".cache")
    except RuntimeError:  # no home
        return None
    return Path(own, "funcgrad") if os.path.isabs(own) else None


def _is_ours(folder: Path) -> bool:
    """Make the folder if need be; return whether this user alone can write to it.

    What lies there is run, so another user must not be able to put it there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except OSError:
        return False
    if not os.access(folder, os.W_OK):
        return False
    if sys.platform == "win32":  # has other rights, and a folder of each user
        return True
    return about.st_uid == os.getuid() and not about.st_mode & 0o022
