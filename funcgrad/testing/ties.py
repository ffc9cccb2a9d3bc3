from typing import Any
import numpy as np
def judge(program: Any, truth: Any, exact: Any, notes: list[str]) -> list[np.ndarray]:
    return [np.full(v.shape, "", object) for v in program.variables]
