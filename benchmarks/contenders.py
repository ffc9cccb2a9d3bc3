"""Everybody who runs, each in a process of its own that waits for its turn.

A contender is a function that sets itself up and returns `(run, units)`: `run()` does
`units` units of work (steps, net-steps, rows) and returns when they are done. It may
return figures of its own, a dict; "seconds" among them replace what the clock says.

Called as a program, `python contenders.py NAME '{"argument": value}'` answers in lines
of JSON: once `{"versions": {...}}` when it is ready, and `{"seconds_per_unit": ...}`
with other figures for each line that it is given. `{"absent": "needs ..."}` or
`{"failed": "..."}` is its last line. A peer needs no more than its own library, so that
each may run under another interpreter.
"""

import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from typing import NamedTuple

SEED_X = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
SEED_Y = [[1.0], [-1.0], [-1.0], [1.0]]
SEED_SIZES = (3, 4, 4, 1)
WIDE = (784, 512, 512, 10)
RATE = 0.05


class Problem(NamedTuple):
    """What is trained: tanh on all layers, or by hinge relu on the hidden ones."""

    sizes: tuple[int, ...]
    rows: int
    loss: str
    optimizer: str
    rate: float
    batch: int | None = None  # None: all rows


PROBLEMS = {
    "seed": Problem(SEED_SIZES, 4, "squared_error", "sgd", RATE),
    "seed, Adam": Problem(SEED_SIZES, 4, "squared_error", "adam", 0.01),
    "moons": Problem((2, 16, 16, 1), 100, "hinge", "sgd", 0.1),
    "moons, batches": Problem((2, 16, 16, 1), 10_000, "hinge", "sgd", 0.1, batch=32),
    "moons, a batch": Problem((2, 16, 16, 1), 32, "hinge", "sgd", 0.1),
    "small": Problem((16, 64, 64, 1), 32, "mean_squared_error", "sgd", 1e-3),
}

# What funcgrad's extras bring, as modules; and the packages that are named otherwise.
EXTRAS = {
    "cli": ("flint", "matplotlib", "polars", "rich", "typer"),
    "bench": ("equinox", "flax", "matplotlib", "micrograd", "sklearn", "torch"),
}
PACKAGES = {"flint": "python-flint", "sklearn": "scikit-learn"}
COMPARED = ("jax", "optax", "equinox", "flax", "torch", "micrograd", "sklearn")


class AbsentError(Exception):
    """Raised where modules are missing; says which, and what to install."""


def is_installed(module):
    return importlib.util.find_spec(module) is not None


def needs(*modules, extra=None):
    """Say what is missing and how to install it: by `extra`, or one that has it all."""
    packages = [PACKAGES.get(module, module) for module in modules]
    having = [name for name, brings in EXTRAS.items() if {*modules} <= {*brings}]
    extras = [f'"funcgrad[{name}]"' for name in ([extra] if extra else having)]
    what = extras[0] if extras else " ".join(packages)
    return f"needs {', '.join(packages)}: pip install {what}"


def _require(*modules):
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        raise AbsentError(needs(*missing))


def trouble(error):
    """Return the answer: `absent` for what is not installed, `failed` for the rest."""
    if isinstance(error, AbsentError):
        return {"absent": str(error)}
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        if not is_installed(module):
            return {"absent": needs(module)}
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        return {"failed": lines[-1] if lines else f"exit code {error.returncode}"}
    message = f"{type(error).__name__}: {error}"
    return {"failed": message.strip().splitlines()[-1]}


def _process(*command, stdin=b""):
    """Run a process to its end; return its stdout."""
    done = subprocess.run(command, check=True, capture_output=True, input=stdin)
    return done.stdout


# One net, a step at a time: the seed's, and those a little larger.


def data_of(problem):
    """Return the inputs and targets of a problem, always the same."""
    import numpy as np

    sizes, rows = PROBLEMS[problem].sizes, PROBLEMS[problem].rows
    if sizes == SEED_SIZES:
        return np.float32(SEED_X), np.float32(SEED_Y)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, sizes[0])).astype(np.float32)
    if PROBLEMS[problem].loss == "hinge":
        return x, np.sign(x[:, :1])
    return x, rng.normal(size=(rows, sizes[-1])).astype(np.float32)


