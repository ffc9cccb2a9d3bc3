"""The commands, gathered."""

from typing import Annotated

import typer

from funcgrad.cli.cache import cache_folder, keep_compiled
from funcgrad.cli.doctor import doctor
from funcgrad.cli.evaluate import evaluate
from funcgrad.cli.predict import predict
from funcgrad.cli.sample import sample
from funcgrad.cli.show import show
from funcgrad.cli.sweep import sweep
from funcgrad.cli.train import train
from funcgrad.version import __version__

app = typer.Typer(
    help="Train tiny neural nets on tables and texts, and use them.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, sweep, predict, evaluate, sample, show, doctor):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"funcgrad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Compile all anew; neither read nor keep what was compiled in "
            f"{cache_folder() or 'the cache folder'}.",
        ),
    ] = False,
) -> None:
    # The doctor is asked about what this device compiles now.
    if not no_cache and context.invoked_subcommand != "doctor":
        keep_compiled()
