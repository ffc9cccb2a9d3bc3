"""Several processes, of one host or of many, that train one net.

JAX moves all data between them. Here is what they must know of each other: that they
run the same program, when to stop, and who writes. Each of them runs the same lines of
Python; what one alone decides by its clock or a signal goes to all with the next chunk
of steps, so that all do the same number of them.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import platform
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import jax
import jaxlib
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from funcgrad.arguments import whole_number
from funcgrad.errors import InputError
from funcgrad.roll_call import LostError, Roll, call_the_roll, first_difference
from funcgrad.version import __version__

Item = TypeVar("Item")

# What a process ends with that another run can go on from: sysexits' EX_TEMPFAIL.
RESUME = 75

# The largest text that a process tells all others at once.
_MOST_TOLD = 8192
_LONGEST_FACT = 200

# To write a checkpoint, and for all to come to where it was written.
_SECONDS_TO_MEET = 300.0
# How soon it is seen that another process has ended, and how long JAX then has to say
# so itself: on CPU some of its threads may wait for ever.
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_FOR_JAX = 1.0
# To end together where all know that the run is over.
_SECONDS_TO_LEAVE = 3.0

# In the errors of JAX's collectives, on CPU and on GPU, where another process is gone.
_OF_COLLECTIVES = ("Gloo", "NCCL", "oordination service", "distributed service")

# JAX's settings that change numbers, or what is compiled.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
)

# What `join` has found, if it called the roll.
_rolls: list[Roll] = []
# Set once this process knows that the run is over, or that another one is lost.
_is_over = threading.Event()


class Preempted(SystemExit):
    """Raised on all processes of a run after one of them was sent SIGTERM.

    It ends a program with the exit code 75. `.fit` has what was reached, which is in
    the run's folder too, if it has one.
    """

    def __init__(self) -> None:
        super().__init__(RESUME)


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    seconds: float = 300.0,
    heartbeat: int = 20,
) -> None:
    """Make this process number `process` of so many `processes`, before JAX is used.

    coordinator: HOST:PORT, at which process 0 listens and the others find it.
    seconds: to wait for the others.
    heartbeat: seconds of silence after which a process counts as lost.

    Without arguments JAX looks for them in what Slurm, MPI or Kubernetes have set.
    Afterwards `jax.devices()` are those of all processes. An `InputError` on all of
    them says what cannot be: a port that is taken, an address where nobody is, another
    count, one number for two, other versions, settings or numbers of devices.

    A program that ends by an exception from here on ends at once, and does not wait for
    the others. They hear of it by `LostError`, or are ended within seconds, by the exit
    code 75 or, from JAX's C++, by SIGABRT.
    """
    given = (coordinator, processes, process)
    heartbeat = _at_least_1("heartbeat", heartbeat)
    options: dict[str, Any] = {"heartbeat_timeout_seconds": heartbeat}
    # SIGTERM ends a run at a step that all agree on, and all else as it always does.
    jax.config.update("jax_enable_preemption_service", False)
    if any(argument is not None for argument in given):
        names = ("coordinator", "processes", "process")
        missing = [n for n, v in zip(names, given, strict=True) if v is None]
        if missing:
            raise InputError(
                "must be given where one of coordinator, processes and process is, "
                "got none: give all three, or none to ask the cluster",
                missing[0],
            )
        count = _at_least_1("processes", processes)
        number = whole_number(process)
        if number is None or not 0 <= number < count:
            raise InputError(
                f"must be a whole number from 0 to {count - 1}, got {process!r}",
                "process",
            )
        roll = call_the_roll(str(coordinator), count, number, _facts(), seconds)
        _rolls.append(roll)
        threading.Thread(target=_end_when_lost, args=(roll,), daemon=True).start()
        options |= {
            "coordinator_address": coordinator,
            "num_processes": count,
            "process_id": number,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(initialization_timeout=int(seconds), **options)
    except ValueError as error:
        if coordinator is not None:
            raise
        raise InputError(
            f"needs Slurm, MPI or Kubernetes, got none that JAX knows ({error}): name "
            f"coordinator, processes and process",
            "cluster",
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"hosts.join must come before JAX is used, got a process in which it was "
            f"({error}): begin the program with it"
        ) from error
    # Called before JAX's own, which waits for all others to end.
    atexit.register(_at_exit)
    _check_devices()
    agree(_facts())


def _facts() -> dict[str, str]:
    """Return what must be the same on all processes before any program is."""
    return {
        "Python": platform.python_version(),
        "funcgrad": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "optax": optax.__version__,
        **{name: str(getattr(jax.config, name)) for name in _SETTINGS},
    }


def _check_devices() -> None:
    counts = Counter(device.process_index for device in jax.devices())
    kinds = {device.process_index: device.device_kind for device in jax.devices()}
    difference = first_difference(
        {
            p: {"number of local devices": str(counts[p]), "kind of device": kinds[p]}
            for p in sorted(counts)
        }
    )
    if difference:
        raise InputError(difference)


def _at_least_1(name: str, value: Any) -> int:
    number = whole_number(value)
    if number is None or number < 1:
        raise InputError(f"must be a whole number of at least 1, got {value!r}", name)
    return number


# What all tell each other ---------------------------------------------------------


def agree(facts: Mapping[str, str]) -> None:
    """Raise an `InputError` on all processes that names a fact that differs, and whose.

    Long texts are compared by their SHA-256.
    """
    short = {
        name: fact
        if len(fact) <= _LONGEST_FACT
        else sha256(fact.encode()).hexdigest()[:16]
        for name, fact in facts.items()
    }
    told = {p: json.loads(text) for p, text in enumerate(exchange(json.dumps(short)))}
    if difference := first_difference(told):
        raise InputError(difference)


def exchange(text: str) -> list[str]:
    """Return the texts that all processes tell, by their numbers, on each of them."""
    if not jax.distributed.is_initialized():
        return [text]
    # Unequal shapes would end the processes, so that all are of one.
    content = text.encode()[:_MOST_TOLD].ljust(_MOST_TOLD, b"\0")
    with lost_in_words():
        told = multihost_utils.process_allgather(np.frombuffer(content, np.uint8))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in told]


def from_first(content: bytes) -> bytes:
    """Return on all processes the `content` that process 0 has."""
    if not jax.distributed.is_initialized():
        return content
    size = int(exchange(str(len(content)))[0])
    if size == 0:
        return b""
    mine = np.frombuffer(content if is_first() else bytes(size), np.uint8)
    with lost_in_words():
        told = multihost_utils.broadcast_one_to_all(mine)
    return np.asarray(told).astype(np.uint8).tobytes()


@contextmanager
def together(where: str | None = None) -> Iterator[None]:
    """Raise on all processes where one of them raises an `InputError` in the block.

    `LostError` names who has not come to its end, in the words of `where`, within five
    minutes.
    """
    caught = None
    try:
        yield
    except InputError as error:
        caught = error
    if where is not None:
        for roll in _rolls:
            with lost_in_words():
                roll.meet(where, _SECONDS_TO_MEET)
    said = "" if caught is None else json.dumps([caught.sentence, caught.argument])
    told = exchange(said)
    if caught is not None:
        raise caught
    for process, text in enumerate(told):
        if text:
            sentence, argument = json.loads(text)
            words = sentence if argument is None else f"{argument} {sentence}"
            raise InputError(f"process {process} cannot go on: {words}")


def first_does(where: str, f: Callable[[], Item]) -> Item | None:
    """Do f() on process 0 while all others wait; they return None.

    An `InputError` of it is raised on all; for `where` see `together`.
    """
    done = None
    with together(where):
        if is_first():
            done = f()
    return done


def is_first() -> bool:
    """Return whether this is process 0, which alone prints and writes."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def gathered(tree: Any) -> Any:
    """Return the tree with each leaf that lies on several processes as a whole array.

    All processes must call it.
    """

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if leaf.is_fully_replicated:
            return np.asarray(leaf)
        with lost_in_words():
            return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)