def layers_of_c(problem):
    """Return (weights, biases) of each layer, from which the C program begins."""
    import numpy as np

    rng = np.random.default_rng(1)
    return [
        (rng.uniform(-1, 1, size=(n_in, n_out)) / n_in**0.5, rng.uniform(-1, 1, n_out))
        for n_in, n_out in itertools.pairwise(PROBLEMS[problem].sizes)
    ]


def run_c(program, problem, nets, steps, threads):
    """Return the seconds and the loss that the C program tells."""
    import numpy as np

    x, y = data_of(problem)
    arrays = [x.T, y.T, *itertools.chain(*layers_of_c(problem))]
    floats = b"".join(np.float32(array).tobytes() for array in arrays)
    command = [program, str(nets), str(steps), str(threads)]
    return json.loads(_process(*command, stdin=floats))


def step_c(program, problem, steps):
    return lambda: _seconds(run_c(program, problem, 1, steps, 1)), steps


def _seconds(answer):
    return {"seconds": answer["seconds"]}  # without its start


def jax_problem(name):
    import jax
    import optax

    import funcgrad as fg

    problem = PROBLEMS[name]
    if problem.loss == "hinge":
        relu = jax.nn.relu
        model = fg.mlp(problem.sizes, activation=relu, final_activation=fg.linear)
    else:
        model = fg.mlp(problem.sizes)
    objective = fg.objective(model, getattr(fg, problem.loss))
    optimizer = getattr(optax, problem.optimizer)(problem.rate)
    data = jax.tree.map(jax.numpy.asarray, data_of(name))
    return jax, fg, model, objective, optimizer, data


def _batches(problem, jax):
    batch = PROBLEMS[problem].batch
    return {"batch_size": batch, "key": jax.random.key(1)} if batch else {}


def step_train(problem, steps):
    jax, fg, model, objective, optimizer, data = jax_problem(problem)
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    batches = _batches(problem, jax)
    run = jax.jit(
        lambda s, d: fg.train(objective, optimizer, s, d, steps=steps, **batches)
    )
    return lambda: _ready(run(state, data)), steps


def step_fit(problem, steps):
    jax, fg, model, objective, optimizer, data = jax_problem(problem)
    params, batches = model.init(jax.random.key(0)), _batches(problem, jax)
    return lambda: _ready(
        fg.fit(
            objective, optimizer, params, data, steps=steps, progress=None, **batches
        )
    ), steps


def step_dispatched(problem, steps):
    jax, fg, model, objective, optimizer, data = jax_problem(problem)
    step = jax.jit(fg.make_step(objective, optimizer))
    return lambda: _loop(
        step, fg.init_state(model.init(jax.random.key(0)), optimizer), data, steps
    ), steps


def _loop(step, state, data, steps):
    for _ in range(steps):
        state, loss = step(state, data)
    _ready((state, loss))


def _ready(tree):
    import jax

    jax.block_until_ready(tree)


def _loss_of(problem):
    """Return the loss for arrays of JAX as for those of PyTorch."""
    return {
        "squared_error": lambda y, target: ((y - target) ** 2).sum(),
        "mean_squared_error": lambda y, target: ((y - target) ** 2).mean(),
        "hinge": lambda y, target: (1 - target * y).clip(0).mean(),
    }[PROBLEMS[problem].loss]


def _activations(problem, relu, tanh):
    """Return the activation of the hidden layers and that of the last."""
    by_hinge = PROBLEMS[problem].loss == "hinge"
    return (relu, lambda x: x) if by_hinge else (tanh, tanh)


def step_equinox(problem, steps):
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    x, y = map(jnp.asarray, data_of(problem))
    given, loss_of = PROBLEMS[problem], _loss_of(problem)
    optimizer = getattr(optax, given.optimizer)(given.rate)
    activations = _activations(problem, jax.nn.relu, jnp.tanh)
    n_in, width, _, n_out = given.sizes
    net = eqx.nn.MLP(n_in, n_out, width, 2, *activations, key=jax.random.key(0))
    step = _equinox_step(optimizer, lambda net, x, y: loss_of(jax.vmap(net)(x), y))

    def run():
        now, state = net, optimizer.init(eqx.filter(net, eqx.is_array))
        for _ in range(steps):
            now, state, loss = step(now, state, x, y)
        _ready(loss)

    return run, steps


def _equinox_step(optimizer, objective):
    import equinox as eqx

    @eqx.filter_jit
    def step(net, state, x, y):
        loss, grads = eqx.filter_value_and_grad(objective)(net, x, y)
        updates, state = optimizer.update(grads, state, eqx.filter(net, eqx.is_array))
        return eqx.apply_updates(net, updates), state, loss

    return step


