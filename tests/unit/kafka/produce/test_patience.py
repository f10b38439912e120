"""How long a transaction may take: more after a late one, within what the brokers allow."""

from types import SimpleNamespace

import pytest

from worker.kafka.produce.patience import (
    DEADLINE,
    MOST,
    REQUEST_TIMEOUT,
    STEP_SECONDS,
    TRANSACTION_TIMEOUT,
    Patience,
    deadline_of,
)


@pytest.fixture
def patience():
    return Patience()


def deadline(patience):
    return deadline_of(SimpleNamespace(config=patience.options()))


def test_what_was_late_may_take_longer_up_to_a_most(patience):
    assert (patience.times, deadline(patience)) == (1, DEADLINE)
    found = []
    for _ in range(4):
        patience.late()
        found.append(patience.times)
    assert found == [2, MOST, MOST, MOST]
    assert deadline(patience) == MOST * DEADLINE > 7 * REQUEST_TIMEOUT


def test_the_deadline_is_below_the_brokers_limit_and_a_step_has_an_own_one(patience):
    for _ in range(3):
        options = patience.options()
        assert deadline(patience) < options["transaction_timeout_ms"] / 1_000
        assert options["delivery_timeout_ms"] / 1_000 < deadline(patience)
        assert options["request_timeout_ms"] / 1_000 * 3 <= STEP_SECONDS
        patience.late()


def test_brokers_that_are_fast_again_get_less_time_step_by_step(patience):
    patience.late()
    patience.late()
    patience.took(DEADLINE / 2)
    assert patience.times == MOST
    for expected in (2, 1, 1):
        patience.took(DEADLINE / 3)
        assert patience.times == expected


def test_brokers_that_allow_no_more_are_asked_for_no_more(patience):
    assert not patience.forbidden(), "what is usual is forbidden: nothing less can be tried"
    patience.late()
    assert patience.forbidden()
    patience.late()
    assert patience.options()["transaction_timeout_ms"] == TRANSACTION_TIMEOUT * 1_000
