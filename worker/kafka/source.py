"""The consumer: records in, offsets back. The only file that knows how kafka-python consumes.

Owned by the poll thread. The rebalance listener runs on the client's own IO thread, but only
while the poll thread waits inside ``poll`` or ``close``, so the two never overlap.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.admin import MemberToRemove
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.coordinator.base import MemberState
from kafka.structs import OffsetAndMetadata

from worker.errors import Fatal, Transient
from worker.kafka import positions
from worker.kafka.assignor import Assignor
from worker.kafka.clients import unreadable
from worker.kafka.leases import Leases
from worker.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaConsumer

    from worker.kafka.clients import Connection
    from worker.kafka.membership import Membership
    from worker.records import Lease

log = structlog.get_logger(__name__)

FETCH_WAIT_MS = 50
"""Longest that the broker holds a fetch back: an empty partition's wait delays a hot one.
At the client's default of 500 ms a third of the throughput is left."""


JOIN_SECONDS = 15.0
"""Longest time outside the group, or in a rebalance, before the consumer is replaced; 5 s more than
the session timeout where that is longer, for which a rebalance waits for a dead member. Replacing
the consumer in a slow one only makes it slower."""

STALE_SECONDS = 2.0
"""Longest wait before a poll for the open transaction, and for one committed offset."""
REQUEST_MS = 10_000
"""Longest wait for an answer of the group's coordinator: a revocation's commit holds a poll up."""
JOIN_POLL_SECONDS = 1.0
"""Shortest poll while the member is not settled in its group. The client forgets a join that ends
between two polls, and joins again: with polls of no length, as while paused, for ever."""
QUIET_SECONDS = 2.0
"""Longest wait of a revocation for the open transaction. Nothing is doubled without it: the
broker refuses the transaction's offsets then, and its records are labelled again elsewhere."""

ASSIGNORS = {
    "cooperative-sticky": Assignor,
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}

_REBALANCING = (kafka.errors.RebalanceInProgressError, kafka.errors.CommitFailedError)


