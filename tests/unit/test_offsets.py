"""The hardest invariant of the worker: what may be sent, and what may be committed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.offsets import Ledger

offsets_with_holes = st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(sorted)


def ledger_with(*offsets):
    ledger = Ledger()
    ledger.accept((offset, 10) for offset in offsets)
    return ledger


def test_nothing_is_committable_before_anything_is_acknowledged():
    ledger = ledger_with(0, 1)
    ledger.complete(0, "a")
    assert ledger.sendable() == ["a"]
    assert ledger.committable is None


def test_outputs_wait_for_the_records_before_them():
    ledger = ledger_with(1, 2, 4)
    ledger.complete(4, "four")
    ledger.complete(2, "two")
    assert ledger.sendable() == []
    ledger.complete(1, "one")
    assert ledger.sendable() == ["one", "two", "four"]
    assert ledger.sendable() == []


def test_commit_stops_at_the_first_unsettled_record():
    ledger = ledger_with(1, 2, 4, 5)
    for offset in (1, 2, 4, 5):
        ledger.complete(offset, offset)
    ledger.sendable()
    for offset in (1, 4, 5):
        ledger.acknowledge(offset)
    assert ledger.committable == 2
    ledger.acknowledge(2)
    assert ledger.committable == 6
    assert len(ledger) == 0


def test_a_hole_in_the_offsets_is_no_gap():
    ledger = ledger_with(3, 90)
    ledger.complete(3, "a")
    ledger.complete(90, "b")
    ledger.sendable()
    ledger.acknowledge(3)
    ledger.acknowledge(90)
    assert ledger.committable == 91
    assert (ledger.settled_records, ledger.settled_bytes) == (2, 20)


def test_offsets_must_rise():
    ledger = ledger_with(5)
    with pytest.raises(ValueError, match="offset 5 came after 5"):
        ledger.accept([(5, 1)])


def test_offsets_must_rise_also_when_all_is_settled():
    ledger = ledger_with(5)
    ledger.complete(5, "a")
    ledger.sendable()
    ledger.acknowledge(5)
    with pytest.raises(ValueError, match="offset 5 came after 5"):
        ledger.accept([(5, 1)])


def test_an_unknown_offset_is_an_error_not_a_silence():
    with pytest.raises(KeyError):
        ledger_with(1).acknowledge(2)
    with pytest.raises(KeyError):
        ledger_with(1).complete(2, "x")


@given(offsets_with_holes, st.randoms(use_true_random=False))
def test_any_order_of_results_is_sent_in_order_once_each(offsets, rng):
    ledger = ledger_with(*offsets)
    shuffled = rng.sample(offsets, len(offsets))
    sent = []
    for offset in shuffled:
        ledger.complete(offset, offset)
        sent += ledger.sendable()
        done = set(shuffled[: shuffled.index(offset) + 1])
        assert sent == [o for i, o in enumerate(offsets) if set(offsets[: i + 1]) <= done]
    assert sent == offsets


@given(offsets_with_holes, st.randoms(use_true_random=False))
def test_the_committable_offset_never_passes_an_unacknowledged_record(offsets, rng):
    ledger = ledger_with(*offsets)
    for offset in offsets:
        ledger.complete(offset, offset)
    ledger.sendable()
    waiting = set(offsets)
    before = -1
    for offset in rng.sample(offsets, len(offsets)):
        ledger.acknowledge(offset)
        waiting.discard(offset)
        committable = -1 if ledger.committable is None else ledger.committable
        assert all(o >= committable for o in waiting)
        assert committable >= before
        before = committable
        assert len(ledger) + ledger.settled_records == len(offsets)
    assert ledger.committable == offsets[-1] + 1


@given(st.integers(0, 2**31))
def test_accepting_while_settling_keeps_the_invariants(seed):
    rng = random.Random(seed)
    ledger = Ledger()
    upcoming, accepted, flying, sent, settled = 0, [], [], [], set()
    for _ in range(200):
        move = rng.choice(["accept", "complete", "acknowledge"])
        if move == "accept":
            upcoming += rng.randint(1, 3)
            ledger.accept([(upcoming, 1)])
            flying.append(upcoming)
            accepted.append(upcoming)
        elif move == "complete" and flying:
            offset = flying.pop(rng.randrange(len(flying)))
            ledger.complete(offset, offset)
            sent += ledger.sendable()
        elif move == "acknowledge" and set(sent) - settled:
            offset = rng.choice(sorted(set(sent) - settled))
            ledger.acknowledge(offset)
            settled.add(offset)
        # Also of what was never sent: a commit past it would lose it.
        if ledger.committable is not None:
            assert set(accepted) & set(range(ledger.committable)) <= settled
    assert sent == sorted(sent)
