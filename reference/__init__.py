"""The scalar engine: micrograd retold, over floats, fractions or rigorous intervals."""

from .drawing import draw
from .engine import Value
from .gpt import GPT
from .nn import MLP, Layer, Module, Neuron
from .numbers import Ball

__all__ = ["GPT", "MLP", "Ball", "Layer", "Module", "Neuron", "Value", "draw"]
