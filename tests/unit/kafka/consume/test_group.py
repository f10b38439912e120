"""What the client is told of the group, and a static member that leaves it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from kafka.errors import KafkaConnectionError

from worker.errors import Refused, Transient
from worker.kafka.consume.group import FETCH_PARTITION_BYTES, Group, leave_group

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
