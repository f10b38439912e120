"""The breaker: when it opens, how it tries again, and what it never does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from worker.endpoints import Health
from worker.metrics import Metrics
from worker.stages.breaker import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PROBE_RECORDS,
    PROBE_SECONDS,
    Breaker,
    Tolerance,
)
from worker.stages.gate import Gate

USUAL = Tolerance(threshold=0.5, window=1_000, minimum=200)
BAD, GOOD = "invalid_json", None


def breaker_with(*verdicts, now=0.0, tolerance=USUAL):
    breaker = Breaker(tolerance)
    breaker.judge(verdicts, now)
    return breaker


def opened():
    breaker = breaker_with(*[BAD] * 200)
    assert breaker.state == "open"
    return breaker


def probe(breaker, *verdicts, now):
    """Lets a probe through that turns out so."""
    assert breaker.room(in_flight=0, now=now) == PROBE_RECORDS
    breaker.took(len(verdicts))
    breaker.judge(verdicts, now)
    return breaker.room(in_flight=0, now=now)


@pytest.mark.parametrize("bad", [199, 200])
def test_nothing_is_judged_before_the_minimum_is_seen(bad):
    assert breaker_with(*[BAD] * bad).state == ("open" if bad == 200 else "closed")


def test_half_of_the_records_is_borne_and_more_is_not():
    breaker = breaker_with(*[GOOD, BAD] * 500)
    assert breaker.state == "closed"
    breaker.judge([BAD, BAD], 0.0)  # a good one and a bad one fall out of the window
    assert breaker.state == "open"
    assert breaker.reasons == {BAD: 501}


def test_only_the_window_is_looked_back_on():
    breaker = breaker_with(*[GOOD] * 100_000)
    breaker.judge([BAD] * 500, 0.0)
    assert breaker.state == "closed"
    breaker.judge([BAD], 0.0)
    assert breaker.state == "open"


def test_a_threshold_of_one_never_opens():
    tolerance = Tolerance(threshold=1.0, window=1_000, minimum=200)
    assert breaker_with(*[BAD] * 5_000, tolerance=tolerance).state == "closed"


def test_an_open_breaker_lets_nothing_in_until_its_pause_is_over_and_nothing_is_in_flight():
    breaker = opened()
    assert breaker.room(in_flight=0, now=FIRST_PAUSE - 0.01) == 0
    assert breaker.room(in_flight=7, now=FIRST_PAUSE) == 0
    assert breaker.room(in_flight=0, now=FIRST_PAUSE) == PROBE_RECORDS


def test_what_was_in_flight_when_it_opened_decides_nothing():
    breaker = opened()
    breaker.judge([GOOD] * 5_000, 0.5)
    assert breaker.state == "open"
    assert probe(breaker, *[BAD] * PROBE_RECORDS, now=FIRST_PAUSE) == 0


def test_a_probe_takes_no_more_than_its_records_and_is_judged_when_they_are_settled():
    breaker = opened()
    breaker.room(in_flight=0, now=1.0)
    breaker.took(60)
    assert breaker.room(in_flight=60, now=1.1) == PROBE_RECORDS - 60
    breaker.took(40)
    assert breaker.room(in_flight=100, now=1.2) == 0
    breaker.took(1)  # of a partition that was new, and not paused yet
    assert breaker.room(in_flight=101, now=1.2) == 0
    breaker.judge([GOOD] * 99, 1.3)
    assert breaker.room(in_flight=1, now=1.3) == 0
    breaker.judge([GOOD], 1.4)
    assert breaker.room(in_flight=0, now=1.4) is None


def test_a_bad_probe_doubles_the_pause_up_to_the_longest():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(9):
        pauses.append(breaker.pause)
        now += breaker.pause
        assert probe(breaker, *[BAD] * PROBE_RECORDS, now=now) == 0
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_mostly_good_probe_closes_it_and_the_minimum_counts_from_then():
    breaker = opened()
    assert probe(breaker, *[GOOD, BAD] * (PROBE_RECORDS // 2), now=1.0) is None
    breaker.judge([BAD] * 199, 2.0)
    assert breaker.state == "closed"


def test_input_that_turns_bad_again_soon_waits_longer_and_after_a_good_window_starts_anew():
    breaker = opened()
    probe(breaker, *[GOOD] * PROBE_RECORDS, now=1.0)
    breaker.judge([BAD] * 200, 2.0)
    assert breaker.pause == 2 * FIRST_PAUSE
    probe(breaker, *[GOOD] * PROBE_RECORDS, now=4.0)
    breaker.judge([GOOD] * 1_000, 5.0)
    breaker.judge([BAD] * 501, 6.0)
    assert (breaker.state, breaker.pause) == ("open", FIRST_PAUSE)


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [([], "closed"), ([GOOD], "closed"), ([BAD], "open"), ([BAD] * 3, "open")],
)
def test_on_a_quiet_topic_a_probe_is_judged_by_what_there_was(verdicts, state):
    breaker = opened()
    breaker.room(in_flight=0, now=1.0)
    breaker.took(len(verdicts))
    breaker.judge(verdicts, 1.5)
    breaker.room(in_flight=0, now=1.0 + PROBE_SECONDS - 0.1)
    assert breaker.state == "probe"
    breaker.room(in_flight=0, now=1.0 + PROBE_SECONDS)
    assert breaker.state == state


@given(
    st.lists(st.sampled_from([GOOD, "invalid_json", "empty_text"]), max_size=80),
    st.integers(1, 20),
    st.floats(0.05, 1.0),
    st.data(),
)
def test_it_opens_with_the_first_record_that_makes_the_window_bad(verdicts, window, share, data):
    minimum = data.draw(st.integers(1, window))
    breaker = Breaker(Tolerance(threshold=share, window=window, minimum=minimum))

    def mostly_bad(end):
        last = verdicts[max(0, end - window) : end]
        return len(last) - last.count(GOOD) > share * len(last)

    ends = range(minimum, len(verdicts) + 1)
    expected = next((end for end in ends if mostly_bad(end)), None)
    at = 0
    while at < len(verdicts) and breaker.state == "closed":
        breaker.judge([verdicts[at]], 0.0)
        at += 1
    assert (at if breaker.state == "open" else None) == expected
    last = verdicts[max(0, at - window) : at]
    assert breaker.reasons == {v: last.count(v) for v in last if v is not None}


def test_the_gate_says_why_it_opens_and_takes_it_back():
    registry, now = CollectorRegistry(), 100.0
    health = Health(clock=lambda: now)
    health.model_ready, health.broker_heard, health.moved = True, now, now
    gate = Gate(
        breaker=Breaker(USUAL),
        metrics=Metrics(
            input_topic="i", output_topic="o", dlq_topic="d", version="0", registry=registry
        ),
        health=health,
        clock=lambda: now,
    )
    with capture_logs() as logs:
        assert gate.room(in_flight=0, most=50) == 50
        gate.report(["empty_text"] * 60 + [BAD] * 140)
        assert gate.room(in_flight=0, most=50) == 0
        assert registry.get_sample_value("worker_breaker_open") == 1
        assert health.ready() == (
            "most of the input is bad: 200 of the last 200 records became dead letters"
        )
        now += FIRST_PAUSE
        assert gate.room(in_flight=0, most=50) == 50, "a probe"
        assert health.ready() is not None
        gate.took(PROBE_RECORDS)
        gate.report([GOOD] * PROBE_RECORDS)
        assert gate.room(in_flight=0, most=5_000) == 5_000
    assert registry.get_sample_value("worker_breaker_open") == 0
    assert health.ready() is None
    opening, closing = logs
    assert (opening["event"], opening["bad"], opening["of"]) == ("input_mostly_bad", 200, 200)
    assert (opening["empty_text"], opening[BAD], opening["next_try"]) == (60, 140, 1.0)
    assert closing["event"] == "input_good_again"
