"""What each of many members does: steps, and scores in between, cut into parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from funcgrad.fast.groups import Work
from funcgrad.model import Objective, Params
from funcgrad.training import State, init_state, make_step, run_steps


def member_keys(key: jax.Array, member: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return the two keys of a member: that of `init`, and that of `train`."""
    init_key, train_key = jax.random.split(jax.random.fold_in(key, member))
    return init_key, train_key


class Part(NamedTuple):
    """Steps of a run, with so many scores: evenly, and the last one at the end."""

    steps: int
    scores: int


@dataclass(frozen=True)
class MemberRun:
    """The run of any member, in parts; equal ones are compiled once.

    What a member has of its own is (its number, hyper-parameters, data or None), and
    `shared` what all have: (key, data or None). It carries (state, (best score, best
    parameters) or None).
    """

    objective: Objective
    make_optimizer: Callable[..., optax.GradientTransformation]
    init: Callable[[jax.Array], Params]
    steps: int
    batch_size: int | None
    score: Callable[[Params], jax.Array] | None
    every: int
    epoch: int = 1  # steps in it, if there are batches

    def begin(self, own: Any, shared: Any) -> Any:
        """Return what a member carries before its first step."""
        (number, hyper, _), (key, _) = own, shared
        init_key, _ = member_keys(key, number)
        params = self.init(init_key)
        if (scale := hyper.get("init_scale")) is not None:
            params = jax.tree.map(lambda p: (p * scale).astype(p.dtype), params)
        state = init_state(params, self.optimizer(hyper))
        if self.score is None:
            return state, None
        dtype = jax.eval_shape(self.score, state.params).dtype
        return state, (jnp.array(jnp.inf, dtype), state.params)

    def next_part(self, done: int, most: int) -> tuple[int, Part]:
        """Return how many steps the part after `done` steps has, and the part.

        A step or a round more than `most` is taken lest a single one is left: a loop of
        one turn is compiled into another program, whose results may round otherwise.
        For the same reason an epoch is cut only where it is longer than `most`.
        """
        if self.epoch < most < self.steps:
            most -= most % self.epoch
        left = self.steps - done
        if self.score is None:
            steps = left if left <= most + 1 else most
            return steps, Part(steps, 0)
        to_score = min(self.every - done % self.every, left)
        if to_score > most + 1:
            return most, Part(most, 0)
        if to_score < self.every:
            return to_score, Part(to_score, min(left, 1))
        rounds = max(1, min(left, most) // self.every)
        rounds += rounds > 1 and left // self.every == rounds + 1
        return rounds * self.every, Part(rounds * self.every, rounds)

    def go_on(
        self, carry: Any, own: Any, shared: Any, part: Part
    ) -> tuple[Any, tuple[jax.Array, jax.Array | None]]:
        """Do a part; return what is carried then, and (losses, scores or None)."""
        (number, hyper, own_data), (key, shared_data) = own, shared
        data = shared_data if own_data is None else own_data
        _, train_key = member_keys(key, number)
        step = make_step(self.objective, self.optimizer(hyper))

        def train(state: State, steps: int) -> tuple[State, jax.Array]:
            return run_steps(step, state, data, steps, self.batch_size, train_key)

        score = self.score
        if score is None or not part.scores:
            state, best = carry
            state, losses = train(state, part.steps)
            scores = None if best is None else jnp.zeros(0, best[0].dtype)
            return (state, best), (losses, scores)

        def one_round(carry: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            state, best = carry
            state, losses = train(state, part.steps // part.scores)
            now = score(state.params)
            is_better = now < best[0]
            best = jax.tree.map(
                lambda new, old: jnp.where(is_better, new, old),
                (now, state.params),
                best,
            )
            return (state, best), (losses, now)

        carry, (losses, scores) = lax.scan(one_round, carry, length=part.scores)
        return carry, (losses.reshape(-1), scores)

    def optimizer(self, hyper: Mapping[str, Any]) -> optax.GradientTransformation:
        """Return the optimizer of a member that has these hyper-parameters."""
        hyper = {name: hyper[name] for name in hyper if name != "init_scale"}
        return self.make_optimizer(**hyper)


class Members(NamedTuple):
    """A run of many members, as `map_members` takes it.

    run: what each of them does.
    own, shared: what each has of its own, with the members along the first axis, and
    what all have; see `MemberRun`.
    work: that of a member.
    params, batch: shapes of a member's parameters, and of what a step sees.
    """

    run: MemberRun
    own: tuple[jax.Array, Mapping[str, Any], Any]
    shared: tuple[jax.Array, Any]
    work: Work
    params: Params
    batch: Any
