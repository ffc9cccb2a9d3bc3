"""Each example runs as a process of its own, and shows what its docstring promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(folder, *command):
    """Run `python *command` in `folder`, with nothing of this test run's around it."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=mine | {"PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def number(pattern, printed):
    """Return the number that the one group of `pattern` finds."""
    found = re.search(pattern, printed)
    assert found, printed
    return float(found[1])


@pytest.mark.exhaustive
def test_worked_example(tmp_path):
    printed = run(tmp_path, EXAMPLES / "worked_example.py")
    by_values, by_jax = printed.split("jax.grad\n")
    assert by_values == f"reference.Value\n{by_jax}"
    losses = re.findall(r"loss (\S+), gradient (\S+): w = (\S+)", by_jax)
    assert losses[0] == ("16", "-16", "2.6")
    assert losses[1] == ("0.64", "-3.2", "2.92")
    assert losses[2][0] == "0.0256"


def test_moons(tmp_path):
    printed = run(tmp_path, EXAMPLES / "moons.py")
    assert number(r"accuracy (\d+)%", printed) == 100
    assert number(r"(\S+) at last", printed) < 0.05
    assert (tmp_path / "moons.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.exhaustive
def test_your_own_model(tmp_path):
    printed = run(tmp_path, EXAMPLES / "your_own_model.py")
    assert "gradient: proven" in printed
    assert number(r"(\S+) at last", printed) < 0.05
    assert number(r"right on (\S+)% of 1,000 rows of 24 bits", printed) > 90


@pytest.mark.exhaustive
def test_thousand_seeds(tmp_path):
    printed = run(tmp_path, EXAMPLES / "thousand_seeds.py")
    learnt = number(r"(\d+) of 1,000 seeds learnt", printed)
    stuck = number(r"(\d+) got stuck at a loss of 1/8", printed)
    assert 800 < learnt < 1000
    assert stuck > 0.9 * (1000 - learnt)
    assert number(r"by (\S+) at most at the corners", printed) < 0.05
    assert number(r"by (\S+) in the middle", printed) > 0.1


@pytest.mark.exhaustive
def test_microgpt(tmp_path):
    printed = run(tmp_path, EXAMPLES / "microgpt.py")
    losses = re.findall(r"^ *\d+ +(\d\.\d+) +(\d\.\d+)$", printed, re.MULTILINE)
    assert len(losses) == 15
    for by_values, by_jax in losses:
        # float64 and float32 part by some 1e-5 in 120 steps, printed in thousandths
        assert abs(float(by_values) - float(by_jax)) < 0.0015
    first, last = float(losses[0][0]), float(losses[-1][0])
    assert first > 1.9 and last < 0.9
    assert len(re.search(r"spelled: (.*)", printed)[1].split()) == 8


@pytest.mark.exhaustive
def test_gpt_in_a_page(tmp_path):
    printed = run(tmp_path, EXAMPLES / "gpt_in_a_page.py")
    knowing_nothing = number(r"of the number of kinds: (\S+) nats", printed)
    assert abs(number(r"loss at first: (\S+)", printed) - knowing_nothing) < 0.2
    counting = number(r"counting characters: (\S+)", printed)
    assert number(r"loss at last: (\S+)", printed) < counting - 0.5
    # A sample of 200 characters, among which words are parted.
    _, text = printed.split("a sample: ")
    assert len(text) > 200 and text.count(" ") > 10


@pytest.mark.exhaustive
def test_my_rule(tmp_path):
    options = ("-q", "-p", "no:cacheprovider")
    printed = run(tmp_path, "-m", "pytest", *options, EXAMPLES / "test_my_rule.py")
    assert re.search(r"^\d+ passed", printed, re.MULTILINE)


def test_no_example_is_left_out():
    tested = {name.removeprefix("test_") for name in globals()}
    for example in EXAMPLES.glob("*.py"):
        assert example.stem.removeprefix("test_") in tested


def test_a_failing_example_is_seen(tmp_path):
    (tmp_path / "wrong.py").write_text("raise SystemExit('no')")
    with pytest.raises(AssertionError, match="no"):
        run(tmp_path, "wrong.py")
