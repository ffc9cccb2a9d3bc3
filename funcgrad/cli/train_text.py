"""`funcgrad train` on text."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from json import dumps
from pathlib import Path

from funcgrad import hosts, plots, tasks
from funcgrad.cli.options import folder_of
from funcgrad.cli.output import command_line, finite, written_line
from funcgrad.cli.progress import text_line
from funcgrad.cli.proof import Proof, prove
from funcgrad.cli.running import folder_for, tell_end, tell_proof, to_its_end
from funcgrad.cli.terminal import Stopped, emit, nothing_written, say, tell_nobody
from funcgrad.data.writer import net, net_line
from funcgrad.gpt import next_token
from funcgrad.history import Progress
from funcgrad.tasks import TextPlan, TrainedText

# Of a sample that follows a run.
_GLIMPSE = 60


def train_text(
    arguments: Sequence[str],
    what: str,
    lines: bool,
    *,
    sizes: Mapping[str, int | None],
    learning_rate: float | None,
    steps: int | None,
    batch_size: int | None,
    patience: int | None,
    seconds: float | None,
    seed: int,
    out: Path | None,
    overwrite: bool,
    checkpoint_every: int | None,
    resume: bool,
    is_shared: bool,
    quiet: bool,
    json: bool,
    start: float,
) -> None:
    """Do what `funcgrad train` does where WHAT is text."""
    is_first = hosts.is_first()
    tell = say if is_first and not (quiet or json) else tell_nobody
    with nothing_written():
        with hosts.together():
            task = tasks.load_text(what, lines=lines, seed=seed)
        own = task.recipe
        recipe = own._replace(
            sizes=own.sizes._replace(
                **{k: n for k, n in sizes.items() if n is not None}
            ),
            learning_rate=(
                own.learning_rate if learning_rate is None else learning_rate
            ),
            steps=own.steps if steps is None else steps,
            batch_size=own.batch_size if batch_size is None else batch_size,
        )
        with hosts.together():
            plan = tasks.plan_text(
                task, recipe, patience=patience, seconds=seconds, every=checkpoint_every
            )
        keeps = resume or checkpoint_every is not None or is_shared
        folder = folder_for(
            task.name, out, overwrite=overwrite, resume=resume, keeps=keeps
        )
        plots.start_early()
        tell(*_plan_lines(plan))
        proof = _prove(plan)
        tell_proof(proof, tell, quiet=quiet)
        is_shown = is_first and not quiet
        with text_line(recipe.steps) if is_shown else nullcontext() as show:

            def follow(now: Progress) -> None:
                if show is not None:
                    params = hosts.gathered(now.state.params)
                    writer = plan.untrained._replace(params=params)
                    show(now, lambda: writer.write(length=_GLIMPSE))

            trained, stopped = to_its_end(
                lambda: tasks.train_text(
                    plan,
                    progress=follow,
                    folder=folder if keeps else None,
                    resume=resume,
                    is_shared=is_shared,
                )
            )
    tell_end(trained, recipe.steps, tell, stopped=stopped)
    made = command_line(arguments) | dict(trained.writer.provenance)
    trained = trained._replace(writer=trained.writer._replace(provenance=made))
    if not keeps:  # chosen once more: another run may have come to have that name
        folder = folder_of(task.name, out)
    files = hosts.first_does(
        "the files of the run", lambda: tasks.write(folder, trained)
    )
    tell(*_score_lines(trained))
    tell(written_line(files or [], folder, start))
    if json and is_first:
        emit(_as_json(trained, proof, files or [], folder, start) + "\n", sys.stdout)
    if stopped:
        raise Stopped


def _plan_lines(plan: TextPlan) -> list[str]:
    """Return what is learnt, by which net, and how."""
    task, recipe = plan.task, plan.recipe
    if task.lines is not None:
        size, batch = f"{len(task.lines):,} lines", f"{plan.batch_size} lines"
    else:
        size = f"{len(task.text):,} characters"
        batch = f"{recipe.batch_size} windows of {recipe.sizes.context}"
    rate = recipe.learning_rate
    return [
        f"{task.name}: {size}, a tenth of them held out",
        *task.notes,
        net_line(recipe.sizes, task.vocabulary),
        f"training: cross entropy, adamw at {rate:g} falling to {rate / 10:g}, "
        f"{recipe.steps:,} steps of {batch}",
    ]


def _prove(plan: TextPlan) -> Proof:
    """Prove the gradient on a batch; of a net too large for a row, of a narrow one.

    That has as many layers and heads, and reads two tokens.
    """
    batch = plan.held_out[: plan.recipe.batch_size]
    proof = prove(plan.objective, plan.untrained.params, batch)
    if proof.verdict is not None:
        return proof
    sizes = plan.recipe.sizes
    narrow = sizes._replace(context=2, width=2 * sizes.heads)
    model = net(narrow, plan.task.vocabulary.size)
    found = prove(next_token(model), model.init(plan.key), batch[:1, :3])
    return found._replace(
        text=f"gradients of this net, {narrow.width} wide on two tokens: "
        f"{found.text.removeprefix('gradients: ')}"
    )


def _score_lines(trained: TrainedText) -> list[str]:
    """Return how good the net is on what was held out, and a line that it writes."""
    plan = trained.plan
    token, lines = plan.task.token, trained.sample.split("\n")
    return [
        f"held out: {trained.loss:.3f} nats, {trained.loss / math.log(2):.3f} bits a "
        f"{token} ({plan.baseline:.3f} nats by how often each {token} is)",
        *(f"| {line}" for line in filter(str.strip, lines[:12])),
    ]


def _as_json(
    trained: TrainedText, proof: Proof, files: Sequence[str], folder: Path, start: float
) -> str:
    """Return all that train says as a JSON object on one line."""
    plan, looks = trained.plan, trained.history.looks
    recipe = plan.recipe
    facts = {
        "task": plan.task.name,
        "notes": plan.task.notes,
        "characters": len(plan.task.text),
        "vocabulary": plan.task.vocabulary.size,
        "parameters": recipe.sizes.parameters(plan.task.vocabulary.size),
        "recipe": recipe._asdict() | {"sizes": recipe.sizes._asdict()},
        "seed": plan.task.seed,
        "gradients": proof._asdict(),
        "steps": trained.steps,
        "best_step": trained.best_step,
        "training_seconds": float(looks["seconds"][-1]),
        "seconds": time.perf_counter() - start,
        "nats": {"held_out": trained.loss, "unigram": plan.baseline},
        "files": files,
        "folder": str(folder),
    }
    return dumps(finite(facts), allow_nan=False)
