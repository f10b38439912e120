"""How long batches take, and how many fit into what is left of a drain."""

from worker.stages.pace import RECENT, Pace


def test_a_batch_fits_if_the_longest_of_the_last_ones_would():
    pace = Pace()
    for seconds in (1.0, 4.0, 2.0):
        pace.took(seconds)
    assert pace.fits(1, now=10.0, until=14.0)
    assert not pace.fits(1, now=10.1, until=14.0)
    assert pace.fits(2, now=6.0, until=14.0)
    assert not pace.fits(3, now=6.0, until=14.0)


def test_a_batch_that_was_slow_once_is_forgotten():
    pace = Pace()
    pace.took(60.0)
    for _ in range(RECENT):
        assert not pace.fits(1, now=0.0, until=15.0)
        pace.took(0.1)
    assert pace.fits(1, now=0.0, until=15.0)


def test_batches_that_follow_each_other_are_timed_from_end_to_end():
    pace = Pace()
    pace.begins(10.0)
    assert [pace.ended(now) for now in (13.0, 14.0, 19.0)] == [3.0, 1.0, 5.0]
    pace.begins(100.0)
    assert pace.ended(101.0) == 1.0
    assert pace.fits(1, now=0.0, until=5.0)
    assert not pace.fits(1, now=0.1, until=5.0)


def test_before_any_has_finished_one_is_tried_in_time():
    pace = Pace()
    assert not pace.known
    assert pace.fits(1, now=0.0, until=15.0)
    assert not pace.fits(2, now=0.0, until=15.0)
    assert not pace.fits(1, now=15.1, until=15.0)
