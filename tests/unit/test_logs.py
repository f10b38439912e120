"""A state that lasts: logged when it begins, then at growing intervals."""

import itertools

import structlog
from structlog.testing import capture_logs

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
