"""The rules of the house, read off the source, each with a test that it can fail."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("funcgrad", "reference")
EVERYTHING = (*PRODUCT, "tests", "benchmarks", "examples")

# NamedTuple's own, which begin with _ lest they clash with a field; those that
# micrograd's programs read off a Value, which must run unchanged; and os._exit.
PUBLIC_ALL_THE_SAME = {
    "_replace", "_asdict", "_fields", "_make", "_prev", "_op", "_exit",
}  # fmt: skip

# From the bottom up; an arrow may go down or stay on its floor.
FLOORS = (
    ("arguments", "errors", "version", "files", "jaxprs", "notebook", "permutation"),
    ("hosts",),
    ("fast",),
    ("model", "mlp", "gpt", "gpt_checks", "losses", "regularization"),
    (
        "batches",
        "strata",
        "splitting",
        "training",
        "devices",
        "data_checks",
        "history",
        "validation",
        "sampling",
    ),
    ("checkpoint", "run_identity", "run_folder", "shared_folder"),
    ("compiled_run", "shared_run", "watching", "fitting"),
    ("member", "shared_members"),
    ("ensemble", "plots", "data", "testing"),
    ("tasks",),
    ("cli",),
    ("__main__", "__init__"),
)


@cache
def sources(*folders, root=ROOT):
    """Return {path from the root: its syntax tree} of all Python files."""
    return {
        path.relative_to(root): ast.parse(path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
    }


# No private name crosses a wall ---------------------------------------------------


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def defined(tree):
    """Return the names that a file itself gives to something."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(
            node.ctx, ast.Store
        ):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def imported(tree):
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def private_names(tree):
    """Return (line, name) of each private name of another file that this one uses."""
    own, modules, found = defined(tree), imported(tree), set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(a.name for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute):
            of_a_module = isinstance(node.value, ast.Name) and node.value.id in modules
            if of_a_module or node.attr not in own:
                names = [node.attr]
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("getattr", "setattr", "hasattr", "delattr"):
                texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
                names = [t.rpartition(".")[2] for t in texts if isinstance(t, str)]
        names = {name for name in names if is_private(name)} - PUBLIC_ALL_THE_SAME
        found |= {(node.lineno, name) for name in names}
    return sorted(found)


def test_no_private_name_is_used_in_another_file():
    found = {path: private_names(tree) for path, tree in sources(*EVERYTHING).items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from funcgrad.training import _scan",
        "from jax._src import xla_bridge",
        "import jax._src.core",
        "import funcgrad.training as t; t._scan()",
        "def f(): import numpy as np; return np._core",
        "class A:\n  def _scan(self): pass\nimport b\nb._scan()",
        "def f(other): return other._hidden",
        "monkeypatch.setattr(training, '_unroll', 1)",
        "getattr(training, '_unroll')",
        "monkeypatch.setattr('funcgrad.training._unroll', 1)",
    ],
)
def test_a_private_name_of_another_file_is_found(line):
    assert private_names(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    [
        "from __future__ import annotations",
        "class A:\n  def _f(self): return self._f() and A._f(self)",
        "run._replace(steps=1)",
        "_own = 1\nprint(_own, __name__)",
        "getattr(x, '__name__')",
    ],
)
def test_a_private_name_of_its_own_is_not(line):
    assert private_names(ast.parse(line)) == []


# Arrows go down, and in no circle ---------------------------------------------------


