"""A pause of the whole process counts for nothing."""

import pytest

from tests.support.kafka_helpers import wait_until
from worker.awake import LONGEST_STEP, AwakeClock


class Raw:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def raw():
    return Raw()


def test_it_is_a_monotonic_clock_while_the_process_runs(raw):
    clock = AwakeClock(raw)
    with clock.ticking():
        for _ in range(100):
            raw.now += 0.9
            clock()
        assert clock() == pytest.approx(190.0)


@pytest.mark.parametrize("pause", [1.5, 97.0, 3_600.0, 86_400.0])
def test_of_a_pause_only_one_step_counts(raw, pause):
    clock = AwakeClock(raw)
    with clock.ticking():
        raw.now += pause
        assert clock() == pytest.approx(100.0 + LONGEST_STEP)
        raw.now += 0.5
        assert clock() == pytest.approx(100.5 + LONGEST_STEP)


def test_many_pauses_count_no_more_than_their_steps(raw):
    clock = AwakeClock(raw)
    with clock.ticking():
        for _ in range(10):
            raw.now += 50.0
            clock()
        assert clock() == pytest.approx(100.0 + 10 * LONGEST_STEP)


def test_it_is_read_by_a_thread_of_its_own(raw):
    clock = AwakeClock(raw)
    with clock.ticking():
        reads = []
        raw_call = Raw.__call__
        clock._clock = lambda: reads.append(1) or raw_call(raw)
        wait_until(lambda: len(reads) > 1, 30, "the thread has read the clock")


def test_without_that_thread_nothing_is_taken_for_a_pause(raw):
    clock = AwakeClock(raw)
    raw.now += 3_600
    assert clock() == 3_700.0
    with clock.ticking():
        pass
    raw.now += 3_600
    assert clock() == 7_300.0
