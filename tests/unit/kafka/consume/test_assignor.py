"""A partition has one owner: what a member has lost in its absence is not its own any more."""

import itertools
from types import SimpleNamespace

import pytest
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)

from worker.kafka.consume.assignor import Assignor

CLUSTER = SimpleNamespace(topics=lambda **_: {"in"}, partitions_for_topic=lambda _: set(range(8)))


def joining(name, assignor=Assignor, *, owned=(), generation=-1):
    """A member as the leader sees it: through the bytes of its JoinGroup."""
    made = assignor()
    if owned:
        made.on_assignment(ConsumerProtocolAssignment(1, [("in", list(owned))], b""), generation)
    told = made.metadata({"in"}).encode()
    return SimpleNamespace(member_id=name, metadata=ConsumerProtocolSubscription.decode(told))


def assigned(members, assignor=Assignor):
    assignments = assignor().assign(CLUSTER, members)
    return {name: {p.partition for p in each.partitions()} for name, each in assignments.items()}


def members_with_one_that_was_frozen(assignor):
    """Of the third chaos run: `frozen` woke after the others had shared out its 2 and 7."""
    return [
        joining("frozen", assignor, owned=[2, 7], generation=5),
        joining("b", assignor, owned=[0, 3, 5, 6], generation=6),
        joining("c", assignor, owned=[1, 2, 4, 7], generation=6),
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_member_that_comes_back_gets_nothing_that_another_holds(order):
    members = members_with_one_that_was_frozen(Assignor)
    found = assigned([members[index] for index in order])
    assert found["frozen"] == set()
    assert found["b"] < {0, 3, 5, 6}, "it gives one up, for the next round"
    assert found["c"] < {1, 2, 4, 7}


def test_the_library_hands_it_a_partition_that_another_holds():
    """Why this is ours: when this fails, the library's own assignor may do."""
    orders = itertools.permutations(members_with_one_that_was_frozen(CooperativeStickyAssignor))
    found = [assigned(list(order), CooperativeStickyAssignor)["frozen"] for order in orders]
    assert {7} in found


def test_the_next_round_gives_it_what_the_others_gave_up():
    members = members_with_one_that_was_frozen(Assignor)
    first = assigned(members)
    second = assigned([joining(name, owned=owned, generation=7) for name, owned in first.items()])
    assert sorted(map(len, second.values())) == [2, 3, 3]
    assert set().union(*second.values()) == set(range(8))
    assert second["b"] >= first["b"]
    assert second["c"] >= first["c"]


def test_claims_of_one_generation_to_the_same_partition_count_for_nobody():
    members = [
        joining("a", owned=[0, 1, 2, 3, 4], generation=6),
        joining("b", owned=[4, 5, 6, 7], generation=6),
    ]
    found = assigned(members)
    assert sorted(found["a"] | found["b"]) == list(range(8))
    assert not found["a"] & found["b"]
    assert {0, 1, 2, 3} <= found["a"]
    assert {5, 6, 7} <= found["b"]


def test_a_member_of_an_older_version_can_stay_in_the_group():
    """During an upgrade: its claims name no generation."""
    members = [
        joining("old", CooperativeStickyAssignor, owned=[0, 1, 2, 3], generation=6),
        joining("new", owned=[4, 5, 6, 7], generation=6),
    ]
    assert assigned(members) == {"old": {0, 1, 2, 3}, "new": {4, 5, 6, 7}}
    assert assigned(members, CooperativeStickyAssignor)["new"] == {4, 5, 6, 7}