def arrows(trees):
    """Return {file: the files of ours that it imports}, all as paths."""
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path
        for path in trees
    }
    graph = {path: set() for path in trees}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level:
                    # Where another module has its name, `reference` goes by another.
                    assert path.parts[0] == "reference", f"{path}: name the whole path"
                    module = f"reference.{module}".removesuffix(".")
                names = [f"{module}.{a.name}" for a in node.names]
                names = [n if n in modules else module for n in names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            graph[path] |= {modules[name] for name in names if name in modules}
    return graph


def circle(graph):
    """Return files that import each other in a circle, if there are some."""
    done = set()
    for start in graph:
        path, iterators = [start], [iter(graph[start])]
        while path:
            following = next(iterators[-1], None)
            if following is None:
                done.add(path.pop())
                iterators.pop()
            elif following in path:
                return path[path.index(following) :]
            elif following not in done:
                path.append(following)
                iterators.append(iter(graph[following]))
    return []


def floor(path):
    if path.parts[0] == "reference":
        return -1
    room = path.parts[1].removesuffix(".py")
    (number,) = (i for i, rooms in enumerate(FLOORS) if room in rooms)
    return number


def arrows_that_go_up(graph):
    return [
        (str(path), str(other))
        for path, others in graph.items()
        for other in others
        if floor(other) > floor(path)
    ]


def test_no_files_import_each_other_in_a_circle():
    assert circle(arrows(sources(*PRODUCT))) == []


def test_arrows_go_down():
    assert arrows_that_go_up(arrows(sources(*PRODUCT))) == []


def test_one_file_alone_looks_for_the_scalar_engine():
    graph = arrows(sources(*PRODUCT))
    looking = {
        path
        for path, others in graph.items()
        if path.parts[0] != "reference"
        and any(other.parts[0] == "reference" for other in others)
    }
    assert looking == {Path("funcgrad/testing/engine.py")}


@pytest.fixture
def house(tmp_path):
    """Return a function that builds a small house and reads its arrows."""

    def build(**files):
        for name, text in files.items():
            path = tmp_path / "funcgrad" / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return arrows(sources("funcgrad", root=tmp_path))

    return build


def test_a_circle_is_found(house):
    graph = house(
        mlp="from funcgrad.model import Model",
        model="def late():\n    from funcgrad import losses",
        losses="import funcgrad.mlp",
        training="from funcgrad.mlp import mlp",
    )
    found = {path.stem for path in circle(graph)}
    assert found == {"mlp", "model", "losses"}
    assert arrows_that_go_up(graph) == []


def test_an_arrow_that_goes_up_is_found(house):
    graph = house(
        errors="from funcgrad.cli import train",
        cli__train="from funcgrad.errors import InputError",
    )
    assert arrows_that_go_up(graph) == [("funcgrad/errors.py", "funcgrad/cli/train.py")]


# Only the shell and one printer write to the terminal ---------------------------------


def writes(tree, allowed=()):
    """Return the lines that can write to the terminal, outside `allowed` functions."""
    found = set()

    def visit(node):
        if isinstance(node, ast.FunctionDef) and node.name in allowed:
            return
        names = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names.append((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        talking = {"print", "typer", "rich", "sys.stdout", "sys.stderr", "os.write"}
        if talking & set(names):
            found.add(node.lineno)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return sorted(found)


def test_only_the_shell_and_the_progress_printer_write_to_the_terminal():
    for path, tree in sources(*PRODUCT).items():
        if path.parts[1] == "cli":
            continue
        is_fitting = path == Path("funcgrad/fitting.py")
        assert writes(tree, ("_print_line",) if is_fitting else ()) == [], path


@pytest.mark.parametrize(
    "line",
    [
        "print(1)",
        "import sys; sys.stderr.write('x')",
        "from sys import stdout",
        "def f():\n  import rich.console",
        "from typer import echo",
        "import os; os.write(1, b'x')",
        "say = print",
    ],
)
def test_what_writes_to_the_terminal_is_found(line):
    assert writes(ast.parse(line))
    within = f"def _print_line():\n{' ' * 4}" + line.replace("\n", "\n    ")
    assert writes(ast.parse(within))
    assert not writes(ast.parse(within), ("_print_line",))


def test_the_printer_that_may_write_does():
    (tree,) = (
        t for p, t in sources("funcgrad").items() if p == Path("funcgrad/fitting.py")
    )
    assert writes(tree)
