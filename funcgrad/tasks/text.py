"""Learn to write on a text: what there is to learn, the plan, and the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from funcgrad.arguments import at_least
from funcgrad.data import text
from funcgrad.data.points import SEED
from funcgrad.data.predictor import MOST_LAYERS
from funcgrad.data.text import Vocabulary
from funcgrad.data.writer import Sizes, Writer, net
from funcgrad.errors import InputError
from funcgrad.fitting import fit, print_progress
from funcgrad.gpt import next_token
from funcgrad.history import Fit, History, Progress
from funcgrad.hosts import gathered
from funcgrad.model import Objective
from funcgrad.regularization import decay_mask
from funcgrad.splitting import split
from funcgrad.tasks.recipe import MOST_PARAMETERS, check_rate_and_steps
from funcgrad.tasks.task import check_seed
from funcgrad.tasks.training import (
    CHECKPOINTS,
    check_ends,
    ends_in_words,
    provenance,
    shared,
)

PYDOC = "pydoc"

_HELD_OUT = 0.1

# A text of more different characters is learnt by its bytes.
_MOST_CHARACTERS = 256

# What is held out is looked at about so many times a run, in so many tokens at most.
_LOOKS = 20
_MOST_WATCHED = 32_768

# Tokens of a sample.
_SAMPLE = 500

# Longer lines are cut; attention costs their square.
_LONGEST_LINE = 64


class TextRecipe(NamedTuple):
    """How to train a net on text: nanoGPT's AdamW.

    sizes: of the net.
    learning_rate: reached after a twentieth of the steps; it falls as a cosine to a
        tenth of it.
    steps: updates.
    batch_size: windows, or lines, a step.
    """

    sizes: Sizes
    learning_rate: float
    steps: int
    batch_size: int


class TextTask(NamedTuple):
    """A text to learn.

    text: all of it.
    lines: the tokens of each line that is not blank, where each is an example.
    seed: draws the first weights, the batches, and which lines are held out.
    """

    name: str
    text: str
    vocabulary: Vocabulary
    lines: tuple[np.ndarray, ...] | None
    notes: tuple[str, ...]
    recipe: TextRecipe
    seed: int

    @property
    def token(self) -> str:
        """What a token is called."""
        return self.vocabulary.kind[:-1]


class TextPlan(NamedTuple):
    """All that a run needs, before its first step.

    data: what `fit` takes: windows to draw, or rows with a `batch_size`.
    held_out: what training does not see, as rows (n, context + 1).
    watched: those of them that are looked at during the run, each `every` steps.
    baseline: of a model that knows how often each token is, on `held_out`, in nats.
    """

    task: TextTask
    recipe: TextRecipe
    untrained: Writer
    objective: Objective
    optimizer: optax.GradientTransformation
    data: Any
    batch_size: int | None
    key: jax.Array
    held_out: np.ndarray
    watched: np.ndarray
    baseline: float
    every: int
    patience: int | None
    seconds: float | None


class TrainedText(NamedTuple):
    """A run that ended.

    loss: of all that was held out, in nats a token.
    sample: what the net writes.
    """

    plan: TextPlan
    writer: Writer
    history: History
    loss: float
    sample: str
    best_step: int | None = None

    @property
    def steps(self) -> int:
        """The updates done."""
        return int(self.history.looks["step"][-1])


def is_text(what: str | os.PathLike[str]) -> bool:
    """Return whether it is `pydoc`, or is named as a text file is."""
    return what == PYDOC or Path(what).suffix.lower() in (".txt", ".text")


def load_text(
    what: str | os.PathLike[str], *, lines: bool = False, seed: int = SEED
) -> TextTask:
    """Return the task of learning to write on a text file in UTF-8, or on `pydoc`.

    `pydoc` is the reference of the language that every Python carries, in English. With
    `lines` each line is an example of its own.
    """
    check_seed(seed)
    whole = text.pydoc_text() if what == PYDOC else text.read_text(what)
    if lines and not whole.endswith("\n"):
        whole += "\n"
    vocabulary: Vocabulary = text.Characters.fit(whole)
    notes: tuple[str, ...] = ()
    if vocabulary.size > _MOST_CHARACTERS:
        notes = (
            f"of {vocabulary.size:,} different characters, so learnt by its bytes",
        )
        vocabulary = text.Bytes()
    own = TextRecipe(Sizes(context=64, width=64, layers=2, heads=4), 3e-3, 2000, 16)
    name = PYDOC if what == PYDOC else Path(what).stem
    task = TextTask(name, whole, vocabulary, None, notes, own, seed)
    if not lines:
        return task
    examples = tuple(
        vocabulary.encode(line) for line in whole.split("\n") if line.strip()
    )
    if len(examples) < 2:
        raise InputError(
            f"must be of two lines at least, as some are held out, got "
            f"{len(examples)}: leave --lines out to learn one long text",
            "lines",
        )
    longest = max(map(len, examples)) + 1
    sizes = own.sizes._replace(context=min(longest, _LONGEST_LINE))
    return task._replace(lines=examples, recipe=own._replace(sizes=sizes))


def plan_text(
    task: TextTask,
    recipe: TextRecipe | None = None,
    *,
    patience: int | None = None,
    seconds: float | None = None,
    every: int | None = None,
) -> TextPlan:
    """Return the run that trains the task's net by the recipe, or by the task's own.

    The task's seed draws the first weights, the batches, and which lines are held out.
    """
    recipe = task.recipe if recipe is None else recipe
    _check(recipe, task.vocabulary.size, patience, seconds)
    if every is not None:
        at_least(1, "every", every)
    sizes, vocabulary = recipe.sizes, task.vocabulary
    init_seed, batch_seed, split_seed = (
        jax.random.key(s) for s in np.random.SeedSequence(task.seed).generate_state(3)
    )
    data: Any
    batch_size = None
    if task.lines is not None:
        (end,) = vocabulary.encode("\n").tolist()
        rows = text.pad(task.lines, sizes.context, begin=end, end=end)
        train, held_out = split(rows, split_seed, _HELD_OUT)
        train, held_out = np.asarray(train), np.asarray(held_out)
        batch_size = min(recipe.batch_size, len(train))
        data = train
        baseline = text.unigram_loss(train[:, 1:], held_out[:, 1:], vocabulary.size)
    else:
        train, last = text.hold_out_end(vocabulary.encode(task.text), _HELD_OUT)
        data = text.windows(train, sizes.context, recipe.batch_size)
        held_out = text.windows_in_order(last, sizes.context)
        baseline = text.unigram_loss(train, last[1:], vocabulary.size)
    model = net(sizes, vocabulary.size)
    untrained = Writer(
        sizes, vocabulary, task.lines is not None, jax.jit(model.init)(init_seed)
    )
    return TextPlan(
        task,
        recipe,
        untrained,
        next_token(model),
        make_optimizer(recipe),
        data,
        batch_size,
        batch_seed,
        held_out,
        held_out[: max(1, _MOST_WATCHED // sizes.context)],
        baseline,
        every or max(1, recipe.steps // _LOOKS),
        patience,
        seconds,
    )


def make_optimizer(recipe: TextRecipe) -> optax.GradientTransformation:
    """Return nanoGPT's AdamW: warm-up, cosine, clipping, decay of matrices alone."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, recipe.learning_rate, max(1, recipe.steps // 20), max(2, recipe.steps),
        recipe.learning_rate / 10,
    )  # fmt: skip
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.99, weight_decay=0.1, mask=decay_mask),
    )


