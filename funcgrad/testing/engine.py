"""The scalar engine that lies beside funcgrad, whatever else is named `reference`.

Where `import reference` finds it, this is the same module. Where a file or another
distribution's package of that name is in the way, the engine is loaded from its folder
under a name within funcgrad, and the other one is neither run nor replaced.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from os.path import dirname, realpath
from types import ModuleType
from typing import TYPE_CHECKING

_NAME, _OTHER_NAME = "reference", "funcgrad.testing.reference"
_FOLDER = dirname(dirname(dirname(__file__)))


def _load() -> ModuleType:
    """Return the engine, by its own name where nothing else bears it."""
    # Python's finder looks for what stands behind the last dot.
    beside = PathFinder.find_spec(_OTHER_NAME, [_FOLDER])
    if beside is not None and beside.loader is not None:
        if _is_found_by_name(beside):
            engine = importlib.import_module(_NAME)
        else:
            engine = module_from_spec(beside)
            sys.modules[_OTHER_NAME] = engine  # where its own files look for it
            beside.loader.exec_module(engine)
        # Installed over ours, another distribution's package has taken its place.
        if hasattr(engine, "Value"):
            return engine
    raise ImportError(
        f"the proof needs its package reference beside funcgrad, got "
        f"{'none' if beside is None else 'another of that name'} in {_FOLDER}: install "
        f"funcgrad again, where no other distribution brings a package reference"
    )


def _is_found_by_name(beside: ModuleSpec) -> bool:
    """Return whether `import reference` gives the engine; nothing is run to see it."""
    if _NAME in sys.modules:
        found = getattr(sys.modules[_NAME], "__file__", None)
    else:
        found = getattr(find_spec(_NAME), "origin", None)
    return found is not None and realpath(found) == realpath(beside.origin or "")


if TYPE_CHECKING:
    from reference import Value
    from reference.numbers import flint
else:
    _engine = _load()
    Value, flint = _engine.Value, _engine.numbers.flint

__all__ = ["Value", "flint"]
