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


def test_it_is_forgotten_after_a_minute(memory, now):
    memory.refused(Sent(timestamp=1))
    memory.refused(Sent(timestamp=None))
    now[0] = REMEMBER_SECONDS
    assert not refuses(memory, 1)
    memory.refused(Sent(timestamp=NOW_MS + 10**9))
    assert not refuses(memory, 1), "only what was refused since"