# A run that several processes watch --------------------------------------------------


@dataclass
class Span:
    """The processes that a run lies on, and what this one has been asked.

    A chunk of steps carries what each process wishes, int32 of (devices, 2): the steps
    to do, which process 0 alone knows, and the number of a signal that has come. All
    get the maximum back, and a signal makes it a chunk of no steps.

    has_ended: whether all know that the run is over.
    """

    mesh: Mesh
    signal: int = 0
    has_ended: bool = False

    def wishes(self, n: int) -> jax.Array:
        """Return those of all processes, as an array that lies on all."""
        return _over_devices(self.mesh, [n if is_first() else 0, self.signal])

    def heed(self, told: np.ndarray) -> int:
        """Return how many steps were done; raise on all where one has got a signal."""
        steps, came = map(int, told)
        if came:
            self.has_ended = True
            raise KeyboardInterrupt if came == signal.SIGINT else Preempted
        return steps

    def decided(self, wishes: Iterable[bool]) -> list[bool]:
        """Return those of process 0, on all."""
        mine = [is_first() and wish for wish in wishes]
        with lost_in_words():
            told = np.asarray(_maximum(self.mesh)(_over_devices(self.mesh, mine)))
        return [bool(wish) for wish in told]

    def heeding_signals(self, looks: Generator[Item]) -> Generator[Item]:
        """Yield the looks, and meanwhile let SIGTERM and Ctrl-C be wishes."""

        def note(number: int, frame: Any) -> None:
            if self.signal:  # once more, as the others do not come
                raise KeyboardInterrupt
            self.signal = number

        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, note)
        try:
            yield from looks
        finally:
            looks.close()
            for number, usual in before.items():
                signal.signal(number, usual)


