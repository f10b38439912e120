"""What the client is told of the group, and a static member that leaves it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    NotCoordinatorError,
    for_code,
)

from worker.errors import Refused, Transient
from worker.kafka.consume.group import FETCH_PARTITION_BYTES, Group, leave_group, replaced
from worker.kafka.consume.membership import Membership

GROUP = Group(
    topic="in", group_id="g", instance_id="g-0", assignment="range", session_timeout=10,
    heartbeat_interval=3, max_poll_interval=300, fetch_max_bytes=1 << 20,
)  # fmt: skip


def test_what_the_client_may_fetch_ahead_is_limited_for_a_broker_and_for_a_partition():
    options = GROUP.options()
    assert options["fetch_max_bytes"] == 1 << 20
    assert options["max_partition_fetch_bytes"] == FETCH_PARTITION_BYTES


@pytest.mark.parametrize(
    "failure", [Refused("the password is wrong now"), Transient("away"), KafkaConnectionError()]
)
def test_one_that_cannot_leave_ends_all_the_same(failure):
    """All is committed then: its partitions wait for the session to expire."""

    def admin():
        raise failure

    leave_group(SimpleNamespace(admin=admin), GROUP, "member-1")


def test_it_leaves_by_its_member_id_so_that_a_successor_stays():
    removed = []
    admin = SimpleNamespace(
        remove_group_members=lambda group, members: removed.append((group, members)),
        close=lambda: None,
    )
    leave_group(SimpleNamespace(admin=lambda: admin), GROUP, "member-1")
    ((group, (member,)),) = removed
    assert (group, member.member_id, member.group_instance_id) == ("g", "member-1", "g-0")


@pytest.mark.parametrize(("rack", "told"), [("eu-west-1a", "eu-west-1a"), (None, "")])
def test_brokers_are_told_the_rack_from_which_to_read(rack, told):
    assert replace(GROUP, rack=rack).options()["client_rack"] == told


@dataclass
class Cluster:
    """A cluster whose group has these members, or that answers with an error."""

    members: list[dict[str, str | None]]
    error: Exception | None = None
    told: str | None = None
    patience: float = 10.0
    thorough: bool = True
    meanwhile: Callable[[], None] = lambda: None

    def admin(self) -> Any:
        def describe(groups):
            self.meanwhile()
            if self.error is not None:
                raise self.error
            return {group: {"members": self.members, "error": self.told} for group in groups}

        return SimpleNamespace(describe_groups=describe, close=lambda: None)


def consumer(member, generation=3):
    return SimpleNamespace(
        group_metadata=lambda: SimpleNamespace(member_id=member, generation_id=generation)
    )


def member_of(consumer):
    membership = Membership()
    membership.joins_with(consumer)
    return membership


def is_replaced(cluster, membership):
    return replaced(cluster, membership, group="g", name="g-0")


def known(member, name="g-0"):
    return {"member_id": member, "group_instance_id": name}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([known("mine")], False),
        ([known("theirs")], True),
        ([known("other", "g-1"), known("theirs")], True),
        ([known("other", "g-1"), known("dynamic", None), {"member_id": "of old brokers"}], False),
        ([], False),
    ],
)
def test_one_is_replaced_whose_name_another_member_has(members, expected):
    assert is_replaced(Cluster(members), member_of(consumer("mine"))) is expected


def test_outside_the_group_nobody_is_asked():
    cluster = Cluster([known("theirs")], error=AssertionError("asked"))
    assert not is_replaced(cluster, Membership())
    assert not is_replaced(cluster, member_of(consumer("", -1)))
    assert not is_replaced(cluster, member_of(consumer("mine", -1)))


def test_a_consumer_of_ones_own_that_has_joined_meanwhile_is_no_other_process():
    membership = member_of(consumer("mine"))
    cluster = Cluster([known("new")], meanwhile=lambda: membership.joins_with(consumer("new")))
    assert not is_replaced(cluster, membership)


def test_who_may_not_ask_goes_on_and_who_gets_no_answer_asks_again():
    membership = member_of(consumer("mine"))
    assert not is_replaced(Cluster([], error=GroupAuthorizationFailedError()), membership)
    with pytest.raises(Transient, match="the group does not answer: NotCoordinatorError"):
        is_replaced(Cluster([], error=NotCoordinatorError()), membership)


@pytest.mark.parametrize("code", [14, 15, 16])
def test_a_coordinator_that_cannot_say_is_asked_again(code):
    """The client gives the answer's error as a text, beside no members."""
    said = str(for_code(code)(""))
    with pytest.raises(Transient, match=f"does not answer: {for_code(code).__name__}"):
        is_replaced(Cluster([], told=said), member_of(consumer("mine")))


@pytest.mark.parametrize("code", [30, 69])
def test_a_group_that_is_hidden_or_gone_has_replaced_nobody(code):
    said = str(for_code(code)(None))
    assert not is_replaced(Cluster([], told=said), member_of(consumer("mine")))


def test_where_brokers_do_not_describe_groups_nobody_is_replaced():
    """With its outage limit the worker would end after each transaction that failed."""
    cluster = Cluster([], error=IncompatibleBrokerVersion("DescribeGroups"))
    assert not is_replaced(cluster, member_of(consumer("mine")))


def test_a_process_whose_last_consumer_closes_makes_no_producer():
    """Its poll thread may have heard that it was replaced, and left, before another one asks."""
    membership = member_of(consumer("", -1))
    membership.leaves()
    with pytest.raises(Transient, match="this process has left the group"):
        is_replaced(Cluster([]), membership)
