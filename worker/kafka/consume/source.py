"""The consumer: gives records, takes offsets.

Owned by the poll thread. What the client does on its own IO thread is in `member`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog

from worker import awake
from worker.errors import Fatal, Refused, Transient
from worker.kafka.cluster import limits
from worker.kafka.consume import poll_errors
from worker.kafka.consume.commits import Commits
from worker.kafka.consume.group import leave_group
from worker.kafka.consume.leases import Leases
from worker.kafka.consume.member import Member
from worker.kafka.consume.positions import GONE, Positions
from worker.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.kafka.cluster.clients import Connection
    from worker.kafka.consume.group import Group
    from worker.kafka.consume.membership import Membership
    from worker.records import Lease

log = structlog.get_logger(__name__)

JOIN_POLL_SECONDS = 1.0
"""Shortest poll while the member is not settled in its group. The client forgets a join that ends
between two polls, and joins again: with polls of no length, as while paused, it never settles."""


class Source:
    """This worker's place in the consumer group, through one consumer after another.

    Args:
        connection: How to reach the cluster.
        group: The group, and how to be a member of it.
        membership: Shows the other threads who this member is and what it holds.
        before_revocation: Gives, for leases that are about to end, the offsets to commit.
        on_commit: Called with `ok` or `failed` after every commit.
        on_expired: Called with how many offsets retention has deleted before they were read.

    Raises:
        Transient: No broker answers.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        group: Group,
        membership: Membership,
        before_revocation: Callable[[Iterable[Lease]], dict[Lease, int]],
        on_commit: Callable[[str], None],
        on_expired: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._group = group
        self._membership = membership
        self._before_revocation = before_revocation
        self._leases = Leases(membership)
        self._commits = Commits(topic=group.topic, on_commit=on_commit)
        self._positions = Positions(
            topic=group.topic,
            leases=self._leases,
            membership=membership,
            start=group.start,
            on_expired=on_expired,
        )
        self._paused = False
        self._member = self._joining()

    @property
    def leases(self) -> list[Lease]:
        """The partitions owned now."""
        return self._leases.all()

    def poll(self, *, timeout: float, max_records: int, max_bytes: int) -> list[Record]:
        """Records in each partition's order; waits up to `timeout` seconds for the first.

        They have up to `max_bytes` bytes, with the last one perhaps more. What is beyond the limits
        stays in the client, for the next poll.

        Raises:
            Fatal: The client cannot be polled again: a record it cannot read, or no permission.
            Refused: The brokers do not allow the session timeout.
            Transient: The broker is away.
        """
        # Seen: a consumer on a busy machine that never finds its coordinator.
        if self._member.outside() > self._group.join_limit:
            self.rebuild("it does not get into its group")
        member = self._member
        self._positions.mend(member)
        if not member.settled_in:
            timeout = max(timeout, JOIN_POLL_SECONDS)
        try:
            member.portion.allow(max_bytes)
            polled = member.consumer.poll(timeout_ms=int(timeout * 1_000), max_records=max_records)
        except GONE as gone:
            self._positions.start_again(member, gone)
            return []
        except kafka.errors.LogTruncationError as cut:
            self._positions.cut = cut
            return []
        except kafka.errors.RetriableError as error:
            raise Transient(f"the broker is away: {type(error).__name__}") from error
        except kafka.errors.InvalidSessionTimeoutError as error:
            raise Refused(limits.session_refused(self._group.session_timeout)) from error
        except Exception as error:
            # After a codec, CRC or header error the client's next poll() spins for ever at full
            # load and ignores its timeout: this consumer is never polled again.
            raise Fatal(self._explained(error)) from error
        if member.settled_in:
            self._leases.follow(member.id)
        if self._paused:
            member.pause()
        now = awake.now()
        return [
            _record(raw, self._leases.record(partition.partition, raw.offset), now)
            for partition, batch in polled.items()
            if partition.partition not in self._leases.stale
            for raw in batch
        ]

    def take_ended(self) -> list[Lease]:
        """Leases that ended since the last call: what is in flight under them is void."""
        return self._leases.take_ended()

    def take_events(self) -> list[str]:
        """Rebalance events since the last call: `assigned`, `revoked`, `lost`."""
        return self._leases.take_events()

    def pause(self) -> None:
        """Stops fetching; polling goes on, so membership is kept."""
        self._paused = True
        self._member.pause()

    def resume(self) -> None:
        """Fetches again."""
        self._paused = False
        self._member.resume()

    def position(self, lease: Lease) -> int | None:
        """Offset of the next record under the lease; None while it is not known.

        It moves past transaction markers and compaction holes, which no record's offset does.
        """
        return self._positions.of(self._member, lease)

    def commit(self, offsets: dict[Lease, int]) -> bool:
        """Starts a commit of what is this member's; its result goes to `on_commit` later.

        Returns false while none can be started: one is under way, or the group rebalances.
        """
        ours = self._leases.given_to(self._member.id, offsets) if self._member.settled_in else ()
        return self._commits.start(self._member.consumer, {one: offsets[one] for one in ours})

    def commit_now(self, offsets: dict[Lease, int], *, timeout: float) -> None:
        """Commits what is still owned and waits; tries again for `timeout` seconds.

        Raises:
            Transient: The broker did not take it in time.
        """
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            offsets = {lease: o for lease, o in offsets.items() if self._leases.holds(lease)}
            if not offsets:
                return  # they moved on; their new owner reads again what is not committed
            consumer = self._member.consumer
            if self._commits.attempt(consumer, offsets, left=left, poll=self._take_part):
                return

    def rebuild(self, reason: str) -> None:
        """Replaces the consumer by a new one; what is in flight is read again.

        Raises:
            Transient: No broker answers; the old one is kept.
        """
        old = self._member
        old.retry_join()
        # Brokers that have served it before are not examined: that takes longer than a turn may.
        member = self._joining(examine=False)
        old.retired = True
        log.warning("consumer_rebuilt", reason=reason)
        self._leases.end(self.leases, "lost")
        self._member = member
        self._commits.forget()
        self._positions.cut = None
        old.close(timeout=1.0)

    def rewind(self) -> None:
        """Goes back to what the group has committed; what is in flight is void, and read again.

        The leases begin anew at once; the positions go back before the next records come.
        """
        self._leases.rewind(member=self._member.id)

    def close(self, *, timeout: float, leave: bool) -> None:
        """Closes, within about `timeout` seconds.

        Args:
            timeout: In seconds.
            leave: Whether a static member leaves, too; after a failure it waits for its restart.
        """
        member = self._member.id
        self._membership.leaves()
        self._member.close(timeout=timeout)
        if leave and self._group.instance_id is not None and member:
            leave_group(self._connection, self._group, member)

    def _joining(self, *, examine: bool = True) -> Member:
        return Member(
            consumer=self._connection.consumer(examine=examine, **self._group.options()),
            topic=self._group.topic,
            leases=self._leases,
            membership=self._membership,
            commits=self._commits,
            before_revocation=self._before_revocation,
        )

    def _take_part(self, seconds: float) -> None:
        self.poll(timeout=seconds, max_records=1, max_bytes=1)

    def _explained(self, error: Exception) -> str:
        return poll_errors.line(
            error,
            topic=self._group.topic,
            positions={lease.partition: self.position(lease) for lease in self.leases},
            instance_id=self._group.instance_id,
        )


def _record(raw: Any, lease: Lease, now: float) -> Record:
    return Record(
        raw.topic, lease, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers), now
    )
