"""The arguments and options that commands share, and what they mean."""

from pathlib import Path
from typing import Annotated, Any

import typer

from funcgrad import tasks
from funcgrad.data.predictor import ACTIVATIONS
from funcgrad.errors import InputError
from funcgrad.tasks import Recipe, Task
from funcgrad.tasks.recipe import OPTIMIZERS

What = Annotated[
    str, typer.Argument(metavar="WHAT", help="moons, xor, spirals, or a CSV file.")
]
Target = Annotated[
    str | None, typer.Option(help="The column of the CSV file to predict.")
]
Hidden = Annotated[
    str | None, typer.Option(help="Neurons in each hidden layer, such as 16,16.")
]
Activation = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")
]
Optimizer = Annotated[str | None, typer.Option(help=f"One of {', '.join(OPTIMIZERS)}.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Take the place of another run in --out.")
]
BatchSize = Annotated[int | None, typer.Option(help="Rows in each step's batch.")]
Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="On several hosts: where process 0 listens."
    ),
]
Processes = Annotated[
    int | None, typer.Option(metavar="N", help="On several hosts: how many there are.")
]
Process = Annotated[
    int | None, typer.Option(metavar="I", help="Which of them this is, from 0.")
]
Cluster = Annotated[
    bool,
    typer.Option("--cluster", help="On several hosts: ask Slurm, MPI or Kubernetes."),
]
Heartbeat = Annotated[
    int,
    typer.Option(
        metavar="SECONDS", help="Of silence, after which a process counts as lost."
    ),
]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model.safetensors of train.")
]


def folder_of(name: str, out: Path | None) -> Path:
    """Return the folder to write: the one wanted, or a new one of this name."""
    return tasks.new_folder(Path("runs", name)) if out is None else out


def choose(
    task: Task,
    *,
    hidden: str | None,
    activation: str | None,
    optimizer: str | None,
    steps: int | None,
    batch_size: int | None,
    learning_rate: float | None = None,
) -> Recipe:
    """Return the task's recipe with what the user wants instead."""
    wanted: dict[str, Any] = {
        "hidden": None if hidden is None else _sizes(hidden),
        "activation": activation,
        "optimizer": optimizer,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    return task.recipe._replace(**{k: v for k, v in wanted.items() if v is not None})


def _sizes(hidden: str) -> tuple[int, ...]:
    sizes = [part.strip() for part in hidden.split(",")]
    # Python refuses to read thousands of digits, and no net is that wide.
    if not all(s.isdecimal() and len(s) < 20 and int(s) > 0 for s in sizes):
        raise InputError(
            f"must be whole numbers above 0, one for each hidden layer, such as 16,16, "
            f"got {hidden!r}",
            "hidden",
        )
    return tuple(int(size) for size in sizes)
