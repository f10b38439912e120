"""A child as a process: a small program in place of a worker answers what a test wants."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.kafka_helpers import wait_until
from worker.processes import process as module
from worker.processes.process import Process, get

CHILD = """
import http.server, os, socket, sys, threading
sys.path.insert(0, os.getcwd())
from worker.processes.lifeline import ChildEnd
end = ChildEnd(int(sys.argv[1]))
number, settings = end.settings()
live, ready = settings.answers.split("/")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(live if self.path == "/livez" else ready))
        self.end_headers()
        self.wfile.write(f"{self.path} of {number}\\n".encode())
    def log_message(self, *_): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
end.listening(server.server_port)
word = end._socket.recv(1)
end.failed(f"it was told {word} in group {os.getpgid(0) == os.getpid()}")
sys.exit(7)
"""


@pytest.fixture
def child(monkeypatch):
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.02)
    made = []

    def make(answers):
        made.append(
            Process(
                command=(sys.executable, "-c", CHILD), number=3, clock=time.monotonic,
                settings=SimpleNamespace(answers=answers),
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for each in made:
        each.kill()
        each.wait(20)
        each.ended()


def known(process, condition):
    def looked():
        assert process.ended() is None
        return condition()

    wait_until(looked, 20, "the child says so")


def test_a_child_is_probed_asked_and_read(child):
    process = child("200/200")
    assert process.problem == "it is starting"
    known(process, lambda: process.problem is None)
    assert get(process.port, "/metrics", seconds=5) == (200, "/metrics of 3\n")
    process.drain()
    wait_until(lambda: process.ended() == 7, 20, "it ends")
    assert process.error == "it was told b'd' in group True"


def test_one_that_is_alive_and_not_ready_is_heard(child):
    process = child("200/503")
    assert process.heard is None
    known(process, lambda: process.heard is not None)
    begun = process.heard
    known(process, lambda: process.heard > begun >= process.started)
    assert process.problem == "/readyz of 3"


def test_one_that_is_not_alive_is_not_heard(child):
    process = child("503/200")
    known(process, lambda: process.problem == "/livez of 3")
    assert process.heard is None


def test_one_that_is_killed_ended_by_a_signal(child):
    process = child("200/200")
    process.kill()
    process.wait(20)
    assert process.ended() == -signal.SIGKILL


def test_one_that_cannot_be_started_leaves_nothing_open():
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError):
        Process(
            command=("/no/such/program",), number=1, settings=SimpleNamespace(), clock=time.time
        )
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_one_whose_probes_cannot_be_started_is_not_left_behind(monkeypatch):
    """There are too many threads: the fleet tries again later, and must not have two."""

    def too_many(_):
        raise RuntimeError("can't start new thread")

    spawned, popen = [], subprocess.Popen
    monkeypatch.setattr(
        "subprocess.Popen", lambda *a, **k: spawned.append(popen(*a, **k)) or spawned[0]
    )
    monkeypatch.setattr("threading.Thread.start", too_many)
    with pytest.raises(OSError, match="can't start new thread"):
        Process(
            command=(sys.executable, "-c", "import time; time.sleep(60)"), number=1,
            settings=SimpleNamespace(), clock=time.time,
        )  # fmt: skip
    assert spawned[0].poll() == -signal.SIGKILL


def test_nothing_answers_at_a_port_that_is_closed():
    assert get(1, "/livez", seconds=5) == (0, "")
