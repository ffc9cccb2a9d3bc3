"""Processes take turns, and say what they need or how they broke."""

import pytest
from fake_interpreters import python_where, python_without, script

from benchmarks.cases import Case, Contender
from benchmarks.workers import measure, take_turns

READY = """echo '{"versions": {"python": "0"}}'"""
ANSWER = """read line && echo '{"seconds_per_unit": 0.5, "peak_memory": 7}'"""


def turns_of(interpreter, function="peak_jax", rounds=1, **arguments):
    contender = Contender(function, arguments, peer="torch")
    return take_turns({"it": contender}, rounds, {"torch": interpreter})["it"]


@pytest.mark.exhaustive
def test_turns_are_counted_and_the_versions_are_told():
    (turns,) = take_turns({"it": Contender("peak_jax", {"size": 8})}, 2).values()
    assert len(turns.times) == 2 and min(turns.times) > 0
    assert {"python", "jax"} <= turns.versions.keys()
    assert (turns.absent, turns.failed, turns.interpreter) == ("", "", "")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("module", "function", "package", "extra"),
    [
        ("torch", "step_torch", "torch", "bench"),
        ("typer", "moons_process", "typer", "cli"),
        ("polars", "moons_process", "polars", "cli"),
        ("sklearn", "moons_sklearn", "scikit-learn", "bench"),
        ("micrograd", "seed_micrograd", "micrograd", "bench"),
        ("flax", "step_nnx", "flax", "bench"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    tmp_path, module, function, package, extra
):
    interpreter = python_without(tmp_path / "python", module)
    given = {"problem": "seed"} if function.startswith("step_") else {}
    turns = turns_of(interpreter, function, steps=1, **given)
    assert turns.absent == f'needs {package}: pip install "funcgrad[{extra}]"'
    assert turns.failed == "" and turns.times == []


def test_nothing_is_absent_where_nothing_is_missing(tmp_path):
    """The same interpreter and contender, with another module blocked."""
    pytest.importorskip("torch")
    turns = turns_of(python_without(tmp_path / "python", "typer"), "peak_torch", size=8)
    assert turns.absent == turns.failed == ""
    assert len(turns.times) == 1
    assert "torch" in turns.versions
    assert turns.interpreter == str(tmp_path / "python")


@pytest.mark.exhaustive
@pytest.mark.parametrize("function", ["moons_script", "moons_process", "moons_sklearn"])
def test_a_process_of_a_contender_that_fails_is_told_by_its_last_line(
    tmp_path, function
):
    if function == "moons_sklearn":
        pytest.importorskip("sklearn")
    child = script(tmp_path / "child", "echo first >&2", "echo no room >&2", "exit 3")
    interpreter = python_where(tmp_path / "python", f"sys.executable = {child!r}")
    turns = turns_of(interpreter, function, steps=1)
    assert turns.failed == "no room"
    assert turns.absent == ""


def test_an_error_of_a_contender_is_told_in_a_line():
    (turns,) = take_turns({"it": Contender("no_such_function", {})}, 1).values()
    assert turns.failed == "KeyError: 'no_such_function'"


def test_a_process_that_dies_says_what_it_said_last(tmp_path):
    dies = script(tmp_path / "python", "echo out of memory >&2", "exit 9")
    assert turns_of(dies).failed == "out of memory"
    dies = script(tmp_path / "python", "exit 9")
    assert turns_of(dies).failed == "exit code 9"


def test_the_turns_before_a_death_count(tmp_path):
    lines = (READY, ANSWER, "read line", "echo enough >&2", "exit 1")
    turns = turns_of(script(tmp_path / "python", *lines), rounds=5)
    assert turns.times == [0.5]
    assert turns.figures == {"peak_memory": 7}
    assert turns.failed == "enough"


def test_figures_are_medians_over_the_turns(tmp_path):
    lines = (ANSWER.replace("7", figure) for figure in ("5", "90", "6"))
    turns = turns_of(script(tmp_path / "python", READY, *lines), rounds=3)
    assert turns.figures == {"peak_memory": 6}


def test_a_process_may_write_to_stderr_as_much_as_it_likes(tmp_path):
    chatter = "head -c 1000000 /dev/zero | tr '\\0' x >&2"
    lines = (f'timeout 20 sh -c "{chatter}" || exit 1', READY, ANSWER)
    assert turns_of(script(tmp_path / "python", *lines)).times == [0.5]


def test_contenders_take_turns_unless_the_case_lets_them_run_alone(tmp_path):
    log = tmp_path / "log"
    answer = f"read line && echo $3 >> {log} && " + ANSWER.partition("&& ")[2]
    interpreter = script(tmp_path / "python", READY, answer, answer)
    pair = {name: Contender("f", {"name": name}, peer="nnx") for name in "ab"}
    both = Case("seed", "case", "step", pair)
    assert measure(both, 2, {"nnx": interpreter}).keys() == {"a", "b"}
    assert [line[-3] for line in log.read_text().splitlines()] == ["a", "b", "a", "b"]
    log.unlink()
    alone = both._replace(together=False)
    assert measure(alone, 2, {"nnx": interpreter}).keys() == {"a", "b"}
    assert [line[-3] for line in log.read_text().splitlines()] == ["a", "a", "b", "b"]
