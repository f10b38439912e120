"""Commits that the poll loop starts: of what this member holds, one at a time."""

import warnings
from types import SimpleNamespace

import pytest

from worker.kafka.consume.leases import Leases
from worker.kafka.consume.membership import Membership
from worker.records import Lease

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of importing the client on Python 3.11
    from worker.kafka.consume.commits import Commits
    from worker.kafka.consume.source import Source


@pytest.fixture
def desk():
    """A source whose member holds partitions 0 and 1, and what its consumer was asked to commit."""
    source, asked = Source.__new__(Source), []
    source._leases = Leases(Membership())
    source._commits = Commits(topic="in", on_commit=lambda _: None)
    source._leases.assign([0, 1], member="me")
    source._member = SimpleNamespace(
        id="me", settled_in=True,
        consumer=SimpleNamespace(
            commit_async=lambda offsets, callback: asked.append(  # noqa: ARG005
                {place.partition: offset.offset for place, offset in offsets.items()}
            )
        ),
    )  # fmt: skip
    return SimpleNamespace(source=source, asked=asked)


def test_what_the_member_holds_is_committed_and_one_commit_at_a_time(desk):
    first, second = desk.source.leases
    assert desk.source.commit({first: 5, second: 7})
    assert not desk.source.commit({first: 6})
    assert desk.asked == [{0: 5, 1: 7}]


def test_leases_that_ended_are_left_out(desk):
    first, second = desk.source.leases
    desk.source._leases.end([second], "lost")
    assert desk.source.commit({first: 5, second: 7, Lease(0, 99): 9})
    assert desk.asked == [{0: 5}]


@pytest.mark.parametrize(("member", "settled_in"), [("another", True), ("me", False)])
def test_nothing_is_committed_for_an_earlier_member_or_in_a_rebalance(desk, member, settled_in):
    desk.source._member.id, desk.source._member.settled_in = member, settled_in
    assert not desk.source.commit(dict.fromkeys(desk.source.leases, 5))
    assert desk.asked == []
