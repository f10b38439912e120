"""What the supervisor and a child say to each other, and what it means when one of them dies."""

import json
import logging
import os
import signal

import pytest
import structlog

from tests.support.kafka_helpers import wait_until
from worker import logs
from worker.processes.child import main
from worker.processes.lifeline import MOST_LETTERS, ChildEnd, Errors, SupervisorEnd
from worker.settings import KafkaSettings, Settings
from worker.signals import DrainSignals

SETTINGS = Settings.model_construct(
    kafka=KafkaSettings(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="me",
        sasl_password="hunter2-is-secret",
    )
)  # fmt: skip


@pytest.fixture
def ends():
    supervisor = SupervisorEnd(SETTINGS, 2)
    child = ChildEnd(os.dup(supervisor.theirs.fileno()))
    supervisor.handed_over()
    yield supervisor, child
    supervisor.close()
    child._socket.close()


@pytest.fixture
def signals():
    with DrainSignals() as caught:
        caught.heeded()
        yield caught


def test_a_child_gets_its_number_and_the_settings_with_their_secrets(ends):
    _, child = ends
    number, settings = child.settings()
    assert number == 2
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2-is-secret"
    assert settings.kafka.session_timeout == SETTINGS.kafka.session_timeout


def test_the_supervisor_learns_the_port_and_the_last_error(ends):
    supervisor, child = ends
    child.listening(4_321)
    child.failed("the first")
    child.failed("the last\nof two lines")
    supervisor.read()
    assert (supervisor.port, supervisor.error) == (4_321, "the last\nof two lines")


def test_what_comes_in_pieces_is_put_together(ends):
    supervisor, child = ends
    line = json.dumps({"port": 99}).encode() + b"\n"
    child._socket.sendall(line[:5])
    supervisor.read()
    assert supervisor.port is None
    child._socket.sendall(line[5:] + b'{"half of a line that found no room\n')
    supervisor.read()
    assert supervisor.port == 99


def test_a_request_to_drain_is_a_signal_and_a_second_one_hurries(ends, signals):
    supervisor, child = ends
    child.settings()
    child.heed(signals)
    assert not signals.asked
    supervisor.drain()
    wait_until(lambda: signals.asked, 10, "asked")
    assert not signals.hurried
    supervisor.hurry()
    wait_until(lambda: signals.hurried, 10, "hurried")


def test_a_request_after_a_signal_is_not_a_second_signal(ends, signals):
    supervisor, child = ends
    child.settings()
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.asked
    signals._first_at -= 10  # long after any echo
    child.heed(signals)
    supervisor.drain()
    supervisor.close()
    wait_until(lambda: not [t for t in _threads() if t == "lifeline"], 10, "read to the end")
    assert not signals.hurried


def test_the_death_of_the_supervisor_is_a_signal(ends, signals):
    supervisor, child = ends
    child.settings()
    child.heed(signals)
    supervisor.close()
    wait_until(lambda: signals.asked, 10, "asked")
    assert not signals.hurried


def test_a_child_whose_supervisor_died_before_it_said_anything_ends_with_0(ends):
    supervisor, child = ends
    supervisor._ours.close()
    child._socket.recv(100_000)  # the settings
    assert child.settings() is None
    assert main(os.dup(child._socket.fileno()), lambda *_, **__: 1) == 0


def test_speaking_to_the_dead_harms_nobody(ends):
    supervisor, child = ends
    child._socket.close()
    supervisor.drain()
    supervisor.hurry()
    supervisor.read()
    supervisor.close()
    child.listening(1)
    child.failed("nobody hears")


def test_a_supervisor_that_does_not_read_holds_no_child(ends):
    _, child = ends
    for _ in range(1_000):
        child.failed("x" * MOST_LETTERS)


def test_errors_that_are_logged_are_sent_without_their_fields(ends, monkeypatch):
    supervisor, child = ends
    root = logging.getLogger()
    before, level = root.handlers, root.level
    logs.configure(format="json", level="info", process=2)
    root.addHandler(Errors(child))
    try:
        structlog.get_logger("worker.test").info("all_is_well")
        supervisor.read()
        assert supervisor.error is None
        structlog.get_logger("worker.test").error("topic x does not exist", detail="secret")
        supervisor.read()
        assert supervisor.error == "topic x does not exist"
        logging.getLogger("another").error("of %s", "a library")
        supervisor.read()
        assert supervisor.error == "of a library"
        try:
            raise KeyError("topic")
        except KeyError:
            structlog.get_logger("worker.test").exception("unexpected_failure")
        supervisor.read()
        assert supervisor.error == "unexpected_failure: KeyError: 'topic'"
    finally:
        root.handlers = before
        root.setLevel(level)
        structlog.reset_defaults()


def _threads():
    import threading

    return [thread.name for thread in threading.enumerate()]
