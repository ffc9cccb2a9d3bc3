"""`reference` stands alone: it imports nothing but the standard library and itself.

Two ways to look: what a fresh process has loaded after using all of it, and what its
source says, which also sees imports that no test happens to reach.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The one exception: Ball's python-flint, imported by this function only.
ALLOWED = {("numbers.py", "flint", "flint")}

USE = """
import sys
before = set(sys.modules)
import importlib, pkgutil, random
from fractions import Fraction
import PACKAGE
for module in pkgutil.iter_modules(PACKAGE.__path__):
    importlib.import_module(f"PACKAGE.{module.name}")
EXERCISE
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - sys.stdlib_module_names - {"PACKAGE"}))
"""

EXERCISE = """
from reference import GPT, MLP, Value, draw
net = MLP(2, [2, 1], rng=random.Random(0))
loss = (net([1.0, 2.0]).exp().log().sigmoid() - 1) ** 2
loss.backward()
draw(loss)
exact = MLP.from_params(net.to_params(), "relu", number=Fraction)([1, 2])
exact.backward()
GPT(2, context=1, width=2, layers=1, heads=1).loss([0, 1]).backward()
"""


def loaded(folder, package, exercise=""):
    """Return the top-level modules, outside the standard library, that come along."""
    program = USE.replace("PACKAGE", package).replace("EXERCISE", exercise)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,  # which Python searches first
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def foreign_imports(folder):
    """Return (file, function, module) for each import of something foreign."""
    found = set()

    def visit(node, file, function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [folder.name if node.level else node.module]
        elif isinstance(node, ast.Name) and node.id == "__import__":
            names = ["__import__"]
        tops = {name.partition(".")[0] for name in names}
        tops -= sys.stdlib_module_names - {"importlib"}
        found.update((file, function, top) for top in tops - {folder.name})
        for child in ast.iter_child_nodes(node):
            visit(child, file, function)

    for path in sorted(folder.rglob("*.py")):
        visit(ast.parse(path.read_text(encoding="utf-8")), path.name, "")
    return found


def test_nothing_foreign_is_loaded():
    assert loaded(ROOT, "reference", EXERCISE) == set()


def test_nothing_foreign_is_imported_anywhere():
    assert foreign_imports(ROOT / "reference") == ALLOWED


@pytest.fixture
def scratch(tmp_path):
    """Return a package that imports a lot, and a stand-in for jax that is light."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax/__init__.py").write_text("")
    package = tmp_path / "scratch"
    package.mkdir()
    (package / "__init__.py").write_text("import math\nfrom . import quiet\n")
    (package / "quiet.py").write_text("def late():\n    import numpy.linalg\n")
    (package / "loud.py").write_text("from jax import __path__ as found\n")
    (package / "sly.py").write_text("flint = __import__\nimport importlib\n")
    return package


def test_what_is_loaded_can_be_caught(scratch):
    assert loaded(scratch.parent, "scratch") == {"jax"}


def test_what_is_imported_can_be_caught(scratch):
    assert foreign_imports(scratch) == {
        ("quiet.py", "late", "numpy"),
        ("loud.py", "", "jax"),
        ("sly.py", "", "__import__"),
        ("sly.py", "", "importlib"),
    }


@pytest.mark.parametrize("name", ["jax", "funcgrad", "numpy"])
def test_reference_with_one_import_more_is_caught(name, tmp_path):
    """The engine itself, copied and given the import, fails both ways."""
    copy = tmp_path / "reference"
    copy.mkdir()
    for path in (ROOT / "reference").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "nn.py":
            text = text.replace(
                "import random\n", f"import random\n\nimport {name}\n", 1
            )
        (copy / path.name).write_text(text, encoding="utf-8")
    (tmp_path / f"{name}.py").write_text("")  # light, and shadows the real one
    assert loaded(tmp_path, "reference") == {name}
    assert foreign_imports(copy) == ALLOWED | {("nn.py", "", name)}
