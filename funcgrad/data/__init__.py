"""Data for nets: points drawn on the spot, tables, text, and nets that predict."""

from funcgrad.data.columns import Category, Column, Number
from funcgrad.data.points import SEED, moons, spirals, xor
from funcgrad.data.predictor import Predictions, Predictor
from funcgrad.data.scores import Accuracy, RSquared, Score
from funcgrad.data.table import read_table
from funcgrad.data.text import (
    Bytes,
    Characters,
    hold_out_end,
    pad,
    pydoc_text,
    read_text,
    unigram_loss,
    windows,
    windows_in_order,
)
from funcgrad.data.writer import Writer

__all__ = [
    "SEED",
    "Accuracy",
    "Bytes",
    "Category",
    "Characters",
    "Column",
    "Number",
    "Predictions",
    "Predictor",
    "RSquared",
    "Score",
    "Writer",
    "hold_out_end",
    "moons",
    "pad",
    "pydoc_text",
    "read_table",
    "read_text",
    "spirals",
    "unigram_loss",
    "windows",
    "windows_in_order",
    "xor",
]
