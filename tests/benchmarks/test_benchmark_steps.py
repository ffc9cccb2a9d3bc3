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
from benchmarks import contenders, programs, roofline

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


SEED = {"problem": "seed", "steps": 7}
BATCHES = {"problem": "moons, batches", "steps": 7}
SEED_NUMBERS = 3 * 4 + 4 + 4 * 4 + 4 + 4 * 1 + 1
MOONS_NUMBERS = 2 * 16 + 16 + 16 * 16 + 16 + 16 + 1
SMALL_NUMBERS = 16 * 64 + 64 + 64 * 64 + 64 + 64 + 1
WIDE_NUMBERS = 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10


@pytest.fixture
def shapes(monkeypatch):
    """Return the set of shapes, of outputs and labels, that the losses are given."""
    seen = set()

    def noted(loss):
        def f(outputs, labels):
            seen.add((outputs.shape, labels.shape))
            return loss(outputs, labels)

        return f

    theirs = optax.softmax_cross_entropy_with_integer_labels
    monkeypatch.setattr(
        optax, "softmax_cross_entropy_with_integer_labels", noted(theirs)
    )
    for name in ("cross_entropy", "squared_error", "hinge", "mean_squared_error"):
        monkeypatch.setattr(fg, name, noted(getattr(fg, name)))
    return seen


# The shapes of outputs and labels of so many rows.
THREE, FOUR = {((3, 10), (3,))}, {((4, 1), (4, 1))}
OF_32, HUNDRED = {((32, 1), (32, 1))}, {((100, 1), (100, 1))}
OWN_LOSS = set()  # a peer's own squared error, which nobody listens to


@pytest.mark.parametrize(
    ("name", "arguments", "units", "steps", "numbers", "rows"),
    [
        ("step_train", SEED, 7, 7, SEED_NUMBERS, FOUR),
        ("step_fit", SEED, 7, 7, SEED_NUMBERS, FOUR),
        ("step_dispatched", SEED, 7, 7, SEED_NUMBERS, FOUR),
        ("step_equinox", SEED, 7, 7, SEED_NUMBERS, OWN_LOSS),
        ("step_nnx", SEED, 7, 7, SEED_NUMBERS, OWN_LOSS),
        ("step_train", BATCHES, 7, 7, MOONS_NUMBERS, OF_32),
        ("moons_training", {"steps": 7}, 1, 7, MOONS_NUMBERS, HUNDRED),
        ("wide_train", {"rows": 11, "batch": 3}, 3, 3, WIDE_NUMBERS, THREE),
        (
            "growth",
            {"sizes": [3, 4, 2], "batch": 5, "members": 1, "steps": 7},
            7, 7, 3 * 4 + 4 + 4 * 2 + 2, {((5, 2), (5, 2))},
        ),
        ("step_train", {**SEED, "problem": "seed, Adam"}, 7, 7, SEED_NUMBERS, FOUR),
        (
            "step_equinox", {**SEED, "problem": "small"}, 7, 7, SMALL_NUMBERS,
            OWN_LOSS,
        ),
        ("step_fit", BATCHES, 7, 7, MOONS_NUMBERS, OF_32),
        ("wide_fit", {"rows": 11, "batch": 3}, 3, 3, WIDE_NUMBERS, THREE),
        ("wide_equinox", {"rows": 11, "batch": 3}, 3, 3, WIDE_NUMBERS, THREE),
        ("wide_nnx", {"rows": 11, "batch": 3}, 3, 3, WIDE_NUMBERS, THREE),
    ],
)  # fmt: skip
@pytest.mark.exhaustive
def test_updates_and_rows_are_those_of_the_units(
    updates, shapes, name, arguments, units, steps, numbers, rows
):
    """Updates by the optimizer, rows of a batch by the losses."""
    run, given = contender(name, **arguments)
    assert given == units
    for _ in range(2):  # a second turn does as much as the first
        updates.clear()
        run()
        jax.effects_barrier()
        assert updates == [numbers] * steps
    assert shapes == rows


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
@pytest.mark.exhaustive
def test_many_nets_take_all_their_steps(results, name):
    run, units = contender(name, members=3, steps=5)
    run()
    (params, losses) = results[-1]
    assert units == losses.size == 15
    assert losses.shape == (3, 5)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) >= 3 * SEED_NUMBERS
    assert (losses[:, 0] != losses[:, -1]).all()


