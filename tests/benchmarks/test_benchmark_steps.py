"""A contender does the steps that it is paid for, all of them, on all of the rows.

Updates are counted where the library does them; units and seconds are worked out by
hand, with a clock that goes on as it is told.
"""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fake_interpreters import script

import funcgrad as fg
from benchmarks import cases, contenders

pytestmark = pytest.mark.filterwarnings("default")  # peers warn as they like


def contender(name, **arguments):
    """Return (run, units), or skip where the peer is not there."""
    try:
        return getattr(contenders, name)(**arguments)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")


@pytest.fixture
def updates(monkeypatch):
    """Return the list to which each update by optax adds the size of the gradients."""
    done = []

    def counting(make):
        def made(*arguments, **options):
            inner = make(*arguments, **options)

            def update(grads, state, params=None):
                size = sum(leaf.size for leaf in jax.tree.leaves(grads))
                jax.debug.callback(lambda: done.append(size))
                return inner.update(grads, state, params)

            return optax.GradientTransformation(inner.init, update)

        return made

    for name in ("sgd", "adam"):
        monkeypatch.setattr(optax, name, counting(getattr(optax, name)))
    return done


SEED_NUMBERS = 3 * 4 + 4 + 4 * 4 + 4 + 4 * 1 + 1
WIDE_NUMBERS = 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10


@pytest.mark.parametrize(
    ("name", "arguments", "units", "steps", "numbers"),
    [
        ("seed_train", {"steps": 7}, 7, 7, SEED_NUMBERS),
        ("seed_fit", {"steps": 7}, 7, 7, SEED_NUMBERS),
        ("seed_dispatched", {"steps": 7}, 7, 7, SEED_NUMBERS),
        ("seed_equinox", {"steps": 7}, 7, 7, SEED_NUMBERS),
        ("seed_nnx", {"steps": 7}, 7, 7, SEED_NUMBERS),
        ("moons_training", {"steps": 7}, 1, 7, 2 * 16 + 16 + 16 * 16 + 16 + 16 + 1),
        ("wide_train", {"rows": 11, "batch": 3}, 9, 3, WIDE_NUMBERS),
        ("wide_fit", {"rows": 11, "batch": 3}, 9, 3, WIDE_NUMBERS),
        ("wide_equinox", {"rows": 11, "batch": 3}, 9, 3, WIDE_NUMBERS),
        ("wide_nnx", {"rows": 11, "batch": 3}, 9, 3, WIDE_NUMBERS),
        (
            "growth",
            {"sizes": [3, 4, 1], "batch": 4, "members": 1, "steps": 7},
            7, 7, 3 * 4 + 4 + 4 + 1,
        ),
    ],
)  # fmt: skip
def test_updates_by_optax_are_those_of_the_units(
    updates, name, arguments, units, steps, numbers
):
    run, given = contender(name, **arguments)
    assert given == units
    for _ in range(2):  # a second turn does as much as the first
        updates.clear()
        run()
        jax.effects_barrier()
        assert updates == [numbers] * steps


def test_every_row_of_a_batch_is_seen(monkeypatch):
    """By the losses, of which funcgrad's and the peers' are given the labels."""
    seen = []

    def noted(loss):
        def f(outputs, labels):
            seen.append((outputs.shape, labels.shape))
            return loss(outputs, labels)

        return f

    theirs = optax.softmax_cross_entropy_with_integer_labels
    monkeypatch.setattr(
        optax, "softmax_cross_entropy_with_integer_labels", noted(theirs)
    )
    for name in ("cross_entropy", "squared_error", "hinge", "mean_squared_error"):
        monkeypatch.setattr(fg, name, noted(getattr(fg, name)))
    for name in ("wide_train", "wide_fit", "wide_equinox", "wide_nnx"):
        seen.clear()
        contender(name, rows=11, batch=3)[0]()
        assert set(seen) == {((3, 10), (3,))}, name
    for name in ("seed_train", "seed_fit", "seed_dispatched"):
        seen.clear()
        contender(name, steps=1)[0]()
        assert set(seen) == {((4, 1), (4, 1))}, name
    seen.clear()
    contender("moons_training", steps=1)[0]()
    assert set(seen) == {((100, 1), (100, 1))}
    seen.clear()
    contender("growth", sizes=[3, 2], batch=5, members=1, steps=1)[0]()
    assert set(seen) == {((5, 2), (5, 2))}


