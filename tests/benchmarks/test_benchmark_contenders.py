"""Every contender runs, in a tiny mode; no time that they measure decides a test."""

import shutil
import subprocess

import pytest

from benchmarks import contenders, programs


def test_the_first_program_of_the_best_time_wins_the_race():
    """The second has the best of three turns, whatever its others are."""
    seconds = {"a": [3.0, 3.0, 3.0], "b": [9.0, 1.0, 9.0], "c": [2.0, 2.0, 2.0]}
    turns = []

    def seconds_of(program):
        turns.append(program.path)
        return seconds[program.path].pop(0)

    raced = [programs.Program(path, "") for path in "abc"]
    assert programs.fastest(raced, seconds_of).path == "b"
    assert turns == [*"abcabcabc"]


def test_flags_that_the_compiler_does_not_know_build_nothing(tmp_path, monkeypatch):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    assert programs.compiled("limits.c", ["-O1"], tmp_path / "limits")
    assert programs.compiled("limits.c", ["--no-such"], tmp_path / "limits") is None
    monkeypatch.setattr(programs, "FLAGS", (("--no-such",), ("-O1",)))
    built = programs.builds("moons", tmp_path)
    assert [program.flags for program in built] == ["-O1 -ffast-math"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert programs.build(tmp_path) == {}


OURS = [
    ("step_train", {"problem": "seed, Adam", "steps": 5}),
    ("step_fit", {"problem": "moons, batches", "steps": 5}),
    ("step_dispatched", {"problem": "seed", "steps": 2}),
    ("step_equinox", {"problem": "moons", "steps": 2}),
    ("step_nnx", {"problem": "seed", "steps": 2}),
    ("many_train_many", {"members": 4, "steps": 2}),
    ("many_vmap_plain", {"members": 4, "steps": 2}),
    ("moons_training", {"steps": 2}),
    ("wide_train", {"rows": 8, "batch": 4}),
    ("wide_fit", {"rows": 8, "batch": 4}),
    ("wide_equinox", {"rows": 8, "batch": 4}),
    ("wide_nnx", {"rows": 8, "batch": 4}),
    ("gpt_train", {"size": "micro", "batch": 2, "steps": 2}),
    ("gpt_fit", {"size": "micro", "batch": 2, "steps": 2}),
    ("gpt_train_many", {"size": "micro", "batch": 2, "steps": 2, "members": 3}),
    ("gpt_sample", {"size": "micro", "rows": 2, "length": 3}),
    ("peak_jax", {"size": 8}),
    ("growth", {"sizes": [3, 4, 1], "batch": 4, "members": 3, "steps": 2}),
    ("step_torch", {"problem": "seed, Adam", "steps": 2}),
    ("seed_micrograd", {"steps": 2}),
    ("many_torch_bmm", {"members": 4, "steps": 2}),
    ("many_torch_func", {"members": 4, "steps": 2}),
    ("moons_micrograd", {"steps": 1, "of": 10}),
    ("wide_torch", {"rows": 8, "batch": 4, "fused": True}),
    ("gpt_torch", {"size": "micro", "batch": 2, "steps": 2}),
    ("peak_torch", {"size": 8}),
]


# test_benchmark_steps.py runs all of them too, Equinox on other problems, and counts.
@pytest.mark.filterwarnings("default")  # peers warn as they like
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param(
            *ours,
            id=ours[0],
            marks=() if ours[0] == "step_equinox" else pytest.mark.exhaustive,
        )
        for ours in OURS
    ],
)
def test_a_contender_runs(name, arguments):
    try:
        run, units = getattr(contenders, name)(**arguments)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    run()
    assert units > 0


def test_compiling_returns_its_seconds_and_its_memory():
    for how in ("train", "fit"):
        run, _ = contenders.compiling(steps=3, how=how)
        figures = run()
        assert figures.keys() == {"seconds", "peak_memory"}
        assert figures["seconds"] > 0
        assert figures["peak_memory"] > 10e6  # bytes; no JAX fits in ten megabytes


@pytest.mark.parametrize(
    ("modules", "sentence"),
    [
        (["typer"], 'needs typer: pip install "funcgrad[cli]"'),
        (["torch"], 'needs torch: pip install "funcgrad[bench]"'),
        (["sklearn"], 'needs scikit-learn: pip install "funcgrad[bench]"'),
        (["rich", "flint"], 'needs rich, python-flint: pip install "funcgrad[cli]"'),
        (["numpy"], "needs numpy: pip install numpy"),
    ],
)
def test_what_is_missing_is_named_with_the_extra_that_brings_it(modules, sentence):
    assert contenders.needs(*modules) == sentence


def test_extras_are_those_of_the_project(pytestconfig):
    """They bring what is said, as pyproject.toml has it."""
    import tomllib

    with open(pytestconfig.rootpath / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    extras["cli"] += extras["testing"]  # which `cli` includes
    for name, modules in contenders.EXTRAS.items():
        packages = [text.partition(">=")[0] for text in extras[name]]
        named = [contenders.PACKAGES.get(module, module) for module in modules]
        assert set(named) <= set(packages)


def test_only_what_is_not_installed_is_absent():
    import_error = ModuleNotFoundError("No module", name="no_such_library.part")
    sentence = "needs no_such_library: pip install no_such_library"
    assert contenders.trouble(import_error) == {"absent": sentence}
    # The library is there, though not the part of it that somebody else relies on.
    import_error = ModuleNotFoundError("No module named 'jax.gone'", name="jax.gone")
    said = contenders.trouble(import_error)
    assert said == {"failed": "ModuleNotFoundError: No module named 'jax.gone'"}
    said = contenders.trouble(ImportError("cannot import x", name="torch"))
    assert said == {"failed": "ImportError: cannot import x"}


def test_a_process_that_failed_is_told_by_the_last_line_of_its_stderr():
    error = subprocess.CalledProcessError(2, "program", stderr=b"Traceback\nno, 3\n")
    assert contenders.trouble(error) == {"failed": "no, 3"}
    error = subprocess.CalledProcessError(2, "program", stderr=b"")
    assert contenders.trouble(error) == {"failed": "exit code 2"}