@pytest.mark.exhaustive
def test_growth_with_members_counts_a_step_of_all_as_one(results):
    run, units = contenders.growth([3, 4, 1], batch=4, members=3, steps=5)
    run()
    states, losses = results[-1]
    assert units == 5 and losses.shape == (3, 5)
    assert states.step.tolist() == [5, 5, 5]


def test_peaks_are_products_whose_multiply_adds_are_counted(results):
    run, units = contenders.peak_jax(8)
    run()
    assert units == 8 * 8 * 8  # each number is a sum of 8 products
    assert results[-1].tolist() == [[8.0] * 8] * 8
    run, units = contender("peak_torch", size=8)
    assert units == 8 * 8 * 8
    assert run().tolist() == [[8.0] * 8] * 8


@pytest.mark.parametrize(
    ("name", "arguments", "units", "steps", "rows"),
    [
        ("step_torch", SEED, 7, 7, (4,)),
        ("step_torch", {**SEED, "problem": "seed, Adam"}, 7, 7, (4,)),
        ("step_torch", {**SEED, "problem": "moons"}, 7, 7, (100,)),
        ("many_torch_bmm", {"members": 3, "steps": 7}, 21, 7, (3, 4)),
        ("wide_torch", {"rows": 11, "batch": 3, "fused": False}, 3, 3, (3,)),
        ("wide_torch", {"rows": 11, "batch": 3, "fused": True}, 3, 3, (3,)),
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
    calls, call, zero_grad = [], nn.MLP.__call__, nn.MLP.zero_grad
    monkeypatch.setattr(
        nn.MLP, "__call__", lambda net, x: calls.append("row") or call(net, x)
    )
    monkeypatch.setattr(
        nn.MLP, "zero_grad", lambda net: calls.append("zero") or zero_grad(net)
    )
    # Whose numbers nobody looks at here.
    monkeypatch.setattr(engine.Value, "backward", lambda loss: calls.append("back"))
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


def test_the_seconds_of_a_c_program_are_of_all_its_units(tmp_path):
    lines = (f'echo "$@" >> {tmp_path / "log"}', """echo '{"seconds": 2}'""")
    program = script(tmp_path / "program", *lines)
    run, units = contenders.many_c(program, "seed", members=3, steps=5, threads=4)
    assert (run(), units) == ({"seconds": 2}, 15)
    run, units = contenders.step_c(program, "moons", steps=7)
    assert (run(), units) == ({"seconds": 2}, 7)
    run, units = contenders.limit_c(program, "tanh", count=9, threads=2)
    assert (run(), units) == ({"seconds": 2}, 18)
    # Nets, steps and threads, in the order in which the program takes them.
    said = (tmp_path / "log").read_text().splitlines()
    assert said == ["3 5 4", "1 7 1", "tanh 9 2"]

    run, units = contenders.gpt_c(program, "micro", 16, steps=3, members=5, threads=2)
    told = run()
    assert (told.pop("cpu_seconds") >= 0, told, units) == (True, {"seconds": 2}, 240)
    assert (tmp_path / "log").read_text().splitlines()[3] == "5 3 2"


def losses_of_funcgrad(problem, steps):
    """Return those of its training from where the C program begins."""
    _, fg, _, objective, optimizer, data = contenders.jax_problem(problem)
    params = tuple(
        fg.Layer(np.float32(w), np.float32(b))
        for w, b in contenders.layers_of_c(problem)
    )
    run = jax.jit(lambda s: fg.train(objective, optimizer, s, data, steps=steps)[1])
    return np.float64(run(fg.init_state(params, optimizer)))


@pytest.mark.parametrize("problem", programs.RACES)
@pytest.mark.exhaustive
def test_the_c_program_does_the_steps_of_funcgrad(tmp_path, problem):
    """With tanhf and inline; three nets on two threads are two and one."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    expected = losses_of_funcgrad(problem, 9)
    # Adam's are funcgrad's and so Optax's. Nine steps of rounding are some 1e-6 of the
    # loss, and a step more or less changes it by far more than the tolerance.
    assert np.all(expected[:-1] - expected[1:] > 1e-4 * expected[1:])
    built = programs.builds(problem, tmp_path)
    for program in built[: 1 if problem == "moons" else 2]:
        for steps in (1, 8, 9):
            said = contenders.run_c(program.path, problem, 3, steps, 2)
            assert said["loss"] == pytest.approx(3 * expected[steps - 1], rel=1e-5)


@pytest.fixture(scope="module")
def microgpt():
    """Return its objective, and the parameters and rows that the C program is given.

    Of some rows not all tokens count, as of a name that is short.
    """
    _, fg, _, objective, _, _ = contenders.gpt_funcgrad("micro", 16)
    arrays, rows = contenders.gpt_c_numbers(16, 9)
    rows[:, ::3, 5:] = -1
    tokens, positions, *block, norm = arrays
    return objective, fg.GptParams(tokens, positions, (fg.Block(*block),), norm), rows


MICROGPT = {
    # Of which a gradient's scale is seen, that of Adam's is not.
    "sgd": (optax.sgd(0.5), ["-UADAM", "-URATE", "-DRATE=0.5f"]),
    "adamw": (optax.adamw(contenders.GPT_RATE), []),
}


@pytest.mark.parametrize("how", MICROGPT)
def test_the_gpt_in_c_does_the_steps_of_funcgrad(tmp_path, microgpt, how):
    """Three nets on two threads are two and one."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (objective, params, rows), (optimizer, flags) = microgpt, MICROGPT[how]
    state, step = fg.init_state(params, optimizer), fg.make_step(objective, optimizer)
    expected = np.float64(jax.jit(lambda s: jax.lax.scan(step, s, rows)[1])(state))
    flags = ["-O1", *programs.microgpt_definitions(), *flags]
    program = programs.compiled("microgpt.c", flags, tmp_path / "microgpt")
    if program is None:
        pytest.skip("needs GCC, whose vectors microgpt.c is made of")
    arrays = jax.tree.leaves(params)
    for steps in (1, 2, 9):
        said = contenders.run_gpt_c(program.path, arrays, rows[:steps], 3, 2)
        # Nine steps of rounding are some 1e-6 of the loss; with slopes of one leaf that
        # are 3 % off, SGD is seen to have losses 1.5e-5 off and more.
        assert said["loss"] == pytest.approx(3 * expected[steps - 1], rel=1e-5)


@pytest.mark.exhaustive
def test_what_the_c_program_is_not_given_it_refuses(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    net, *_ = programs.builds("seed", tmp_path, quick=True)
    limits = programs.compiled("limits.c", ["-O1"], tmp_path / "limits")
    gpts = programs.microgpt_builds(tmp_path, quick=True)
    for command in (
        *([gpt.path, "1", "1", "1"] for gpt in gpts), *([gpt.path] for gpt in gpts),
        [net.path, "1", "1", "1"], [net.path], [limits.path, "speed", "1", "1"],
        [limits.path, "tanh", "0", "1"], [limits.path, "tanh"],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, input="few")
        assert done.returncode == 2 and done.stderr.startswith("use: "), command


@pytest.mark.parametrize("kind", roofline.THROUGHPUTS + roofline.LATENCIES)
def test_every_limit_is_measured(tmp_path_factory, kind):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("limits")
    program = programs.compiled("limits.c", ["-O1"], folder / "limits")
    run, units = contenders.limit_c(program.path, kind, count=10_000, threads=2)
    assert run()["seconds"] > 0 and units == 20_000


def test_the_rational_tanh_is_tanh(tmp_path):
    """The first of a chain, which begins with 0.75."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    program = programs.compiled("limits.c", ["-O1"], tmp_path / "limits")
    command = [program.path, "dependent-tanh", "1", "1"]
    said = subprocess.run(command, capture_output=True, check=True).stdout
    # Half a dozen roundings of 6e-8 each.
    assert json.loads(said)["result"] == pytest.approx(np.tanh(0.75), rel=4e-7)


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
    problem = contenders.PROBLEMS["seed"]
    flags = ["-include", str(tmp_path / "fake.h"), *programs.definitions(problem)]
    program = programs.compiled("mlp.c", flags, tmp_path / "mlp")
    run, units = contenders.many_c(program.path, "seed", members=5, steps=3, threads=2)
    assert (run(), units) == ({"seconds": 7.5}, 15)


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


def test_cpu_time_is_that_of_a_unit_too(monkeypatch, clock):
    _, said = turns(monkeypatch, clock, {"cpu_seconds": 12.0}, 4, 1)
    assert said == {"seconds_per_unit": 2.0, "cpu_seconds_per_unit": 3.0}


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