@pytest.fixture
def results(monkeypatch):
    """Return the list to which what is waited for, or trained as many, is added."""
    seen = []
    train_many = fg.train_many

    def noted(*arguments, **settings):
        seen.append(train_many(*arguments, **settings))
        return seen[-1]

    monkeypatch.setattr(jax, "block_until_ready", seen.append)
    monkeypatch.setattr(fg, "train_many", noted)
    return seen


@pytest.mark.parametrize("name", ["many_train_many", "many_vmap_plain"])
def test_many_nets_take_all_their_steps(results, name):
    run, units = contender(name, members=3, steps=5)
    run()
    (params, losses) = results[-1]
    assert units == losses.size == 15
    assert losses.shape == (3, 5)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) >= 3 * SEED_NUMBERS
    assert (losses[:, 0] != losses[:, -1]).all()


def test_growth_with_members_counts_a_step_of_all_as_one(results):
    run, units = contenders.growth([3, 4, 1], batch=4, members=3, steps=5)
    run()
    states, losses = results[-1]
    assert units == 5 and losses.shape == (3, 5)
    assert states.step.tolist() == [5, 5, 5]


def test_peaks_are_products_whose_operations_are_counted(results):
    run, units = contenders.peak_jax(8)
    run()
    assert units == 8 * 8 * (8 + 8)  # each number is a sum of 8 products
    assert results[-1].tolist() == [[8.0] * 8] * 8
    run, units = contender("peak_torch", size=8)
    assert units == 8 * 8 * (8 + 8)
    assert run().tolist() == [[8.0] * 8] * 8


@pytest.mark.parametrize(
    ("name", "arguments", "units", "steps", "rows"),
    [
        ("seed_torch", {"steps": 7}, 7, 7, (4,)),
        ("many_torch_bmm", {"members": 3, "steps": 7}, 21, 7, (3, 4)),
        ("wide_torch", {"rows": 11, "batch": 3, "fused": False}, 9, 3, (3,)),
        ("wide_torch", {"rows": 11, "batch": 3, "fused": True}, 9, 3, (3,)),
    ],
)
def test_updates_by_torch_are_those_of_the_units(
    monkeypatch, name, arguments, units, steps, rows
):
    torch = pytest.importorskip("torch")
    done, made = [], []

    def counting(make):
        class Counting(make):
            def __init__(self, *given, **options):
                made.append(options)
                super().__init__(*given, **options)

            def step(self, *given):
                done.append(1)
                return super().step(*given)

        return Counting

    for optimizer in ("SGD", "Adam"):
        wrapped = counting(getattr(torch.optim, optimizer))
        monkeypatch.setattr(torch.optim, optimizer, wrapped)
    tanh, linear = torch.tanh, torch.nn.functional.linear
    seen = set()
    monkeypatch.setattr(torch, "tanh", lambda a: seen.add(a.shape[:-1]) or tanh(a))
    monkeypatch.setattr(
        torch.nn.functional, "linear",
        lambda a, *given: seen.add(a.shape[:-1]) or linear(a, *given),
    )  # fmt: skip
    run, given = contender(name, **arguments)
    assert given == units
    for _ in range(2):
        done.clear()
        run()
        assert len(done) == steps
    assert rows in seen and len({tuple(shape) for shape in seen}) == 1
    assert [options.get("fused") for options in made] == [arguments.get("fused")]


def test_gradients_by_torch_func_are_those_of_the_units(monkeypatch):
    torch = pytest.importorskip("torch")
    calls, vmap = [], torch.func.vmap

    def counting(f):
        mapped = vmap(f)

        def g(params):
            calls.append({len(p) for p in params})
            return mapped(params)

        return g

    monkeypatch.setattr(torch.func, "vmap", counting)
    run, units = contenders.many_torch_func(members=3, steps=7)
    run()
    assert units == 21
    assert calls == [{3}] * 7