def _nnx_net(sizes, activation, final):
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            pairs = itertools.pairwise(sizes)
            self.layers = nnx.List([nnx.Linear(*pair, rngs=rngs) for pair in pairs])

        def __call__(self, x):
            *hidden, last = self.layers
            for layer in hidden:
                x = activation(layer(x))
            return final(last(x))

    return Net(nnx.Rngs(0))


def _nnx_step(objective):
    from flax import nnx

    @nnx.jit
    def step(net, optimizer, x, y):
        loss, grads = nnx.value_and_grad(objective)(net, x, y)
        optimizer.update(net, grads)
        return loss

    return step


def step_nnx(problem, steps):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    x, y = map(jnp.asarray, data_of(problem))
    given, loss_of = PROBLEMS[problem], _loss_of(problem)
    net = _nnx_net(given.sizes, *_activations(problem, jax.nn.relu, jnp.tanh))
    optimizer = getattr(optax, given.optimizer)(given.rate)
    optimizer = nnx.Optimizer(net, optimizer, wrt=nnx.Param)
    step = _nnx_step(lambda net, x, y: loss_of(net(x), y))

    def run():
        for _ in range(steps):
            loss = step(net, optimizer, x, y)
        _ready(loss)

    return run, steps


def _torch_net(sizes, activation, last_too):
    import torch

    layers = []
    for pair in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(*pair), activation()]
    return torch.nn.Sequential(*(layers if last_too else layers[:-1]))


def step_torch(problem, steps, compiled=False):
    import torch

    x, y = map(torch.from_numpy, data_of(problem))
    given, loss_of = PROBLEMS[problem], _loss_of(problem)
    by_hinge = given.loss == "hinge"
    activation = torch.nn.ReLU if by_hinge else torch.nn.Tanh
    net = _torch_net(given.sizes, activation, not by_hinge)
    optimizers = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizer = optimizers[given.optimizer](net.parameters(), lr=given.rate)

    def step():
        optimizer.zero_grad()
        loss_of(net(x), y).backward()
        optimizer.step()

    if compiled:
        step = torch.compile(step)

    def run():
        for _ in range(steps):
            step()

    return run, steps


def seed_micrograd(steps):
    from micrograd.nn import MLP

    net = MLP(3, [4, 4, 1])

    def run():
        for _ in range(steps):
            answers = [net(x) for x in SEED_X]
            loss = sum((a - y[0]) ** 2 for a, y in zip(answers, SEED_Y, strict=True))
            net.zero_grad()
            loss.backward()
            for p in net.parameters():
                p.data -= 0.01 * p.grad

    return run, steps


# Thousands of them.


def many_c(program, problem, members, steps, threads):
    return lambda: _seconds(
        run_c(program, problem, members, steps, threads)
    ), members * steps


def many_train_many(members, steps):
    import numpy as np
    import optax

    jax, fg, model, objective, _, data = jax_problem("seed")
    hyper = {"learning_rate": np.full(members, RATE)}

    def run():
        fg.train_many(
            objective, optax.sgd, model.init, hyper, data, steps=steps,
            key=jax.random.key(0),
        )  # fmt: skip

    return run, members * steps


def many_vmap_plain(members, steps):
    """Vmap the step as everybody writes it: `x @ w`, SGD by hand, one scan."""
    import jax
    import jax.numpy as jnp

    x, y = jnp.array(SEED_X), jnp.array(SEED_Y)

    def loss(params):
        a = x
        for w, b in params:
            a = jnp.tanh(a @ w + b)
        return jnp.sum((a - y) ** 2)

    def step(params, _):
        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), value

    keys = jax.random.split(jax.random.key(0), 3)
    params = [
        (jax.random.normal(key, (members, *pair)), jnp.zeros((members, pair[1])))
        for key, pair in zip(keys, ((3, 4), (4, 4), (4, 1)), strict=True)
    ]
    run = jax.jit(jax.vmap(lambda p: jax.lax.scan(step, p, length=steps)))
    return lambda: _ready(run(params)), members * steps


def _torch_members(members):
    import torch

    pairs = ((3, 4), (4, 4), (4, 1))
    params = []
    for n_in, n_out in pairs:
        params += [torch.randn(members, n_in, n_out), torch.zeros(members, 1, n_out)]
    return params, torch.tensor(SEED_X), torch.tensor(SEED_Y)


