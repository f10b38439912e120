"""A state that lasts is logged at growing intervals; a JSON line begins with what it is."""

import io
import itertools
import json
import logging

import pytest
import structlog
from structlog.testing import capture_logs

from worker import logs as module
from worker.logs import LONGEST_PAUSE, Lasting


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def logged(*errors):
    """Seconds at which lines were logged, and their errors, for a state that is seen each second.

    An error of None: the state is over.
    """
    clock, lines = Clock(), []
    state = Lasting(structlog.get_logger("test"), "broker_away", clock=clock)
    for error in errors:
        with capture_logs() as logs:
            if error is None:
                state.over()
            else:
                state.still(error)
        lines += [(clock.now - 1_000.0, line["error"], line["seconds"]) for line in logs]
        clock.now += 1.0
    return lines


def test_a_state_that_lasts_is_logged_at_once_and_then_at_growing_intervals():
    lines = logged(*["no broker"] * 200)
    assert lines == [
        (0, "no broker", 0), (10, "no broker", 10), (30, "no broker", 30), (70, "no broker", 70),
        (150, "no broker", 150),
    ]  # fmt: skip


def test_the_intervals_have_an_end():
    times = [at for at, *_ in logged(*["no broker"] * 3_000)]
    assert {b - a for a, b in itertools.pairwise(times[6:])} == {LONGEST_PAUSE}


def test_another_error_is_logged_at_once_and_each_has_its_own_intervals():
    lines = logged(*["no broker", "bad address"] * 8)
    assert [(at, error) for at, error, _ in lines] == [
        (0, "no broker"), (1, "bad address"), (10, "no broker"), (11, "bad address"),
    ]  # fmt: skip


def test_a_state_that_comes_and_goes_is_not_logged_each_time():
    lines = logged(*["no broker", None] * 30)
    assert [at for at, *_ in lines] == [0, 10, 30]


def test_a_state_that_comes_back_after_a_while_is_new():
    lines = logged("no broker", *[None] * 60, "no broker", "no broker")
    assert lines == [(0, "no broker", 0), (61, "no broker", 0)]


@pytest.fixture
def lines(monkeypatch):
    """Where the configured logs go, as text; what was configured before is put back."""
    root, found = logging.getLogger(), io.StringIO()
    before, level = root.handlers, root.level
    levels = {
        name: logging.getLogger(name).level
        for name in (
            "worker", "kafka", "kafka.admin.client", "kafka.net.connection",
            "kafka.protocol.parser",
        )
    }  # fmt: skip
    config = structlog.get_config()
    monkeypatch.setattr(module, "LogLines", lambda _: logging.StreamHandler(found))
    module.configure(format="json", level="info")
    yield found
    root.handlers = before
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    structlog.configure(**config)


@pytest.mark.parametrize(
    "write",
    [
        lambda: structlog.get_logger("worker.a").info("done", topic="tweets", a=1, seconds=2),
        lambda: structlog.get_logger("worker.b").bind(a=1).warning("done"),
        lambda: logging.getLogger("worker.c").warning("done"),  # as a library logs
    ],
)
def test_a_json_line_begins_with_its_event_and_timestamp(lines, write):
    write()
    (line,) = lines.getvalue().splitlines()
    found = json.loads(line)
    assert list(found)[:3] == ["event", "timestamp", "level"]
    assert found["event"] == "done"


def test_the_other_fields_of_a_json_line_stay_in_their_order(lines):
    structlog.get_logger("worker.a").info("done", topic="tweets", a=1, seconds=2)
    found = json.loads(lines.getvalue())
    assert list(found) == ["event", "timestamp", "level", "logger", "topic", "a", "seconds"]