@pytest.mark.parametrize(
    ("name", "arguments", "units", "rows"),
    [
        ("seed_micrograd", {"steps": 7}, 7, 4),
        ("moons_micrograd", {"steps": 2, "of": 10}, 0.2, 100),
    ],
)
def test_rows_and_updates_by_micrograd_are_those_of_the_units(
    monkeypatch, name, arguments, units, rows
):
    nn = pytest.importorskip("micrograd.nn")
    engine = pytest.importorskip("micrograd.engine")
    calls, call = [], nn.MLP.__call__
    zero_grad, backward = nn.MLP.zero_grad, engine.Value.backward
    monkeypatch.setattr(
        nn.MLP, "__call__", lambda net, x: calls.append("row") or call(net, x)
    )
    monkeypatch.setattr(
        nn.MLP, "zero_grad", lambda net: calls.append("zero") or zero_grad(net)
    )
    monkeypatch.setattr(
        engine.Value, "backward", lambda loss: calls.append("back") or backward(loss)
    )
    run, given = getattr(contenders, name)(**arguments)
    assert given == units
    run()
    assert calls == [*["row"] * rows, "zero", "back"] * arguments["steps"]


@pytest.mark.parametrize(
    ("name", "arguments", "units", "said"),
    [
        ("moons_process", {"steps": 7}, 1, "--steps 7"),
        ("moons_script", {"steps": 7}, 1, "steps=7"),
        ("moons_sklearn", {"steps": 7}, 1, "max_iter=7"),
    ],
)
def test_processes_are_told_all_steps_and_run_once_a_turn(
    monkeypatch, name, arguments, units, said
):
    commands = []

    def process(command, **options):
        commands.append(" ".join(command))
        return subprocess.CompletedProcess(command, 0, "")

    run, given = contender(name, **arguments)
    monkeypatch.setattr(contenders.subprocess, "run", process)
    assert given == units
    run()
    (command,) = commands
    assert said in command


