"""Which timestamps a topic is known to refuse, after it refused some."""

import pytest

from tests.unit.kafka.produce.test_refusals import Sent
from worker.kafka.produce.times import REMEMBER_SECONDS, TimeMemory

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

NOW = 1_000_000.0
NOW_MS = 1_000_000_000


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def memory(now):
    return TimeMemory(clock=lambda: now[0], now=lambda: NOW + now[0])


def refuses(memory, timestamp, **changes):
    return memory.refuses(Sent(timestamp=timestamp, **changes))


def test_what_is_as_old_as_a_refused_one_is_refused_and_no_younger_one(memory, now):
    assert not refuses(memory, 0)
    memory.refused(Sent(timestamp=NOW_MS - 5_000))
    assert refuses(memory, NOW_MS - 5_000)
    assert refuses(memory, NOW_MS - 6_000)
    assert not refuses(memory, NOW_MS - 4_999)
    assert not refuses(memory, NOW_MS + 10**12)
    assert not refuses(memory, NOW_MS - 5_000, topic="dlq"), "of another topic"
    assert not refuses(memory, None)
    now[0] = 2.0
    assert refuses(memory, NOW_MS - 3_000), "it is as old by now"


def test_what_is_as_late_as_a_refused_one_in_the_future_is_refused_and_no_earlier_one(memory, now):
    memory.refused(Sent(timestamp=NOW_MS + 5_000))
    assert refuses(memory, NOW_MS + 5_000)
    assert not refuses(memory, NOW_MS + 4_999)
    assert not refuses(memory, NOW_MS - 10**9)
    now[0] = 1.0
    assert refuses(memory, NOW_MS + 5_000)


def test_the_nearest_to_now_counts_on_either_side(memory):
    for seconds in (90, 50, 70):
        memory.refused(Sent(timestamp=NOW_MS - seconds * 1_000))
        memory.refused(Sent(timestamp=NOW_MS + seconds * 1_000))
    assert [refuses(memory, NOW_MS + s * 1_000) for s in (-51, -50, -49, 49, 50, 51)] == [
        True, True, False, False, True, True,
    ]  # fmt: skip


def searches(memory, timestamps):
    """How many of these are sent and refused, one after another."""
    found = 0
    for timestamp in timestamps:
        if not refuses(memory, timestamp):
            memory.refused(Sent(timestamp=timestamp), searched=True)
            found += 1
    return found


@pytest.mark.parametrize("side", [-1, 1])
def test_of_many_that_come_nearer_to_now_few_are_searched_for(memory, side):
    assert searches(memory, [NOW_MS + side * (10_000_000 - n * 1_000) for n in range(9_000)]) < 6
    assert not refuses(memory, NOW_MS + side * 100_000)


def test_one_that_was_searched_for_condemns_none_nearer_to_now(memory):
    memory.refused(Sent(timestamp=NOW_MS - 6_000))
    memory.refused(Sent(timestamp=NOW_MS + 6_000))
    memory.refused(Sent(timestamp=NOW_MS - 5_000), searched=True)
    memory.refused(Sent(timestamp=NOW_MS + 5_000), searched=True)
    assert not refuses(memory, NOW_MS - 4_999)
    assert not refuses(memory, NOW_MS + 4_999)


def test_it_is_forgotten_after_a_minute(memory, now):
    memory.refused(Sent(timestamp=1))
    memory.refused(Sent(timestamp=None))
    now[0] = REMEMBER_SECONDS
    assert not refuses(memory, 1)
    memory.refused(Sent(timestamp=NOW_MS + 10**9))
    assert not refuses(memory, 1), "only what was refused since"