def many_torch_bmm(members, steps):
    import torch

    params, x, y = _torch_members(members)
    params = [p.requires_grad_() for p in params]
    optimizer = torch.optim.SGD(params, lr=RATE)
    x = x.expand(members, 4, 3)

    def run():
        for _ in range(steps):
            a = x
            for w, b in zip(params[::2], params[1::2], strict=True):
                a = torch.tanh(torch.baddbmm(b, a, w))
            optimizer.zero_grad()
            ((a - y) ** 2).sum().backward()
            optimizer.step()

    return run, members * steps


def many_torch_func(members, steps):
    import torch

    params, x, y = _torch_members(members)

    def loss(params):
        a = x
        for w, b in zip(params[::2], params[1::2], strict=True):
            a = torch.tanh(a @ w + b)
        return ((a - y) ** 2).sum()

    grads_of = torch.func.vmap(torch.func.grad(loss))

    def run():
        now = params
        for _ in range(steps):
            grads = grads_of(now)
            now = [p - RATE * g for p, g in zip(now, grads, strict=True)]

    return run, members * steps


# Moons: micrograd's demo, 100 rows, [2, 16, 16, 1], 100 steps on all rows.


def moons_process(steps):
    """Run the whole process, from nothing to a trained model on disk."""
    import tempfile

    _require("typer", "rich", "matplotlib", "polars", "flint")

    def run():
        with tempfile.TemporaryDirectory() as folder:
            code = "import sys; from funcgrad.cli import main; sys.exit(main())"
            arguments = ["train", "moons", "--hidden", "16,16", "--steps", str(steps)]
            out = ("--out", folder + "/run")
            _process(sys.executable, "-c", code, *arguments, *out)

    return run, 1


def moons_script(steps):
    """Run a process that imports, compiles and trains, and writes nothing."""
    code = (
        "import jax, optax, funcgrad as fg\n"
        "from funcgrad.data import moons\n"
        "x, y = moons()\n"
        "y = (2.0 * y - 1).reshape(-1, 1)\n"
        "model = fg.mlp([2, 16, 16, 1], activation=jax.nn.relu,\n"
        "    final_activation=fg.linear)\n"
        "fg.fit(fg.objective(model, fg.hinge), optax.sgd(0.1),\n"
        f"    model.init(jax.random.key(0)), (x, y), steps={steps}, progress=None)\n"
    )
    return lambda: _process(sys.executable, "-c", code), 1


def moons_training(steps):
    """Do the training alone, the compiled run being there."""
    run, _ = step_fit("moons", steps)
    return run, 1


def moons_sklearn(steps):
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from sklearn.datasets import make_moons\n"
        "from sklearn.neural_network import MLPClassifier\n"
        "x, y = make_moons(100, noise=0.1, random_state=0)\n"
        "MLPClassifier((16, 16), solver='sgd', batch_size=100, momentum=0,\n"
        f"    max_iter={steps}, tol=0, n_iter_no_change=10**9).fit(x, y)\n"
    )
    import sklearn  # noqa: F401  so that its absence and its version are known here

    return lambda: _process(sys.executable, "-c", code), 1


def moons_micrograd(steps, of):
    """Do `steps` of the demo's `of` steps; the time is scaled to all of them."""
    import random

    from micrograd.nn import MLP

    random.seed(0)
    rows = [[random.gauss(0, 1), random.gauss(0, 1)] for _ in range(100)]
    signs = [1.0 if x[0] > 0 else -1.0 for x in rows]
    net = MLP(2, [16, 16, 1])

    def run():
        for _ in range(steps):
            scores = [net(x) for x in rows]
            pairs = zip(signs, scores, strict=True)
            losses = [(1 + -y * score).relu() for y, score in pairs]
            loss = sum(losses) * (1 / len(losses))
            loss = loss + 1e-4 * sum(p * p for p in net.parameters())
            net.zero_grad()
            loss.backward()
            for p in net.parameters():
                p.data -= 0.1 * p.grad

    return run, steps / of


# A net of a real size: 784-512-512-10, Adam, one epoch in an order of its own.


def _wide_data(rows):
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, WIDE[0])).astype(np.float32)
    return x, rng.integers(0, WIDE[-1], rows)


def _wide_funcgrad():
    import jax
    import optax

    import funcgrad as fg

    model = fg.mlp(WIDE, activation=jax.nn.relu, final_activation=fg.linear)
    return jax, fg, model, fg.objective(model, fg.cross_entropy), optax.adam(1e-3)