def span_of(tree: Any) -> Span | None:
    """Return the span of arrays that lie on several processes, None if none does."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            mesh = getattr(leaf.sharding, "mesh", None)
            if isinstance(mesh, Mesh):
                return Span(mesh)
            raise InputError(
                f"arrays on several processes must lie on a mesh, got "
                f"{type(leaf.sharding).__name__}: place them by a NamedSharding"
            )
    return None


def _over_devices(mesh: Mesh, values: list[Any]) -> jax.Array:
    """Return int32 of (devices, values): those of each process on its own devices."""
    local = np.tile(np.array(values, np.int32), (mesh.local_mesh.size, 1))
    spec = PartitionSpec(mesh.axis_names)
    return jax.make_array_from_process_local_data(
        NamedSharding(mesh, spec), local, (mesh.size, len(values))
    )


@lru_cache(maxsize=8)
def _maximum(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(
        lambda wishes: wishes.max(axis=0),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )


# The end ------------------------------------------------------------------------------


@contextmanager
def lost_in_words() -> Iterator[None]:
    """Turn what JAX says of a process that is gone into a `LostError`."""
    try:
        yield
    except LostError:
        _is_over.set()
        raise
    except jax.errors.JaxRuntimeError as error:
        if not any(word in str(error) for word in _OF_COLLECTIVES):
            raise
        _is_over.set()
        gone = [process for roll in _rolls for process in roll.gone()]
        raise LostError(_who_is_gone(gone)) from error


def _who_is_gone(gone: list[int]) -> str:
    who = f"process {gone[0]}" if len(gone) == 1 else "another process"
    return f"{who} of this run is gone"


def _end_when_lost(roll: Roll) -> None:
    """End this process where another one is gone, and JAX does not say so in time."""
    while not _is_over.wait(_SECONDS_BETWEEN_LOOKS):
        if gone := roll.gone():
            if not _is_over.wait(_SECONDS_FOR_JAX):
                logging.getLogger(__name__).critical(_who_is_gone(gone))
                _exit(RESUME)
            return


def leave(code: int) -> None:
    """End this process with this code at once, after a moment for all to do so.

    Nothing is waited for that a process which is gone could hold up.
    """
    _is_over.set()
    with suppress(LostError):
        for roll in _rolls:
            if not roll.gone():
                roll.meet("the end", _SECONDS_TO_LEAVE)
    _exit(code)


def _at_exit() -> None:
    """End now where an exception ends the program; JAX would wait for the others."""
    error = getattr(sys, "last_value", None)
    if error is not None:
        _exit(RESUME if isinstance(error, LostError) else 1)
    _is_over.set()
    for roll in _rolls:
        roll.say_goodbye()


def _exit(code: int) -> None:
    for name in ("stdout", "stderr"):
        with suppress(OSError, AttributeError, ValueError):  # closed, or not there
            getattr(sys, name).flush()
    os._exit(code)
