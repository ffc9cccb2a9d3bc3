"""Tables and processes for tests of the command."""

import os
from pathlib import Path

import funcgrad as fg

ROWS = [f"{i % 7},{i * i % 11},{'yes' if i % 3 else 'no'}" for i in range(40)]
GOOD = "\n".join(["a,b,y", *ROWS]) + "\n"
QUANTITY = "a,b,y\n" + "".join(f"{i % 7},{i * i % 11},{i / 2}\n" for i in range(40))

# A process of its own finds the same funcgrad, whatever folder it runs in.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(fg.__file__).parents[1])}


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
