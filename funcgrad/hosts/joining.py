"""How a process becomes one of a run's, before JAX is used."""

from __future__ import annotations

import atexit
import logging
import platform
from collections import Counter
from typing import Any

import jax
import jaxlib
import optax

from funcgrad.arguments import whole_number
from funcgrad.errors import InputError
from funcgrad.hosts.agreement import agree, exchange
from funcgrad.hosts.ending import at_exit, watch_over
from funcgrad.hosts.roll_call import call_among, call_the_roll, first_difference
from funcgrad.version import __version__

# JAX's settings that change numbers, or what is compiled.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
)

# All are there, and one of them is asked for a name.
_SECONDS_AMONG = 10.0


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

    Without arguments JAX looks for them in what Slurm, MPI or Kubernetes have set, and
    the others find process 0 by the name of its host once more, at a port of its own.
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
        watch_over(call_the_roll(str(coordinator), count, number, _facts(), seconds))
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
    atexit.register(at_exit)
    _check_devices()
    if coordinator is None:
        _watch_over_the_cluster()
    agree(_facts())


def _watch_over_the_cluster() -> None:
    """Call the roll after all, of processes that JAX has brought together."""
    try:
        roll = call_among(
            jax.process_count(), jax.process_index(), exchange, _SECONDS_AMONG
        )
    except InputError as error:
        logging.getLogger(__name__).warning(
            "a process that is killed will be found after the heartbeat alone: %s",
            error,
        )
    else:
        watch_over(roll)


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