def train_text(
    plan: TextPlan,
    *,
    progress: Callable[[Progress], None] | None = print_progress,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    is_shared: bool = False,
) -> TrainedText:
    """Do the steps of the plan; raise InputError where the loss is no longer a number.

    With a `folder` the run keeps checkpoints in `folder`/checkpoints, and goes on from
    them with `resume`, as `fit` does; for `is_shared` see `tasks.train`. A
    `KeyboardInterrupt`, as of Ctrl-C, has the run as far as it came as `.trained`, if a
    step was done by then.
    """
    rate = plan.recipe.learning_rate
    with ends_in_words(rate, lambda run: _trained(plan, run)):
        run = fit(
            plan.objective,
            plan.optimizer,
            plan.untrained.params,
            shared(plan.data) if is_shared else plan.data,
            steps=plan.recipe.steps,
            batch_size=plan.batch_size,
            key=plan.key,
            every=plan.every,
            validation=plan.watched,
            patience=plan.patience,
            seconds=plan.seconds,
            folder=None if folder is None else Path(folder, CHECKPOINTS),
            resume=resume,
            progress=progress,
        )
    best_step = None if plan.patience is None else int(run.state.step)
    return _trained(plan, run)._replace(best_step=best_step)


def _sample_of(writer: Writer) -> str:
    """Return what a net writes of itself: a piece of text, or some lines."""
    if not writer.is_lines:
        return writer.write(length=_SAMPLE) + "\n"
    length = writer.sizes.context
    return "".join(f"{writer.write(length=length, seed=s)}\n" for s in range(20))


def _trained(plan: TextPlan, run: Fit) -> TrainedText:
    run = run._replace(state=gathered(run.state))
    writer = plan.untrained._replace(
        params=run.state.params,
        provenance=provenance(int(run.state.step), plan.task.seed),
    )
    return TrainedText(
        plan, writer, run.history, writer.loss(plan.held_out), _sample_of(writer)
    )


def _check(
    recipe: TextRecipe, vocab: int, patience: int | None, seconds: float | None
) -> None:
    """Raise unless a net can be trained by the recipe, and end by the rest."""
    for name, n in (*recipe.sizes._asdict().items(), ("batch_size", recipe.batch_size)):
        if n < 1:
            raise InputError(f"must be at least 1, got {n}", name)
    if recipe.sizes.width % recipe.sizes.heads:
        raise InputError(
            f"must divide the width, as each head gets an equal part of it, got "
            f"{recipe.sizes.heads} and a width of {recipe.sizes.width}",
            "heads",
        )
    if recipe.sizes.layers > MOST_LAYERS:
        raise InputError(
            f"must be at most {MOST_LAYERS:,}, got {recipe.sizes.layers:,}", "layers"
        )
    if recipe.sizes.parameters(vocab) > MOST_PARAMETERS:
        raise InputError(
            f"must make a net of at most {MOST_PARAMETERS:,} parameters, got "
            f"{recipe.sizes.parameters(vocab):,}",
            "width",
        )
    check_rate_and_steps(recipe.learning_rate, recipe.steps)
    check_ends(patience, seconds)
