"""Data for nets: points drawn on the spot, tables, and nets that predict on them."""

from funcgrad.data.columns import Category, Column, Number
from funcgrad.data.points import SEED, moons, spirals, xor
from funcgrad.data.predictor import Predictions, Predictor
from funcgrad.data.scores import Accuracy, RSquared, Score
from funcgrad.data.table import read_table

__all__ = [
    "SEED",
    "Accuracy",
    "Category",
    "Column",
    "Number",
    "Predictions",
    "Predictor",
    "RSquared",
    "Score",
    "moons",
    "read_table",
    "spirals",
    "xor",
]
