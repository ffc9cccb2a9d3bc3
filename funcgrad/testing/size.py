"""How much work a check will be, told before it starts."""
from __future__ import annotations
from typing import Any
def refuse_if_too_large(primal: Any, gradient: Any, seconds: float) -> None: ...
