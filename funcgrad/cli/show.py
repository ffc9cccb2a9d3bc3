"""`funcgrad show`."""

from funcgrad.cli.options import Model
from funcgrad.cli.terminal import say
from funcgrad.data import Predictor


def show(model: Model) -> None:
    """Tell what a trained net is: its layers, its columns, and how it was made."""
    say(*Predictor.load(model).describe())
