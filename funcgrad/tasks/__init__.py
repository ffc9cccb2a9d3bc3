"""What `funcgrad train` and `funcgrad sweep` do, from Python.

>>> from funcgrad import tasks
>>> task = tasks.load("xor")
>>> plan = tasks.plan(task, task.recipe._replace(steps=10))
>>> trained = tasks.train(plan, progress=None)
>>> trained.predictor.predict([[0.0, 1.0], [1.0, 1.0]]).values.shape
(2,)

`tasks.write(folder, trained)` then writes the model, its history and pictures, in place
of another run there; `tasks.new_folder("runs/xor")` names a folder that is not there.
"""

from funcgrad.tasks.folder import (
    check_folder,
    last_folder,
    new_folder,
    write,
    write_sweep,
)
from funcgrad.tasks.recipe import Recipe
from funcgrad.tasks.sweeping import Range, Swept, sweep
from funcgrad.tasks.task import Task, load, set_aside
from funcgrad.tasks.text import (
    TextPlan,
    TextRecipe,
    TextTask,
    TrainedText,
    is_text,
    load_text,
    plan_text,
    train_text,
)
from funcgrad.tasks.training import CHECKPOINTS, Plan, Trained, plan, train

__all__ = [
    "CHECKPOINTS",
    "Plan",
    "Range",
    "Recipe",
    "Swept",
    "Task",
    "TextPlan",
    "TextRecipe",
    "TextTask",
    "Trained",
    "TrainedText",
    "check_folder",
    "is_text",
    "last_folder",
    "load",
    "load_text",
    "new_folder",
    "plan",
    "plan_text",
    "set_aside",
    "sweep",
    "train",
    "train_text",
    "write",
    "write_sweep",
]