def test_nanoseconds_of_the_c_program_become_seconds_of_all_its_steps(tmp_path):
    lines = (
        f'echo "$@" >> {tmp_path / "log"}',
        """echo '{"nanoseconds_per_step": 2}'""",
    )
    program = script(tmp_path / "program", *lines)
    run, units = contenders.many_c(program, members=3, steps=5, threads=4)
    assert (run(), units) == ({"seconds": 2e-9 * 15}, 15)
    run, units = contenders.seed_c(program, steps=7)
    assert (run(), units) == ({"seconds": 2e-9 * 7}, 7)
    # Nets, steps and threads, in the order in which the program takes them.
    assert (tmp_path / "log").read_text().split("\n")[:2] == ["3 5 4", "1 7 1"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    return cases.build_c(tmp_path_factory.mktemp("c"))


def nets_of_c(count, seed):
    """Yield the parameters that the C program draws on a thread."""
    state = 12345 + 977 * seed
    for _ in range(count):
        numbers = []
        for _ in range(SEED_NUMBERS):
            state = (state * 1664525 + 1013904223) % 2**32
            numbers.append((state >> 8) / 2**23 - 1)
        numbers, params = np.float32(numbers), []
        for a, b in ((3, 4), (4, 4), (4, 1)):
            w, bias, numbers = np.split(numbers, [a * b, a * b + b])
            params.append(fg.Layer(w.reshape(a, b), bias))
        yield tuple(params)


def test_the_c_program_does_the_steps_of_funcgrad(programs):
    """From its own first weights; three nets on two threads are two and one."""
    model, optimizer = fg.mlp(contenders.SEED_SIZES), optax.sgd(contenders.RATE)
    data = np.float32(contenders.SEED_X), np.float32(contenders.SEED_Y)
    objective = fg.objective(model, fg.squared_error)
    run = jax.jit(lambda s: fg.train(objective, optimizer, s, data, steps=9)[1])
    expected = sum(
        np.float64(run(fg.init_state(params, optimizer)))
        for params in (*nets_of_c(2, seed=0), *nets_of_c(1, seed=1))
    )
    # A thousandth: far above nine steps of rounding with -ffast-math, some 1e-6, and
    # far below what a step more or less, another rate or another row would change.
    assert np.all(abs(np.diff(expected)) > 0.01 * expected[1:])
    assert programs
    for program in programs.values():
        for steps in (1, 8, 9):
            command = [program, "3", str(steps), "2"]
            said = subprocess.run(command, capture_output=True, check=True).stdout
            loss = json.loads(said)["loss"]
            assert loss == pytest.approx(expected[steps - 1], rel=1e-3)


FAKE_CLOCK = """#include <time.h>
static int fake_clock(clockid_t id, struct timespec *now) {
  static int calls;
  now->tv_sec = 7 * calls;
  now->tv_nsec = 500000000 * calls++;
  return 0;
}
#define clock_gettime fake_clock
"""


def test_the_seconds_of_the_c_program_come_back_as_they_were(tmp_path):
    """Its clock goes on by 7.5 s between its two looks, whatever it does there."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "fake.h").write_text(FAKE_CLOCK)
    program = str(tmp_path / "seed_net")
    command = ["cc", "-include", str(tmp_path / "fake.h"), str(cases.C_SOURCE)]
    subprocess.run([*command, "-pthread", "-o", program, "-lm"], check=True)
    run, units = contenders.many_c(program, members=5, steps=3, threads=2)
    # 7.5e9 / 15 has no more digits than are printed; 1e-9 is rounded, and a product.
    assert run()["seconds"] == pytest.approx(7.5, rel=1e-15)
    assert units == 15


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still until somebody moves its `now`."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(contenders, "time", fake)
    return clock


def turns(monkeypatch, clock, answer, units, count):
    """Return what the process says of a contender whose runs take 8 s each."""

    def run():
        clock.now += 8
        return answer

    monkeypatch.setattr(contenders, "fake", lambda: (run, units), raising=False)
    monkeypatch.setattr(sys, "argv", ["contenders.py", "fake", "{}"])
    monkeypatch.setattr(sys, "stdin", ["go\n"] * count)
    said = []
    contenders.main(said.append)
    return said


def test_a_turn_is_a_run_and_its_seconds_are_those_of_a_unit(monkeypatch, clock):
    ready, *said = turns(monkeypatch, clock, None, 4, 2)
    assert ready.keys() == {"versions"}
    assert said == [{"seconds_per_unit": 2.0}] * 2
    assert clock.now == 3 * 8  # two turns, and one before them that nobody counts


def test_seconds_that_the_run_returns_replace_the_clocks(monkeypatch, clock):
    answer = {"seconds": 6.0, "peak_memory": 7}
    _, said = turns(monkeypatch, clock, answer, 4, 1)
    assert said == {"seconds_per_unit": 1.5, "peak_memory": 7}
    assert answer == {"seconds": 6.0, "peak_memory": 7}  # for the next turn


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
@pytest.mark.parametrize("how", ["train", "fit"])
def test_compiling_is_timed_without_the_run(
    monkeypatch, clock, updates, how, platform, unit
):
    """Tracing takes 64 s here, each wait for a result 1000, each fit 5."""
    resource = pytest.importorskip("resource")
    usage = SimpleNamespace(ru_maxrss=3)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", platform)
    squared_error, fit = fg.squared_error, fg.fit

    def slow_to_trace(y, target):
        clock.now += 64
        return squared_error(y, target)

    def noted(*given, **options):
        clock.now += 5
        return fit(*given, **options)

    def wait(tree):
        clock.now += 1000

    monkeypatch.setattr(fg, "squared_error", slow_to_trace)
    monkeypatch.setattr(fg, "fit", noted)
    monkeypatch.setattr(jax, "block_until_ready", wait)
    run, units = contenders.compiling(steps=9, how=how)
    jax.effects_barrier()
    assert units == 1
    # fit traces once more before it compiles, to look at the data.
    seconds = 64 if how == "train" else 2 * 64 + 5
    assert run() == {"seconds": seconds, "peak_memory": 3 * unit}
    # The run that fills the memory is of all steps; fit compiles in one of its own.
    assert len(updates) == (9 if how == "train" else 1 + 9)


def test_updates_that_are_not_done_are_not_counted(updates):
    optimizer = optax.sgd(0.1)
    state = fg.init_state(jnp.ones(5), optimizer)
    fg.train(lambda w, x: jnp.sum(w * x), optimizer, state, jnp.ones((1, 5)), steps=3)
    jax.effects_barrier()
    assert updates == [5] * 3