def wide_train(rows, batch):
    jax, fg, model, objective, optimizer = _wide_funcgrad()
    data = jax.tree.map(jax.numpy.asarray, _wide_data(rows))
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    run = jax.jit(
        lambda s, d, key: fg.train(
            objective, optimizer, s, d, steps=rows // batch, batch_size=batch, key=key
        )
    )
    key = jax.random.key(1)
    return lambda: _ready(run(state, data, key)), rows // batch


def wide_fit(rows, batch):
    jax, fg, model, objective, optimizer = _wide_funcgrad()
    data = jax.tree.map(jax.numpy.asarray, _wide_data(rows))
    params, key = model.init(jax.random.key(0)), jax.random.key(1)
    return lambda: _ready(
        fg.fit(
            objective, optimizer, params, data, steps=rows // batch, batch_size=batch,
            key=key, progress=None,
        )
    ), rows // batch  # fmt: skip


def _epoch(step, x, y, batch):
    """Call `step` with each batch of a shuffled epoch, gathered by NumPy."""
    import numpy as np

    order = np.random.default_rng(1).permutation(len(x))
    for start in range(0, len(x) // batch * batch, batch):
        rows = order[start : start + batch]
        result = step(x[rows], y[rows])
    return result


def wide_equinox(rows, batch):
    import equinox as eqx
    import jax
    import optax

    x, y = _wide_data(rows)
    optimizer = optax.adam(1e-3)
    net = eqx.nn.MLP(784, 10, 512, 2, jax.nn.relu, key=jax.random.key(0))

    def objective(net, x, y):
        logits = jax.vmap(net)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    step = _equinox_step(optimizer, objective)
    now = [net, optimizer.init(eqx.filter(net, eqx.is_array))]

    def one(x, y):
        now[0], now[1], loss = step(*now, x, y)
        return loss

    return lambda: _ready(_epoch(one, x, y, batch)), rows // batch


def wide_nnx(rows, batch):
    import jax
    import optax
    from flax import nnx

    x, y = _wide_data(rows)
    net = _nnx_net(WIDE, jax.nn.relu, lambda x: x)
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)

    def objective(net, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

    step = _nnx_step(objective)
    return lambda: _ready(
        _epoch(lambda x, y: step(net, optimizer, x, y), x, y, batch)
    ), rows // batch


def wide_torch(rows, batch, fused):
    import torch

    x, y = (torch.from_numpy(a) for a in _wide_data(rows))
    net = _torch_net(WIDE, torch.nn.ReLU, False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused)
    loss_of = torch.nn.CrossEntropyLoss()

    def run():
        order = torch.randperm(rows)
        for start in range(0, rows // batch * batch, batch):
            chosen = order[start : start + batch]
            optimizer.zero_grad()
            loss_of(net(x[chosen]), y[chosen]).backward()
            optimizer.step()

    return run, rows // batch


# A GPT: windows drawn from a long text of random tokens, AdamW.

GPTS = {
    # Karpathy's nanoGPT on a CPU, and his microgpt, without biases both.
    "nano": {"vocab": 65, "context": 64, "width": 128, "layers": 4, "heads": 4},
    "micro": {"vocab": 27, "context": 16, "width": 16, "layers": 1, "heads": 4},
}
GPT_RATE = 1e-3


def _with_cpu(run):
    """Let a run tell its CPU time too, with that of the programs that it starts."""
    import resource

    def seconds():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    def timed():
        start = seconds()
        told = run() or {}
        return {**told, "cpu_seconds": seconds() - start}

    return timed


def _gpt_units(size, batch, steps):
    """Count samples where a step is short, or else steps."""
    return steps * batch if size == "micro" else steps


def _gpt_tokens(size):
    import numpy as np

    return np.random.default_rng(0).integers(0, GPTS[size]["vocab"], 1_000_000)


def gpt_funcgrad(size, batch):
    import jax
    import optax

    import funcgrad as fg
    from funcgrad.data.text import windows

    sizes = GPTS[size]
    own = {"activation": jax.nn.relu, "norm": fg.rms_norm} if size == "micro" else {}
    model = fg.gpt(**sizes, **own)
    data = windows(_gpt_tokens(size), sizes["context"], batch)
    return jax, fg, model, fg.next_token(model), optax.adamw(GPT_RATE), data


def gpt_train(size, batch, steps):
    jax, fg, model, objective, optimizer, data = gpt_funcgrad(size, batch)
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    run = jax.jit(
        lambda s, d, key: fg.train(objective, optimizer, s, d, steps=steps, key=key)
    )
    key = jax.random.key(1)
    return _with_cpu(lambda: _ready(run(state, data, key))), _gpt_units(
        size, batch, steps
    )


def gpt_fit(size, batch, steps):
    jax, fg, model, objective, optimizer, data = gpt_funcgrad(size, batch)
    params, key = model.init(jax.random.key(0)), jax.random.key(1)
    return _with_cpu(lambda: _ready(
        fg.fit(objective, optimizer, params, data, steps=steps, key=key, progress=None)
    )), _gpt_units(size, batch, steps)  # fmt: skip


def gpt_train_many(size, batch, steps, members):
    jax, fg, model, objective, _, data = gpt_funcgrad(size, batch)
    import optax

    rates = {"learning_rate": jax.numpy.geomspace(1e-4, 1e-2, members)}
    return _with_cpu(lambda: _ready(
        fg.train_many(
            objective, optax.adamw, model.init, rates, data, steps=steps,
            key=jax.random.key(1), progress=None,
        )
    )), members * _gpt_units(size, batch, steps)  # fmt: skip


def gpt_c_numbers(batch, steps):
    """Return what microgpt.c begins with, in order, and the rows that its steps see."""
    import numpy as np

    vocab, context, width, *_ = GPTS["micro"].values()
    rng = np.random.default_rng(1)
    gain = np.ones(width, np.float32)
    tokens, positions, qkv, out, up, down = (
        rng.normal(scale=0.2, size=shape).astype(np.float32)
        for shape in (
            (vocab, width), (context, width), (width, 3 * width),
            (width, width), (width, 4 * width), (4 * width, width),
        )
    )  # fmt: skip
    text = _gpt_tokens("micro").astype(np.int32)
    starts = rng.integers(0, len(text) - context, (steps, batch, 1))
    rows = text[starts + np.arange(context + 1)]
    return [tokens, positions, gain, qkv, out, gain, up, down, gain], rows


def run_gpt_c(program, arrays, rows, nets, threads):
    """Return the seconds and the loss that microgpt.c tells."""
    numbers = b"".join(array.tobytes() for array in (*arrays, rows))
    command = [program, str(nets), str(len(rows)), str(threads)]
    return json.loads(_process(*command, stdin=numbers))


def gpt_c(program, size, batch, steps, members=1, threads=1):
    """Train on rows that are drawn beforehand."""
    given = gpt_c_numbers(batch, steps)
    return _with_cpu(
        lambda: _seconds(run_gpt_c(program, *given, members, threads))
    ), members * _gpt_units(size, batch, steps)


def gpt_sample(size, rows, length):
    jax, fg, model, *_ = gpt_funcgrad(size, 1)
    params, prompt = model.init(jax.random.key(0)), jax.numpy.zeros((rows, 1), int)
    return lambda: _ready(
        fg.sample(model, params, jax.random.key(1), prompt=prompt, length=length)
    ), rows * length


def _torch_gpt(vocab, context, width, layers, heads):
    """Return nanoGPT's net with bias=False, as a function of tokens, and its module."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm = nn.LayerNorm(width, bias=False)
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.feed_norm = nn.LayerNorm(width, bias=False)
            self.up = nn.Linear(width, 4 * width, bias=False)
            self.down = nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            batch, length, _ = x.shape
            q, k, v = (
                part.view(batch, length, heads, width // heads).transpose(1, 2)
                for part in self.qkv(self.attention_norm(x)).split(width, dim=2)
            )
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
            return x + self.down(functional.gelu(self.up(self.feed_norm(x))))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(vocab, width)
            self.positions = nn.Embedding(context, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width, bias=False)
            for parameter in self.parameters():
                if parameter.ndim == 2:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.norm(x) @ self.tokens.weight.T

    return Gpt()


def gpt_torch(size, batch, steps, compiled=False):
    import torch
    from torch.nn import functional

    sizes = GPTS[size]
    net = _torch_gpt(**sizes)
    tokens = torch.from_numpy(_gpt_tokens(size))
    optimizer = torch.optim.AdamW(net.parameters(), lr=GPT_RATE, fused=True)
    forward = torch.compile(net) if compiled else net
    window = torch.arange(sizes["context"] + 1)

    def run():
        for _ in range(steps):
            starts = torch.randint(len(tokens) - sizes["context"], (batch, 1))
            rows = tokens[starts + window]
            logits = forward(rows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return _with_cpu(run), _gpt_units(size, batch, steps)


# What the machine can do.


# Several devices, and as many cores; JAX is told of them before it is there.


def _use(devices, cores):
    os.environ["JAX_NUM_CPU_DEVICES"] = str(devices)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def devices_fit(devices, cores, batch, steps, by_row=False):
    _use(devices, cores)
    jax, fg, model, objective, optimizer = _wide_funcgrad()
    mesh = fg.data_mesh(devices)
    data = fg.rows(mesh, _wide_data(8 * batch))
    params, key = model.init(jax.random.key(0)), jax.random.key(1)
    return lambda: _ready(
        fg.fit(
            objective, optimizer, params, data, steps=steps, batch_size=batch, key=key,
            progress=None,
        ).state
    ), steps * (batch if by_row else 1)  # fmt: skip


def devices_train_many(devices, cores, members, steps):
    _use(devices, cores)
    return many_train_many(members, steps)


def limit_c(program, what, count, threads):
    """Do `count` of `what`, as limits.c knows it, on each thread."""
    command = [program, what, str(count), str(threads)]
    return lambda: _seconds(json.loads(_process(*command))), count * threads


def peak_jax(size):
    """Multiply matrices at the machine's peak; a unit is a multiply-add."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((size, size))
    run = jax.jit(lambda a: a @ a)
    return lambda: _ready(run(a)), size**3


def peak_torch(size):
    import torch

    a = torch.ones(size, size)
    return lambda: a @ a, size**3


# Growth: time against work, compile time and memory against steps.


def growth(sizes, batch, members, steps):
    """Step a net of these sizes; with `members`, so many of them together."""
    import jax
    import numpy as np
    import optax

    import funcgrad as fg

    model = fg.mlp(sizes)
    objective = fg.objective(model, fg.mean_squared_error)
    rng = np.random.default_rng(0)
    data = tuple(
        rng.normal(size=(batch, n)).astype(np.float32) for n in (sizes[0], sizes[-1])
    )
    if members > 1:
        hyper = {"learning_rate": np.full(members, 1e-3)}

        def run():
            fg.train_many(
                objective, optax.sgd, model.init, hyper, data, steps=steps,
                key=jax.random.key(0),
            )  # fmt: skip

        return run, steps
    optimizer = optax.sgd(1e-3)
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    run = jax.jit(lambda s, d: fg.train(objective, optimizer, s, d, steps=steps))
    return lambda: _ready(run(state, data)), steps


def compiling(steps, how):
    """Seconds to compile, and bytes that the process had at most after a run."""
    import resource

    jax, fg, model, objective, optimizer, data = jax_problem("seed")
    state = fg.init_state(model.init(jax.random.key(0)), optimizer)
    start = time.perf_counter()
    if how == "train":
        run = jax.jit(lambda s, d: fg.train(objective, optimizer, s, d, steps=steps))
        compiled = run.lower(state, data).compile()
        seconds = time.perf_counter() - start
        _ready(compiled(state, data))
    else:
        fg.fit(objective, optimizer, state.params, data, steps=1, progress=None)
        seconds = time.perf_counter() - start
        fg.fit(objective, optimizer, state.params, data, steps=steps, progress=None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024  # Linux counts in kilobytes
    return lambda: {"seconds": seconds, "peak_memory": peak}, 1


def _versions():
    loaded = [module for module in COMPARED if module in sys.modules]
    packages = [PACKAGES.get(module, module) for module in loaded]
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def _turn(run, units):
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    figures = dict(result) if isinstance(result, dict) else {}
    if "cpu_seconds" in figures:
        figures["cpu_seconds_per_unit"] = figures.pop("cpu_seconds") / units
    return {"seconds_per_unit": figures.pop("seconds", seconds) / units, **figures}


def main(say):
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    try:
        run, units = globals()[name](**arguments)
        run()  # compiles, fills caches
        say({"versions": _versions()})
        for _ in sys.stdin:
            say(_turn(run, units))
    except Exception as error:
        traceback.print_exc()
        say(trouble(error))


if __name__ == "__main__":
    # What libraries print goes to stderr; the answers have stdout to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(lambda answer: print(json.dumps(answer), file=answers, flush=True))
