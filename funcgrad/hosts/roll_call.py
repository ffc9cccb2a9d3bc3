"""The processes of a run find each other before JAX starts, and wait for each other.

JAX ends a process without a word, or kills a run that is well, where the port of its
coordinator is taken, too few come, or two say that they are the same. So all call at
that port first, over plain TCP, and tell who they are. They say a line of JSON each and
hear one, `{}` where all is well; no data of a run goes this way.

The connections stay, to wait for each other with an end to it, `meet`, and to see at
once that a process is gone. For these alone the roll is called later, `call_among`,
where a cluster has told JAX who is there.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from funcgrad.errors import InputError

_SECONDS_BETWEEN_CALLS = 0.2
# For a line that has begun; who only knocks, as scanners of ports do, says none.
_SECONDS_FOR_A_LINE = 5.0
_LONGEST_LINE = 65_536


class LostError(RuntimeError):
    """Raised where another process of the run is gone, or does not come in time."""


@dataclass
class Line:
    """A connection to another process, over which lines of JSON go."""

    socket: socket.socket
    unread: bytes = b""

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message; one that cannot be sent is missed by the other end."""
        with suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, end: float) -> dict[str, Any] | None:
        """Return the next message, None if none has come when the clock shows `end`."""
        try:
            while b"\n" not in self.unread:
                self.socket.settimeout(max(end - time.monotonic(), 1e-3))
                more = self.socket.recv(4096)
                # What is no JSON is not of ours, such as JAX's own service.
                is_ours = (self.unread + more).startswith(b"{")
                if not is_ours or len(self.unread) > _LONGEST_LINE:
                    return None
                self.unread += more
                if not more:
                    return None
            line, _, self.unread = self.unread.partition(b"\n")
            message = json.loads(line)
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def is_cut(self) -> bool:
        """Return whether the other end is gone, and has said nothing before it went.

        Another thread may ask, while this one listens.
        """
        with self.socket.dup() as peeking:  # has a timeout of its own
            peeking.settimeout(0.0)
            try:
                return not peeking.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            except OSError:
                return True


@dataclass(frozen=True)
class Roll:
    """The processes that are there: lines to them of process 0, else the one to it."""

    process: int
    lines: dict[int, Line]

    def gone(self) -> list[int]:
        """Return those to which the line is cut, as it is when a process ends."""
        return [process for process, line in self.lines.items() if line.is_cut()]

    def say_goodbye(self) -> None:
        """Tell the others that this process ends, and is not lost."""
        for line in self.lines.values():
            line.say({"where": "the end"})

    def meet(self, where: str, seconds: float) -> None:
        """Return on all processes once all are here, in the words of `where`.

        `LostError` names those that are not within so many seconds.
        """
        end = time.monotonic() + seconds
        if self.process:
            self.lines[0].say({"where": where})
            # Process 0 may have begun to wait later, and is to be the one that tells.
            heard = self.lines[0].hear(end + seconds)
            if heard is None:
                heard = {"lost": _absent([0], where, seconds)}
        else:
            came = {
                process: line.hear(end) == {"where": where}
                for process, line in self.lines.items()
            }
            away = [process for process, is_here in came.items() if not is_here]
            heard = {"lost": _absent(away, where, seconds)} if away else {}
            for line in self.lines.values():
                line.say(heard)
        if "lost" in heard:
            raise LostError(heard["lost"])


def call_the_roll(
    coordinator: str,
    processes: int,
    process: int,
    facts: Mapping[str, str],
    seconds: float,
) -> Roll:
    """Return once all processes are there and tell the same `facts`.

    `coordinator` is HOST:PORT, at which process 0 listens, and where JAX's service will
    listen after it. An `InputError` says, to all that came, what cannot be.
    """
    host, port = _host_and_port(coordinator)
    end = time.monotonic() + seconds
    if process:
        line = _reached(coordinator, host, port, end, seconds)
        line.say({"process": process, "processes": processes, "facts": dict(facts)})
        heard = line.hear(end + _SECONDS_FOR_A_LINE)
        if heard != {}:
            line.socket.close()
        if heard is None:
            raise InputError(
                f"must be the address of a run that begins, got {coordinator}, where "
                f"something else answered, or a run that has begun: wait until that "
                f"has ended, or choose another port",
                "coordinator",
            )
        if heard:  # process 0 has found what cannot be
            raise InputError(heard["sentence"], heard["argument"])
        return Roll(process, {0: line})
    callers: list[tuple[int, Line]] = []
    with _listening(coordinator, port) as server:
        try:
            _answer(server, callers, processes, facts, end, seconds)
        except InputError as error:
            wrong = {"sentence": error.sentence, "argument": error.argument}
            for _, line in callers:
                line.say(wrong)
                line.socket.close()
            raise
    for _, line in callers:
        line.say({})
    return Roll(0, dict(callers))


