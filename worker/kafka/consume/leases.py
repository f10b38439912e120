"""Which partitions this member owns, and under which lease. Pure but for updating the membership.

Owned by the source: changed by the poll thread, and by the client's IO thread inside its polls.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import structlog

from worker.errors import Fatal
from worker.records import Lease

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.kafka.consume.membership import Membership

log = structlog.get_logger(__name__)


class Leases:
    """The leases in force, those that ended, and what happened to them.

    Args:
        membership: Gets the leases at every change.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._epochs = count(1)
        self._held: dict[int, Lease] = {}
        self._members: dict[Lease, str] = {}
        self._next: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._ended: list[Lease] = []
        self._events: list[str] = []
        self.stale: set[int] = set()
        """Partitions whose position has to go back, because it is beyond records that are no longer
        in flight: they were revoked and assigned again at once, as eager assignors do, or are to be
        rewound. Otherwise those records would never be read."""

    def all(self) -> list[Lease]:
        """The leases in force."""
        return list(self._held.values())

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is in force."""
        return self._held.get(lease.partition) == lease

    def of(self, partitions: Iterable[int]) -> list[Lease]:
        """The leases of these partitions that are in force."""
        return [self._held[number] for number in partitions if number in self._held]

    def take_ended(self) -> list[Lease]:
        """Leases that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def take_events(self) -> list[str]:
        """What happened since the last call: `assigned`, `revoked`, `lost`."""
        events, self._events = self._events, []
        return events

    def assign(self, partitions: Iterable[int], *, member: str) -> None:
        """The group gives partitions to the member of this id."""
        numbers = set(partitions)
        self.stale |= numbers & self._given_up
        self._given_up.clear()
        self.begin(numbers, member=member)
        self._events.append("assigned")
        log.info("partitions_assigned", owned=sorted(self._held))

    def begin(self, partitions: Iterable[int], *, member: str) -> None:
        """A new lease for each; one in force ends."""
        for number in list(partitions):
            if number in self._held:
                self._ended.append(self._held.pop(number))
            lease = self._held[number] = Lease(number, next(self._epochs))
            self._members[lease] = member
            self._next.pop(number, None)
        self._publish()

    def given_to(self, member: str, leases: Iterable[Lease]) -> list[Lease]:
        """Those of the leases that were given to this member; others may have a new owner."""
        return [lease for lease in leases if self._members.get(lease) == member]

    def follow(self, member: str) -> None:
        """Begins anew the leases that an earlier member of this process was given.

        A member that stood still in the middle of a join is removed from the group without notice:
        it comes back as another member, and keeps partitions that others owned meanwhile.
        """
        inherited = [at for at, lease in self._held.items() if self._members[lease] != member]
        if inherited:
            log.warning("partitions_inherited", partitions=sorted(inherited))
            self.stale |= set(inherited)
            self.begin(inherited, member=member)

    def rewind(self, *, member: str) -> None:
        """Begins every lease anew, and marks its position to go back."""
        owned = list(self._held)
        self.begin(owned, member=member)
        self.stale |= set(owned)

    def end(self, leases: list[Lease], event: str) -> None:
        """The leases were `revoked` or `lost`."""
        for lease in leases:
            del self._held[lease.partition]
            self._given_up.add(lease.partition)
            self.stale.discard(lease.partition)
        self._publish()
        self._ended += leases
        self._events.append(event)
        log.info("partitions_given_up", how=event, partitions=[lease.partition for lease in leases])

    def record(self, partition: int, offset: int) -> Lease:
        """The lease of a record that was read.

        Raises:
            Fatal: The partition has no lease.
        """
        lease = self._held.get(partition)
        if lease is None:
            raise Fatal(f"a record of partition {partition} came without an assignment")
        if offset < self._next.get(partition, 0):
            # The log was cut below what was read, and the client went back and started again.
            log.warning("partition_went_back", partition=partition, offset=offset)
            self.begin([partition], member=self._members[lease])
            lease = self._held[partition]
        self._next[partition] = offset + 1
        return lease

    def _publish(self) -> None:
        self._members = {lease: self._members[lease] for lease in self._held.values()}
        self._membership.holds(self._members)
