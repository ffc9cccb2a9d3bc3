"""The table of a GPU beside the CPU is made here too, without the GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import contenders, gpu

ROOT = Path(__file__).parents[2]


def test_all_that_is_measured_is_there():
    for quick in (True, False):
        for function, _ in gpu.measures(quick).values():
            assert callable(getattr(contenders, function))


@pytest.mark.exhaustive
def test_a_contender_has_a_time_or_a_reason():
    function, arguments = gpu.measures(True)["step of [3, 4, 4, 1] on 4 rows"]
    assert 0 < gpu.seconds(function, arguments, "cpu") < 1
    assert "KeyError" in gpu.seconds(function, {**arguments, "problem": "?"}, "cpu")


def test_a_row_has_both_times_and_how_many_times_faster_the_gpu_is():
    assert gpu.row("a step", 3e-6, 1.5e-6) == "| a step | 3.000 | 1.500 | 2.00 |"
    assert gpu.row("a step", 3e-6, "-") == "| a step | 3.000 | - |  |"


def test_the_script_is_one_that_a_shell_reads():
    script = ROOT / "benchmarks" / "gpu.sh"
    subprocess.run(["sh", "-n", script], check=True)
    assert sys.platform == "win32" or script.stat().st_mode & 0o100
