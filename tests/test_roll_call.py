"""The roll of a run's processes, called over loopback by threads."""

import socket
import threading
import time

import pytest
from processes import free_address

from funcgrad.errors import InputError
from funcgrad.hosts.roll_call import (
    LostError,
    call_among,
    call_the_roll,
    first_difference,
)

FACTS = {"jax": "1"}


def call_all(*calls):
    """Return what each of these calls returns or raises, all at once."""
    found = [None] * len(calls)

    def call(i, arguments):
        try:
            found[i] = call_the_roll(*arguments)
        except InputError as error:
            found[i] = error

    threads = [
        threading.Thread(target=call, args=(i, arguments), daemon=True)
        for i, arguments in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def sentence(*calls):
    """Return what all of these calls are refused with."""
    found = call_all(*calls)
    assert all(isinstance(error, InputError) for error in found), found
    (said,) = {str(error) for error in found}
    return said


@pytest.fixture
def rolls():
    """Return the rolls of three processes that are there."""
    where = free_address()
    # The others may be there first.
    found = call_all(*((where, 3, process, FACTS, 10) for process in (1, 2, 0)))
    yield sorted(found, key=lambda roll: roll.process)
    for roll in found:
        for line in roll.lines.values():
            line.socket.close()


def meet(rolls, where, seconds):
    """Return what each of the processes hears that come."""
    heard = [None] * len(rolls)

    def come(i, roll):
        try:
            roll.meet(where, seconds)
            heard[i] = "all"
        except LostError as error:
            heard[i] = str(error)

    threads = [threading.Thread(target=come, args=each) for each in enumerate(rolls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return heard


def test_all_find_each_other_and_meet(rolls):
    assert [roll.process for roll in rolls] == [0, 1, 2]
    assert sorted(rolls[0].lines) == [1, 2]
    assert meet(rolls, "a checkpoint", 5) == ["all"] * 3
    assert meet(rolls, "the end", 5) == ["all"] * 3
    assert not any(roll.gone() for roll in rolls)


def test_who_does_not_come_is_named_to_all_that_do(rolls):
    expected = "process 2 is gone, or did not come to a checkpoint within 0.3 s"
    assert meet(rolls[:2], "a checkpoint", 0.3) == [expected] * 2


def test_process_0_that_does_not_come_is_named_too(rolls):
    (heard,) = meet(rolls[1:2], "a checkpoint", 0.2)
    assert heard == "process 0 is gone, or did not come to a checkpoint within 0.2 s"


def test_a_process_that_is_gone_is_seen_and_one_that_said_so_is_not(rolls):
    rolls[1].lines[0].socket.close()
    rolls[2].say_goodbye()
    rolls[2].lines[0].socket.close()
    assert rolls[0].gone() == [1]


@pytest.fixture
def among(monkeypatch):
    """Return a function that lets two processes call the roll at a host's name."""

    def call(host):
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        told, both = ["", ""], threading.Barrier(2)
        found = [None, None]

        def go(process):
            def exchange(text):
                both.wait(20)
                told[process] = text
                both.wait(20)
                return list(told)

            try:
                found[process] = call_among(2, process, exchange, 1.0)
            except InputError as error:
                found[process] = error

        threads = [threading.Thread(target=go, args=(p,)) for p in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return found

    return call


def test_those_that_know_each_other_find_process_0_at_its_host(among):
    rolls = among("127.0.0.1")
    assert [roll.process for roll in rolls] == [0, 1]
    assert meet(rolls, "a checkpoint", 5) == ["all"] * 2
    rolls[1].lines[0].socket.close()
    assert rolls[0].gone() == [1]
    rolls[0].lines[1].socket.close()


def test_all_hear_that_one_does_not_reach_process_0(among):
    errors = among("no-such-host.invalid")
    (said,) = {str(error) for error in errors}
    assert "process 1 did not come within 1 s" in said


def test_a_port_that_is_taken():
    with socket.create_server(("", 0)) as server:
        where = f"localhost:{server.getsockname()[1]}"
        error = sentence((where, 2, 0, FACTS, 1))
    assert error == (
        f"coordinator must have a port that process 0 can listen at, got {where} "
        f"(Address already in use): choose another port"
    )


def test_nobody_there():
    where = free_address()
    error = sentence((where, 2, 1, FACTS, 0.5))
    assert error.startswith(
        f"coordinator must be the address of process 0, got {where}, where nobody "
        f"answered within 0.5 s ("
    )


def test_a_run_that_has_begun_is_left_in_peace():
    """JAX's service answers in another language, or not at all."""
    with socket.create_server(("", 0)) as server:

        def answer():
            with server.accept()[0] as caller:
                caller.sendall(b"\0\0\6\4\0\0\0\0\0")

        threading.Thread(target=answer, daemon=True).start()
        where = f"localhost:{server.getsockname()[1]}"
        error = sentence((where, 2, 1, FACTS, 5))
    assert "where something else answered, or a run that has begun" in error


def test_too_few_come():
    where = free_address()
    error = sentence((where, 4, 0, FACTS, 0.8), (where, 4, 1, FACTS, 9))
    assert error == (
        "processes must be as many as are started, got 4, of which process 2, 3 did "
        "not come within 0.8 s: start each of them, with the same coordinator"
    )


def test_another_count():
    where = free_address()
    error = sentence((where, 2, 0, FACTS, 9), (where, 3, 1, FACTS, 9))
    assert error == (
        "processes must be the same on all, got 2 of process 0 and 3 of process 1: "
        "start all with the same count"
    )


def test_one_number_for_two():
    where = free_address()
    error = sentence(*((where, 3, process, FACTS, 9) for process in (0, 1, 1)))
    assert error == (
        "process must be another number for each of the 3, got 1 twice: start them as "
        "0 to 2"
    )


def test_other_versions():
    where = free_address()
    error = sentence((where, 2, 0, FACTS, 9), (where, 2, 1, {"jax": "2"}, 9))
    assert error == (
        "all processes must have the same jax, got 1 of process 0 and 2 of process 1: "
        "start all from the same program, data and versions"
    )


def test_a_difference_names_the_fact_and_the_first_process():
    same = {"jax": "1", "data": "a"}
    assert first_difference({0: same, 1: same}) is None
    told = {0: same, 1: same, 2: {"jax": "1"}, 3: {"jax": "1", "data": "b"}}
    assert "same data, got a of process 0 and None of process 2, and 1 more" in (
        first_difference(told)
    )


def test_strangers_are_passed_over():
    """What scans ports says nothing, or nonsense."""
    where = free_address()
    port = int(where.rpartition(":")[2])

    def knock():
        for said in (b"GET / HTTP/1.1\r\n\r\n", b'{"process": "x"}\n', b"{\n", b""):
            for _ in range(100):
                try:
                    with socket.create_connection(("127.0.0.1", port), 1) as line:
                        line.sendall(said)
                    break
                except OSError:
                    time.sleep(0.02)

    stranger = threading.Thread(target=knock, daemon=True)
    stranger.start()
    first, second = call_all((where, 2, 0, FACTS, 10), (where, 2, 1, FACTS, 10))
    assert list(first.lines) == [1]
    first.lines[1].socket.close()
    second.lines[0].socket.close()


@pytest.mark.parametrize("where", ["host", "host:", ":80", "host:x", "host:70000"])
def test_an_address_that_is_none(where):
    error = sentence((where, 2, 1, FACTS, 1))
    assert error.startswith("coordinator must be HOST:PORT, such as ")
