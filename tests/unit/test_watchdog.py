"""A call that never comes back is noticed, and nothing else is."""

import threading

import pytest

from tests.support.kafka_helpers import wait_until
from worker import awake
from worker.awake import AwakeClock
from worker.watchdog import LONGEST_STEP, POLL_DEADLINE, Watchdog, limited


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watchdog(clock):
    return Watchdog(model_deadline=60.0, clock=clock)


def watch(watchdog, clock, seconds, step=0.5):
    """Looks for so long; the first failure."""
    for _ in range(int(seconds / step)):
        clock.now += step
        failure = watchdog.overdue()
        if failure is not None:
            return failure
    return None


def test_a_model_call_past_its_deadline_is_told_with_its_time(watchdog, clock):
    with watchdog.model:
        assert watch(watchdog, clock, 60) is None
        line = str(watch(watchdog, clock, 5))
    assert line.startswith("a call of the model has not come back for 60 s (its deadline: 60 s)")
    assert "model.deadline" in line
    assert "\n" not in line


def test_a_poll_loop_that_hangs_is_told_too(watchdog, clock):
    with watchdog.poll:
        assert watch(watchdog, clock, POLL_DEADLINE) is None
        assert str(watch(watchdog, clock, 5)).startswith("a turn of the poll loop has not")


def test_many_calls_that_come_back_are_no_failure_however_long_they_take_together(watchdog, clock):
    for _ in range(10):
        with watchdog.model:
            assert watch(watchdog, clock, 55) is None


def test_calls_that_follow_each_other_between_two_looks_are_not_taken_for_one(watchdog, clock):
    for _ in range(200):
        with watchdog.model:
            assert watch(watchdog, clock, 0.5) is None


def test_no_call_is_never_late(watchdog, clock):
    with watchdog.model:
        pass
    assert watch(watchdog, clock, 1_000) is None


def test_a_call_that_raises_has_come_back(watchdog, clock):
    with pytest.raises(ValueError, match="no"), watchdog.model:
        raise ValueError("no")
    assert watch(watchdog, clock, 100) is None


def test_a_process_that_was_suspended_does_not_blame_its_calls(watchdog, clock):
    with watchdog.model:
        assert watch(watchdog, clock, 30) is None
        clock.now += 3_600
        assert watchdog.overdue() is None
        assert watch(watchdog, clock, 30 - LONGEST_STEP) is None
        assert watch(watchdog, clock, 2) is not None


def test_the_last_resort_is_put_off_about_once_a_second(clock):
    told = []
    watchdog = Watchdog(model_deadline=60.0, clock=clock, last_resort=told.append)
    watch(watchdog, clock, 10, step=0.01)
    assert 9 <= len(told) <= 11
    assert set(told) == {60.0}


def test_a_block_that_takes_too_long_is_told_and_one_in_time_is_not():
    late, resorts = threading.Event(), []
    with limited(0.01, late.set, last_resort=resorts.append):
        assert late.wait(30)
    assert 0 < resorts[0] <= 0.01
    assert resorts[-1] == 0, "nothing is left that could be late"
    running = threading.active_count()
    with limited(3_000, late.clear):
        assert threading.active_count() == running + 1
    assert threading.active_count() == running
    assert late.is_set()


def test_a_block_in_a_process_that_was_stopped_is_not_late(monkeypatch):
    raw = Clock()
    clock = AwakeClock(raw)
    monkeypatch.setattr(awake, "now", clock)
    late, looked = threading.Event(), []
    with clock.ticking(), limited(600, late.set, last_resort=looked.append):
        wait_until(lambda: looked, 30, "the block is watched")
        raw.now += 3_600
        wait_until(lambda: len(looked) > 1, 30, "it is looked at after the pause")
        assert looked[1] >= 600 - 2 * awake.LONGEST_STEP
    assert not late.is_set()
