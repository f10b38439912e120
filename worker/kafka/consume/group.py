"""The consumer group as this worker joins it: its name, and the options of the client."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog
from kafka.admin import MemberToRemove
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from worker.errors import Transient, WorkerError
from worker.kafka.cluster.access import describe_group
from worker.kafka.cluster.configured import HASTE_SECONDS
from worker.kafka.consume.assignor import Assignor
from worker.kafka.consume.start import Start

if TYPE_CHECKING:
    from worker.kafka.cluster.clients import Connection
    from worker.kafka.consume.membership import Membership

log = structlog.get_logger(__name__)

FETCH_WAIT_MS = 50
"""Longest time that the broker holds a fetch back: waiting for an empty partition delays a busy
one. At the client's default of 500 ms a third of the throughput is left."""
FETCH_PARTITION_BYTES = 1_048_576
"""Most bytes of one partition in a fetch, or one batch of records if that is larger."""
REQUEST_MS = 10_000
"""Longest wait for the group's coordinator: a revocation's commit delays a poll that long."""
JOIN_SECONDS = 15.0
"""Longest time outside the group, or in a rebalance, before the consumer is replaced; at least 5 s
more than the session timeout, for which a rebalance waits for a dead member. Replacing the consumer
in a slow rebalance only makes the rebalance slower."""

ASSIGNORS = {
    "cooperative-sticky": Assignor,
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group, and how this worker is a member of it. Times are in seconds."""

    topic: str
    """The input topic."""
    group_id: str
    instance_id: str | None
    """Name of a static member, which keeps its partitions through a restart; None for a dynamic
    one."""
    assignment: str
    """Name of the strategy by which the group shares partitions."""
    session_timeout: float
    """Time without a heartbeat after which the member counts as dead."""
    heartbeat_interval: float
    max_poll_interval: float
    """Time without a poll after which the member leaves."""
    fetch_max_bytes: int
    """Most bytes of one fetch."""
    start: Start = field(default_factory=Start)
    """Where it begins in a partition for which it has committed nothing."""
    rack: str | None = None
    """Rack of this member: brokers that have a replica there may serve its fetches."""

    @property
    def join_limit(self) -> float:
        """Longest time outside the group before the consumer is replaced."""
        return max(JOIN_SECONDS, self.session_timeout + 5.0)

    def options(self) -> dict[str, Any]:
        """Options of the client."""
        return {
            "group_id": self.group_id,
            "group_instance_id": self.instance_id,
            "enable_auto_commit": False,
            # A position without a record is reported to us, not silently moved: see positions.
            "auto_offset_reset": "none",
            # At least once: an upstream producer's aborted records are no input. Exactly once:
            # only then does a partition's new owner wait for the old one's offsets.
            "isolation_level": "read_committed",
            "partition_assignment_strategy": [ASSIGNORS[self.assignment]],
            "session_timeout_ms": int(self.session_timeout * 1_000),
            "heartbeat_interval_ms": int(self.heartbeat_interval * 1_000),
            "max_poll_interval_ms": int(self.max_poll_interval * 1_000),
            "request_timeout_ms": REQUEST_MS,
            "fetch_max_wait_ms": FETCH_WAIT_MS,
            "fetch_max_bytes": self.fetch_max_bytes,
            "max_partition_fetch_bytes": FETCH_PARTITION_BYTES,
            "client_rack": self.rack or "",
            "metrics_enabled": False,
        }


def replaced(connection: Connection, membership: Membership, *, group: str, name: str) -> bool:
    """Asks the group whether another process has this static member's name by now.

    A process that stood still, or was cut off, may not have heard of it. False outside the group,
    where this client may not ask, and where the brokers cannot answer: they name static members
    from DescribeGroups 4 on, of Kafka 2.4. Any thread: it asks by a client of its own.

    Args:
        connection: How to reach the cluster.
        membership: The member of this process.
        group: Name of the group.
        name: The `group.instance.id` of the member.

    Raises:
        Transient: The group cannot be asked now, or this process has left it.
    """
    if membership.left:
        raise Transient("this process has left the group")
    member = membership.member
    if not member:
        return False
    try:
        hasty = replace(connection, patience=HASTE_SECONDS, thorough=False)
        with contextlib.closing(hasty.admin()) as admin:
            known = describe_group(admin, group)["members"]
    except (kafka.errors.AuthorizationError, kafka.errors.UnsupportedVersionError):
        return False
    except kafka.errors.KafkaError as error:
        raise Transient(f"the group does not answer: {type(error).__name__}") from error
    # A consumer of this process may have joined anew meanwhile.
    return membership.member == member and any(
        each.get("group_instance_id") == name and each["member_id"] != member for each in known
    )


def leave_group(connection: Connection, group: Group, member: str) -> None:
    """Removes a static member from its group, which its consumer does not do when it closes."""
    # With the member id: a successor of the same name is not removed.
    removed = MemberToRemove(member_id=member, group_instance_id=group.instance_id)
    try:
        admin = connection.admin()
        try:
            admin.remove_group_members(group.group_id, [removed])
        finally:
            admin.close()
    except (WorkerError, kafka.errors.KafkaError) as error:
        log.warning("leave_failed", error=str(error))
