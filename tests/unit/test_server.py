"""The HTTP server among clients that hold on: in time, in number, and without descriptors."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.conftest import ROOT
from tests.support.kafka_helpers import wait_until
from worker import server as module
from worker.server import MOST_CONNECTIONS, Server

PATIENCE = 20


def answer(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * 8_000_000 if environ["PATH_INFO"] == "/large" else b"ok"]


@contextlib.contextmanager
def serving(host="127.0.0.1"):
    server = Server(host, 0, answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connected(server, host="127.0.0.1"):
    return socket.create_connection((host, server.server_port), PATIENCE)


def probe(server, host="127.0.0.1"):
    with connected(server, host) as link:
        link.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        return b"".join(iter(lambda: link.recv(65_536), b""))[:15]


def handlers():
    return [t for t in threading.enumerate() if "process_request_thread" in t.name]


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /livez HTTP/1.1\r\nX: ", b"POST /livez HTTP/1.1\r\nContent-Length: 999\r\n\r\n"],
)
def test_a_client_that_sends_a_byte_now_and_then_is_closed_at_the_deadline(monkeypatch, begun):
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.3)
    with serving() as server, connected(server) as link:
        begin = time.monotonic()
        with contextlib.suppress(OSError):
            link.sendall(begun)
            while time.monotonic() - begin < PATIENCE:
                link.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - begin < PATIENCE / 2
        wait_until(lambda: not handlers(), PATIENCE, "its thread ends")
        assert probe(server) == b"HTTP/1.0 200 OK"


def test_a_client_that_reads_nothing_is_closed_at_the_deadline(monkeypatch):
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.3)
    with serving() as server, connected(server) as link:
        link.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        wait_until(handlers, PATIENCE, "it is served")
        wait_until(lambda: not handlers(), PATIENCE, "its thread ends")


def test_a_request_in_time_is_answered_whole():
    with serving() as server, connected(server) as link:
        link.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        assert sum(len(part) for part in iter(lambda: link.recv(1 << 20), b"")) > 8_000_000


def test_many_idle_clients_hold_no_more_threads_than_are_allowed_and_no_probe():
    with serving() as server, contextlib.ExitStack() as held:
        for number in range(3 * MOST_CONNECTIONS):
            held.enter_context(connected(server))
            if number % 20 == 0:
                assert probe(server) == b"HTTP/1.0 200 OK"
        wait_until(lambda: len(handlers()) <= MOST_CONNECTIONS, PATIENCE, "the others have ended")
        assert probe(server) == b"HTTP/1.0 200 OK"


WITHOUT_DESCRIPTORS = """
import os, resource, sys, threading, time
from prometheus_client import CollectorRegistry
from worker.endpoints import Endpoints, Health

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
endpoints = Endpoints(
    host="127.0.0.1", port=0, registry=CollectorRegistry(), health=Health(clock=time.monotonic)
)
endpoints.start()
try:
    while True:
        os.dup(0)
except OSError:
    print(endpoints.port, flush=True)
sys.stdin.readline()
begin = time.process_time()
time.sleep(1)
print(time.process_time() - begin, flush=True)
os._exit(0)
"""


def test_without_descriptors_probes_are_answered_and_nothing_spins():
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as program, contextlib.ExitStack() as held:  # fmt: skip
        port = int(program.stdout.readline())

        def livez():
            with socket.create_connection(("127.0.0.1", port), 5) as link:
                link.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
                return link.recv(15)

        assert livez() == b"HTTP/1.0 200 OK"
        for _ in range(12):
            held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
        assert livez() == b"HTTP/1.0 200 OK", "idle clients hold it"
        for _ in range(12):
            held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
        said, _ = program.communicate("now\n", timeout=PATIENCE)
    assert float(said) < 0.2, "seconds of CPU in one second"


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as tried:
        tried.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("::", ["::1", "127.0.0.1"]),
        ("[::]", ["::1", "127.0.0.1"]),
        ("::1", ["::1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
    ],
)
def test_it_serves_where_it_is_bound_ipv6_too(host, reached):
    with serving(host) as server:
        assert {probe(server, each) for each in reached} == {b"HTTP/1.0 200 OK"}


def test_after_the_end_no_descriptor_is_left():
    with serving() as server:
        reserve = list(server._reserve)
        assert len(reserve) == module.RESERVE
    assert server._reserve == []
