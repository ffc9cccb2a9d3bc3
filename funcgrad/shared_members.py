"""Members that several processes train, each its part, of a run that all agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from funcgrad.devices import in_words, over_processes, own_devices, own_part
from funcgrad.fast.groups import all_at_once, map_members
from funcgrad.hosts import agree, lost_in_words, together
from funcgrad.member import MemberRun, Members
from funcgrad.model import Params
from funcgrad.run_identity import numbers_digest, program_digest, structure_of


def train_own_part(
    mesh: Mesh,
    prepare: Callable[[], Members],
    progress: Callable[[int, int], None] | None,
) -> tuple[Any, Any]:
    """Train this process's part; return on each process what `map_members` does of all.

    Raise an `InputError` on all processes where one of them cannot `prepare` its
    members, or has others.
    """
    with together():
        members = prepare()
    _agree(mesh, members)
    count = len(members.own[0])
    result = map_members(
        members.run, own_part(mesh, members.own, count), members.shared, members.work,
        None if jax.process_index() else progress, own_devices(mesh), count,
    )  # fmt: skip
    with lost_in_words():
        return jax.tree.map(lambda leaf: over_processes(leaf)[:count], result)


def _agree(mesh: Mesh, members: Members) -> None:
    """Raise on all processes unless they have the same members."""
    run, (_, hyper, own_data), (key, data) = members.run, members.own, members.shared
    is_own = own_data is not None
    given = {
        "hyperparams": hyper, "data": own_data if is_own else data, "key": key
    }  # fmt: skip
    agree(
        {
            **{name: structure_of(tree) for name, tree in given.items()},
            "steps": str(run.steps),
            "batch_size": str(run.batch_size),
            "every": str(run.every),
            "own_data": str(is_own),
            "mesh": in_words(mesh),
        }
    )
    own = jax.tree.map(_without_members, members.own)
    params = members.params
    score = "None" if run.score is None else program_digest(run.score, params)
    agree(
        {
            **{name: numbers_digest(tree) for name, tree in given.items()},
            "init": program_digest(run.init, key),
            "optimizer": program_digest(partial(_first_update, run), own[1], params),
            "objective": program_digest(
                jax.value_and_grad(run.objective), params, members.batch
            ),
            "score": score,
            # What these leave out, such as how data is drawn.
            "run of a member": program_digest(
                partial(all_at_once, run), own, members.shared
            ),
        }
    )


def _without_members(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)


def _first_update(run: MemberRun, hyper: Mapping[str, Any], params: Params) -> Any:
    """Return what a member's optimizer makes of its parameters, taken as gradients."""
    optimizer = run.optimizer(hyper)
    state = optimizer.init(params)
    return state, optimizer.update(params, state, params)
