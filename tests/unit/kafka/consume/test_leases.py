"""Which partitions are owned, under which lease, and from where they are read."""

import pytest

from worker.errors import Fatal
from worker.kafka.consume.leases import Leases
from worker.kafka.consume.membership import Membership
from worker.records import Lease


@pytest.fixture
def membership():
    return Membership()


@pytest.fixture
def leases(membership):
    made = Leases(membership)
    made.assign([0, 1], member="a")
    return made


def test_every_assignment_begins_leases_of_their_own(leases):
    first = leases.all()
    leases.end(first, "revoked")
    leases.assign([0, 1], member="a")
    assert not set(first) & set(leases.all())
    assert leases.take_ended() == first
    assert leases.take_ended() == []
    assert leases.take_events() == ["assigned", "revoked", "assigned"]


def test_a_partition_taken_and_given_back_at_once_is_read_from_its_committed_offset(leases):
    leases.end(leases.of([0]), "revoked")
    leases.assign([0], member="a")
    assert leases.stale == {0}


def test_one_that_comes_back_later_has_a_position_of_its_own(leases):
    leases.end(leases.of([0]), "revoked")
    leases.assign([], member="a")
    leases.assign([0], member="a")
    assert leases.stale == set()


def test_the_membership_knows_what_is_held(leases, membership):
    held = leases.all()
    assert membership.ended(held) == set()
    leases.end(leases.of([1]), "lost")
    assert membership.ended(held) == {held[1]}


def test_what_an_earlier_member_was_given_begins_anew_from_the_committed_offset(leases):
    before = leases.all()
    leases.follow("a")
    assert leases.all() == before
    leases.follow("b")
    assert leases.take_ended() == before
    assert leases.stale == {0, 1}
    assert leases.given_to("b", leases.all()) == leases.all()


def test_what_an_earlier_member_was_given_is_not_its_successors_to_commit(leases):
    assert leases.given_to("a", leases.all()) == leases.all()
    assert leases.given_to("b", leases.all()) == []


def test_a_record_below_the_last_one_begins_a_lease(leases):
    first = leases.record(0, 5)
    assert leases.record(0, 6) == first
    again = leases.record(0, 2)
    assert again.epoch > first.epoch
    assert leases.take_ended() == [first]


def test_a_record_without_a_lease_is_a_fault():
    with pytest.raises(Fatal, match="partition 3 came without an assignment"):
        Leases(Membership()).record(3, 0)


def test_epochs_are_never_used_twice(leases):
    for _ in range(3):
        leases.assign([0, 1, 2], member="a")
    seen = [*leases.take_ended(), *leases.all()]
    assert len({lease.epoch for lease in seen}) == len(seen)
    assert all(isinstance(lease, Lease) for lease in seen)
