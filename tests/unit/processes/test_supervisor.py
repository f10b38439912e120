"""The supervisor before it has started anybody, and what `check` looks at."""

import socket
import sys

import pytest
from structlog.testing import capture_logs

from worker.__main__ import main
from worker.errors import EXIT_DRAINED, EXIT_FAILED, EXIT_REFUSED
from worker.processes import supervisor
from worker.processes.supervisor import supervise
from worker.settings import HttpSettings, Settings
from worker.signals import DrainSignals

NOBODY = (sys.executable, "-c", "raise SystemExit('a child was started')")


def settings(port):
    http = HttpSettings(host="127.0.0.1", port=port)
    return Settings.model_construct(http=http, processes=2)


def supervised(chosen):
    with DrainSignals() as signals, capture_logs() as lines:
        signals._first_at = 0.0  # it is asked to drain at once: no child is started
        return supervise(chosen, signals=signals, command=NOBODY), lines


def test_a_port_that_is_taken_is_refused_before_any_child_is_started():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = supervised(settings(port))
    assert code == EXIT_REFUSED
    (line,) = lines
    assert line["event"].startswith(f"http: 127.0.0.1:{port} cannot be bound: ")


def test_a_signal_before_the_first_start_ends_it_with_0():
    code, lines = supervised(settings(0))
    assert code == EXIT_DRAINED
    assert [line["event"] for line in lines] == ["http_listening", "drain_started", "drained"]


def test_a_failure_of_its_own_ends_it_with_1(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(supervisor, "Fleet", broken)
    code, lines = supervised(settings(0))
    assert code == EXIT_FAILED
    assert [line["event"] for line in lines] == ["unexpected_failure"]


@pytest.mark.parametrize(("processes", "identity"), [(1, "pod"), (2, "pod-1")])
def test_check_asks_for_what_the_first_of_several_processes_needs(
    monkeypatch, tmp_path, processes, identity
):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("worker.check.check", lambda chosen: asked.append(chosen.replica) or 0)
    monkeypatch.setattr("worker.logs.configure", lambda **_: None)
    options = ["--processes", str(processes), "--kafka.replica-id", "pod"]
    assert main(["check", *options, "--delivery.guarantee", "exactly_once"]) == 0
    assert asked == [identity]
