"""Is anything listening where the brokers should be?"""

import contextlib
import socket
import time

import pytest

from worker.kafka.cluster import probe
from worker.kafka.cluster.probe import unreachable


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def deaf():
    """An address that takes no connection and refuses none, as behind a firewall."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):  # nobody accepts: the queue is full, and the kernel drops what comes
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        yield address(server)


def test_whoever_accepts_a_connection_is_alive_though_it_says_nothing(listener):
    assert unreachable([address(listener)]) == []


def test_a_port_that_refuses_is_told_at_once():
    begin = time.monotonic()
    assert unreachable(["127.0.0.1:1"], patience=60) == ["127.0.0.1:1: Connection refused"]
    assert time.monotonic() - begin < 30


def test_an_ipv6_address_is_told_in_brackets():
    (line,) = unreachable(["[::1]:1"], patience=60)
    assert line.startswith("[::1]:1: ")


def test_one_of_several_addresses_is_enough(listener, deaf):
    assert unreachable(["127.0.0.1:1", deaf, address(listener)], patience=60) == []


def test_an_address_that_does_not_answer_is_waited_for_no_longer_than_asked(deaf):
    (line,) = unreachable([deaf], patience=0.2)
    assert line.startswith(f"{deaf}: ")


def test_every_address_has_its_own_line(deaf):
    first, second = unreachable(["127.0.0.1:1", deaf], patience=0.2)
    assert first == "127.0.0.1:1: Connection refused"
    assert second.startswith(f"{deaf}: ")


def test_a_name_that_no_host_has_is_told():
    (line,) = unreachable([f"{'x' * 70}.invalid:9092"], patience=10)
    assert line.startswith("xxx")


def test_of_several_addresses_those_that_accept_nothing_are_found(listener, deaf):
    good, bad, silent = listener.getsockname(), ("127.0.0.1", 1), ("127.0.0.1", port(deaf))
    found = probe.deaf([good, bad, silent], patience=0.3)
    assert found.pop(bad) == "Connection refused"
    assert list(found) == [silent]


def port(at):
    return int(at.rpartition(":")[2])
