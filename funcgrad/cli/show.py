"""`funcgrad show`."""

from funcgrad.cli.options import Model
from funcgrad.cli.terminal import say
from funcgrad.data import Predictor, Writer, model_file


def show(model: Model) -> None:
    """Tell what a trained net is: its layers, its columns, and how it was made."""
    is_of_text = model_file.is_of_text(model_file.read(model))
    kind: type[Writer] | type[Predictor] = Writer if is_of_text else Predictor
    say(*kind.load(model).describe())
