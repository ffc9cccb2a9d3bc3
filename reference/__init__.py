"""The scalar engine: micrograd retold, over floats, fractions or rigorous intervals."""

from .drawing import draw
from .engine import Value
from .nn import MLP, Layer, Module, Neuron
from .numbers import Ball

__all__ = ["MLP", "Ball", "Layer", "Module", "Neuron", "Value", "draw"]