def call_among(
    processes: int,
    process: int,
    exchange: Callable[[str], list[str]],
    seconds: float,
) -> Roll:
    """Return the roll of processes that can tell each other texts, by `exchange`.

    Process 0 listens at a free port of its host. All raise an `InputError` where one of
    them does not reach it by the host's name.
    """
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    place = exchange(f"{socket.gethostname()}:{port}")[0]
    said = ""
    try:
        roll = call_the_roll(place, processes, process, {}, seconds)
    except InputError as error:
        roll, said = Roll(process, {}), str(error)
    if told := [text for text in exchange(said) if text]:
        for line in roll.lines.values():
            line.socket.close()
        raise InputError(told[0])
    return roll


def first_difference(facts: Mapping[int, Mapping[str, str]]) -> str | None:
    """Return in words where a process differs from process 0, None if none does."""
    own = facts[0]
    for name in {name: None for told in facts.values() for name in told}:
        differ = [p for p, told in facts.items() if told.get(name) != own.get(name)]
        if differ:
            more = f", and {len(differ) - 1} more differ" if len(differ) > 1 else ""
            return (
                f"all processes must have the same {name}, got {own.get(name)} of "
                f"process 0 and {facts[differ[0]].get(name)} of process {differ[0]}"
                f"{more}: start all from the same program, data and versions"
            )
    return None


def _answer(
    server: socket.socket,
    callers: list[tuple[int, Line]],
    processes: int,
    facts: Mapping[str, str],
    end: float,
    seconds: float,
) -> None:
    """Let the others call, who fill `callers`; raise where they do not agree."""
    told: dict[int, Mapping[str, str]] = {0: facts}
    while len(told) < processes:
        server.settimeout(max(end - time.monotonic(), 1e-3))
        try:
            line = Line(server.accept()[0])
        except TimeoutError as error:
            away = [p for p in range(processes) if p not in told]
            raise InputError(
                f"must be as many as are started, got {processes}, of which "
                f"{_named(away)} did not come within {seconds:g} s: start each of "
                f"them, with the same coordinator",
                "processes",
            ) from error
        hello = line.hear(time.monotonic() + _SECONDS_FOR_A_LINE) or {}
        process = hello.get("process")
        if not isinstance(process, int) or not isinstance(hello.get("facts"), dict):
            line.socket.close()
            continue
        callers.append((process, line))
        if hello.get("processes") != processes:
            raise InputError(
                f"must be the same on all, got {processes} of process 0 and "
                f"{hello.get('processes')} of process {process}: start all with the "
                f"same count",
                "processes",
            )
        if process in told:
            raise InputError(
                f"must be another number for each of the {processes}, got {process} "
                f"twice: start them as 0 to {processes - 1}",
                "process",
            )
        told[process] = hello["facts"]
        if difference := first_difference(told):
            raise InputError(difference)


def _reached(
    coordinator: str, host: str, port: int, end: float, seconds: float
) -> Line:
    """Return a line to process 0, which may be started later than this one."""
    while True:
        left = end - time.monotonic()
        try:
            return Line(socket.create_connection((host, port), max(left, 1e-3)))
        except OSError as error:
            if left < _SECONDS_BETWEEN_CALLS:
                raise InputError(
                    f"must be the address of process 0, got {coordinator}, where "
                    f"nobody answered within {seconds:g} s "
                    f"({error.strerror or error}): start process 0 there, or mend the "
                    f"address",
                    "coordinator",
                ) from error
        time.sleep(_SECONDS_BETWEEN_CALLS)


def _listening(coordinator: str, port: int) -> socket.socket:
    """Return a server at all addresses of this host, as JAX's service will be one."""
    try:
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(
                    ("", port), family=socket.AF_INET6, dualstack_ipv6=True
                )
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
        return socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"must have a port that process 0 can listen at, got {coordinator} "
            f"({os.strerror(error.errno or 0)}): choose another port",
            "coordinator",
        ) from error


def _host_and_port(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(
            f"must be HOST:PORT, such as 10.0.0.1:4321, got {coordinator!r}",
            "coordinator",
        )
    return host.strip("[]"), int(port)  # an IPv6 address stands in brackets


def _absent(processes: list[int], where: str, seconds: float) -> str:
    return (
        f"{_named(processes)} is gone, or did not come to {where} within {seconds:g} s"
    )


def _named(processes: list[int]) -> str:
    """Return the first few in words."""
    more = f" and {len(processes) - 8} more" if len(processes) > 8 else ""
    return f"process {', '.join(map(str, processes[:8]))}{more}"
