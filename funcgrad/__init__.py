"""Tiny neural nets as pure JAX functions, trained whole runs at a time."""

from funcgrad.batches import Drawn
from funcgrad.checkpoint import load, load_metadata, save
from funcgrad.devices import data_mesh, replicate, rows, shard
from funcgrad.ensemble import (
    Sweep,
    best,
    committee,
    select,
    sweep,
    top,
    train_many,
)
from funcgrad.fitting import fit, print_progress
from funcgrad.gpt import (
    Block,
    Gpt,
    GptParams,
    attention,
    block,
    gpt,
    layer_norm,
    next_token,
    rms_norm,
)
from funcgrad.history import Fit, History, Progress
from funcgrad.losses import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    l2,
    mean_squared_error,
    squared_error,
)
from funcgrad.member import member_keys
from funcgrad.mlp import Layer, layer, linear, mlp, neuron, uniform
from funcgrad.model import Model, cast, objective
from funcgrad.regularization import decay_mask, dropout
from funcgrad.sampling import sample
from funcgrad.splitting import class_weights, split
from funcgrad.training import State, init_state, make_step, train
from funcgrad.version import __version__
from funcgrad.watching import DivergedError, watch

__all__ = [
    "Block",
    "DivergedError",
    "Drawn",
    "Fit",
    "Gpt",
    "GptParams",
    "History",
    "Layer",
    "Model",
    "Progress",
    "State",
    "Sweep",
    "__version__",
    "attention",
    "best",
    "binary_cross_entropy",
    "block",
    "cast",
    "class_weights",
    "committee",
    "cross_entropy",
    "data_mesh",
    "decay_mask",
    "dropout",
    "fit",
    "gpt",
    "hinge",
    "init_state",
    "l2",
    "layer",
    "layer_norm",
    "linear",
    "load",
    "load_metadata",
    "make_step",
    "mean_squared_error",
    "member_keys",
    "mlp",
    "neuron",
    "next_token",
    "objective",
    "print_progress",
    "replicate",
    "rms_norm",
    "rows",
    "sample",
    "save",
    "select",
    "shard",
    "split",
    "squared_error",
    "sweep",
    "top",
    "train",
    "train_many",
    "uniform",
    "watch",
]