class Source:
    """One member of the consumer group.

    Args:
        connection: How to reach the cluster.
        topic: The input topic.
        group_id: The consumer group.
        instance_id: Name of a static member, which keeps its partitions through a restart; None
            for a dynamic one.
        assignment: Name of the strategy by which the group shares partitions.
        membership: Told who this member is and what it holds.
        transactional: Offsets are committed by transactions, never here.
        session_timeout: Seconds without a heartbeat after which the member counts as dead.
        heartbeat_interval: Seconds between heartbeats.
        max_poll_interval: Seconds between polls after which the member leaves.
        fetch_max_bytes: Most bytes of one fetch.
        settled: Tells, for leases that are about to end, the offset that is safe to commit.
        on_commit: Called with ``ok`` or ``failed`` after every commit.
        on_expired: Called with how many offsets retention has deleted before they were read.

    Raises:
        Transient: No broker answers.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        topic: str,
        group_id: str,
        instance_id: str | None,
        assignment: str,
        membership: Membership,
        transactional: bool,
        session_timeout: float,
        heartbeat_interval: float,
        max_poll_interval: float,
        fetch_max_bytes: int,
        settled: Callable[[Iterable[Lease]], dict[Lease, int]],
        on_commit: Callable[[str], None],
        on_expired: Callable[[int], None],
    ) -> None:
        self._topic = topic
        self._group_id = group_id
        self._instance_id = instance_id
        self._membership = membership
        self._transactional = transactional
        self._settled = settled
        self._on_commit = on_commit
        self._on_expired = on_expired
        self._leases = Leases(membership)
        self._paused = False
        self._commit_pending = False
        self._connection = connection
        self._unsettled_since: float | None = None
        self._join_limit = max(JOIN_SECONDS, session_timeout + 5.0)
        self._cut: kafka.errors.LogTruncationError | None = None
        self._options: dict[str, Any] = {
            "group_id": group_id,
            "group_instance_id": instance_id,
            "enable_auto_commit": False,
            # A position without records is told to us, not moved in silence: see positions.
            "auto_offset_reset": "none",
            # Also without transactions of our own: an upstream's aborted records are no input.
            # With them: only then a partition's new owner waits for its old one's offsets.
            "isolation_level": "read_committed",
            "partition_assignment_strategy": [ASSIGNORS[assignment]],
            "session_timeout_ms": int(session_timeout * 1_000),
            "heartbeat_interval_ms": int(heartbeat_interval * 1_000),
            "max_poll_interval_ms": int(max_poll_interval * 1_000),
            "request_timeout_ms": REQUEST_MS,
            "fetch_max_wait_ms": FETCH_WAIT_MS,
            "fetch_max_bytes": fetch_max_bytes,
            "metrics_enabled": False,
        }
        self._consumer = self._joining()

    @property
    def leases(self) -> list[Lease]:
        """The partitions owned now."""
        return self._leases.all()

    def poll(self, *, timeout: float, max_records: int) -> list[Record]:
        """Records in each partition's order; waits up to ``timeout`` seconds for the first.

        Raises:
            Fatal: The client cannot be polled again: a record it cannot read, or no permission.
            Transient: The broker is away.
        """
        self._watch_the_join()
        self._leave_the_cut()
        self._leave_stale_positions()
        if not self._settled_in():
            timeout = max(timeout, JOIN_POLL_SECONDS)
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout * 1_000), max_records=max_records)
        except positions.GONE as gone:
            self._begin_anew(
                positions.start_again(self._consumer, gone, on_expired=self._on_expired)
            )
            return []
        except kafka.errors.LogTruncationError as cut:
            self._cut = cut
            return []
        except kafka.errors.RetriableError as error:
            raise Transient(f"the broker is away: {type(error).__name__}") from error
        except Exception as error:
            # After a codec, CRC or header error the client's next poll() spins for ever at full
            # load and ignores its timeout: this consumer is never polled again.
            raise Fatal(self._explained(error)) from error
        if self._settled_in():
            self._leases.follow(self._member_id())
        if self._paused:
            self._apply_pause()
        now = time.monotonic()
        return [
            self._record(raw, self._leases.record(partition.partition, raw.offset), now)
            for partition, batch in polled.items()
            if partition.partition not in self._leases.stale
            for raw in batch
        ]

    def take_ended(self) -> list[Lease]:
        """Leases that ended since the last call: what is in flight under them is void."""
        return self._leases.take_ended()

    def take_events(self) -> list[str]:
        """Rebalance events since the last call: ``assigned``, ``revoked``, ``lost``."""
        return self._leases.take_events()

    def pause(self) -> None:
        """Stops fetching; polling goes on, so membership is kept."""
        self._paused = True
        self._apply_pause()

    def resume(self) -> None:
        """Fetches again."""
        self._paused = False
        self._consumer.resume(*self._consumer.paused())

    def position(self, lease: Lease) -> int | None:
        """Offset of the next record under the lease; None while it is not known.

        It moves past transaction markers and compaction holes, which no record's offset does.
        """
        if not self._leases.holds(lease) or lease.partition in self._leases.stale:
            return None
        try:
            position: int | None = self._consumer.position(
                TopicPartition(self._topic, lease.partition), timeout_ms=0
            )
        except kafka.errors.LogTruncationError as cut:
            self._cut = cut  # told once, to whoever asks first
            return None
        except (kafka.errors.KafkaError, KeyError):
            return None
        return position

    def commit(self, offsets: dict[Lease, int]) -> bool:
        """Starts a commit and returns at once; false while there can be none.

        There can be none while the one before is under way, nor in a rebalance. Its result is
        told to ``on_commit`` during a later poll.
        """
        if self._commit_pending or not self._settled_in():
            return False
        self._commit_pending = True
        self._consumer.commit_async(self._structs(offsets), callback=self._committed)
        return True

    def commit_now(self, offsets: dict[Lease, int], *, timeout: float) -> None:
        """Commits and waits; tries again until ``timeout`` seconds have passed.

        Raises:
            Transient: The broker did not take it in time, or the partitions are gone.
        """
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            offsets = {lease: o for lease, o in offsets.items() if self._leases.holds(lease)}
            if not offsets:
                return  # they moved on; their new owner reads again what is not committed
            try:
                self._consumer.commit(self._structs(offsets), timeout_ms=max(1, int(left * 1_000)))
            except _REBALANCING as error:
                # Another replica leaves at the same time: the commit can follow the rebalance.
                if left <= 0:
                    self._on_commit("failed")
                    raise Transient("the last commit did not get past a rebalance") from error
                self.poll(timeout=min(0.1, left), max_records=1)
            except kafka.errors.RetriableError as error:
                # The client's own timeout does not cover a refused connection.
                if left <= 0:
                    self._on_commit("failed")
                    raise Transient("the last commit was not acknowledged in time") from error
                time.sleep(min(0.1, max(left, 0.0)))
            except kafka.errors.KafkaError as error:
                self._on_commit("failed")
                raise Transient(f"the last commit failed: {type(error).__name__}") from error
            else:
                self._on_commit("ok")
                return

    def rebuild(self, reason: str) -> None:
        """Replaces the consumer by a new one; what is in flight is read again.

        Raises:
            Transient: No broker answers; the old one is kept.
        """
        # Not examined why, where none answers: these brokers have served this client before, and
        # that takes longer than a turn of the poll loop may.
        consumer = self._joining(examine=False)
        log.warning("consumer_rebuilt", reason=reason)
        self._leases.end(self.leases, "lost")
        old, self._consumer = self._consumer, consumer
        self._commit_pending, self._cut = False, None
        try:
            old.close(autocommit=False, timeout_ms=1_000)
        except kafka.errors.KafkaError as error:
            log.warning("consumer_close_failed", error=type(error).__name__)

    def rewind(self) -> None:
        """Goes back to what the group has committed; what is in flight is void, and read again.

        At once for the leases; the positions follow before the next records come.
        """
        owned = [lease.partition for lease in self.leases]
        self._leases.begin(owned, member=self._member_id())
        self._leases.stale |= set(owned)

    def close(self, *, timeout: float, leave: bool) -> None:
        """Closes, within about ``timeout`` seconds.

        Args:
            timeout: In seconds.
            leave: Whether a static member, too, gives its partitions up at once. After a failure
                it keeps them for its restart.
        """
        member = self._member_id()
        try:
            self._consumer.close(autocommit=False, timeout_ms=max(1, int(timeout * 1_000)))
        except kafka.errors.KafkaError as error:
            log.warning("consumer_close_failed", error=type(error).__name__)
        if leave and self._instance_id is not None and member:
            self._leave(member)

    def _leave(self, member: str) -> None:
        """Takes a static member out of its group, which its consumer does not when it closes."""
        # With the member id: a successor of the same name is not thrown out.
        removed = MemberToRemove(member_id=member, group_instance_id=self._instance_id)
        try:
            admin = self._connection.admin()
            try:
                admin.remove_group_members(self._group_id, [removed])
            finally:
                admin.close()
        except (Transient, kafka.errors.KafkaError) as error:
            log.warning("leave_failed", error=str(error))

    def _joining(self, *, examine: bool = True) -> KafkaConsumer:
        consumer = self._connection.consumer(examine=examine, **self._options)
        self._listener = _Listener(self)
        consumer.subscribe([self._topic], listener=self._listener)
        self._membership.joins_with(consumer)
        return consumer

    def _watch_the_join(self) -> None:
        """Seen: a consumer on a busy machine that never learns who its coordinator is."""
        now = time.monotonic()
        if self._settled_in():
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = now
        elif now - self._unsettled_since > self._join_limit:
            self._unsettled_since = now
            self.rebuild("it does not get into its group")

    def listens(self, listener: object) -> bool:
        """Whether a listener belongs to the consumer in use."""
        return listener is self._listener

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """The group takes partitions away: commits what is settled. On the client's IO thread."""
        leases = self._leases.of(partition.partition for partition in partitions)
        if not leases:
            return  # eager assignors say so on the first join
        if self._transactional:
            # On the client's own thread, whose heartbeats can wait for so long.
            self._membership.wait_until_quiet(QUIET_SECONDS)
        elif offsets := self._settled(self._leases.given_to(self._member_id(), leases)):
            try:
                await self._consumer.commit_async(self._structs(offsets))
                self._on_commit("ok")
            except kafka.errors.KafkaError as error:
                self._on_commit("failed")
                log.warning("commit_on_revoke_failed", error=type(error).__name__)
        self._leases.end(leases, "revoked")

    def lost(self, partitions: Iterable[TopicPartition]) -> None:
        """The group took partitions away already: nothing can be committed."""
        self._leases.end(self._leases.of(each.partition for each in partitions), "lost")

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """The group gives partitions: each begins a lease. Before the client asks where."""
        positions.forget_late_answers(self._consumer)
        self._leases.assign((each.partition for each in partitions), member=self._member_id())

    def _leave_the_cut(self) -> None:
        cut, self._cut = self._cut, None
        if cut is not None:
            self._begin_anew(positions.go_back_before_the_cut(self._consumer, cut))

    def _begin_anew(self, partitions: Iterable[int]) -> None:
        owned = [lease.partition for lease in self._leases.of(partitions)]
        self._leases.begin(owned, member=self._member_id())

    def _leave_stale_positions(self) -> None:
        stale = self._leases.stale
        if not stale:
            return
        if self._transactional and not self._membership.wait_until_quiet(STALE_SECONDS):
            return  # a transaction of ended leases may be moving the committed offsets
        try:
            positions.go_back(self._consumer, self._topic, stale, timeout=STALE_SECONDS)
        except Transient as error:
            log.warning("committed_offsets_awaited", error=str(error))
        else:
            stale.clear()

    def _settled_in(self) -> bool:
        return self._consumer.group_metadata().state is MemberState.STABLE

    def _member_id(self) -> str:
        member: str = self._consumer.group_metadata().member_id
        return member

    def _record(self, raw: Any, lease: Lease, now: float) -> Record:
        return Record(
            raw.topic, lease, raw.offset, raw.timestamp, raw.key, raw.value,
            tuple(raw.headers), now,
        )  # fmt: skip

    def _apply_pause(self) -> None:
        running = self._consumer.assignment() - self._consumer.paused()
        if running:
            self._consumer.pause(*running)

    def _structs(self, offsets: dict[Lease, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(self._topic, lease.partition): OffsetAndMetadata(offset, "", -1)
            for lease, offset in offsets.items()
        }

    def _committed(self, _offsets: object, response: object) -> None:
        self._commit_pending = False
        failed = isinstance(response, Exception)
        self._on_commit("failed" if failed else "ok")
        if failed:
            # Nothing is lost: the next commit carries these offsets too.
            log.warning("commit_failed", error=type(response).__name__)

    def _explained(self, error: Exception) -> str:
        if isinstance(error, kafka.errors.FencedInstanceIdError):
            return (
                f"fenced: another worker is the group's static member {self._instance_id}; "
                "kafka.replica_id must be its own for every worker; nothing is lost"
            )
        line = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if not unreadable(error):
            return f"topic {self._topic} cannot be consumed: {line}"
        at = ", ".join(
            f"partition {lease.partition} offset {position}"
            for lease in self.leases
            if (position := self.position(lease)) is not None
        )
        return (
            f"topic {self._topic} has a record that cannot be read: {line}; "
            f"next to read: {at or 'unknown'}; see deploy/runbooks.md#a-record-that-cannot-be-read"
        )


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Hands a consumer's rebalances to its source; those of a replaced consumer to nobody."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if self._source.listens(self):
            await self._source.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if self._source.listens(self):
            self._source.assigned(assigned)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        if self._source.listens(self):
            self._source.lost(lost)
