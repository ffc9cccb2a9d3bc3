"""The scalar engine: micrograd retold, over floats, fractions or rigorous intervals."""

from reference.drawing import draw
from reference.engine import Value
from reference.nn import MLP, Layer, Module, Neuron
from reference.numbers import Ball

__all__ = ["MLP", "Ball", "Layer", "Module", "Neuron", "Value", "draw"]
