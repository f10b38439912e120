"""One consumer as a member of its group, until another consumer replaces it.

Owned by the poll thread. The rebalance listener runs on the client's own IO thread, but only
while the poll thread waits inside `poll` or `close`, so the two never overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import kafka.errors
import structlog
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.base import MemberState

from worker import awake
from worker.kafka.consume import positions
from worker.kafka.consume.portion import Portion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaConsumer, TopicPartition

    from worker.kafka.consume.commits import Commits
    from worker.kafka.consume.leases import Leases
    from worker.kafka.consume.membership import Membership
    from worker.records import Lease

log = structlog.get_logger(__name__)

QUIET_SECONDS = 2.0
"""Longest wait of a revocation for the open transaction. Without the wait nothing is doubled: the
broker refuses the transaction's offsets then, and its records are labelled again elsewhere."""


class Member:
    """A consumer that joins the group.

    Args:
        consumer: Is subscribed here.
        topic: The input topic.
        leases: Follow what the group gives and takes.
        membership: Says whether a transaction is open.
        commits: Commit what is settled before it is taken away.
        before_revocation: Gives, for leases that are about to end, the offsets to commit.
    """

    def __init__(
        self,
        *,
        consumer: KafkaConsumer,
        topic: str,
        leases: Leases,
        membership: Membership,
        commits: Commits,
        before_revocation: Callable[[Iterable[Lease]], dict[Lease, int]],
    ) -> None:
        self.consumer = consumer
        self.portion = Portion(consumer)
        """How much each of its polls returns."""
        self._leases = leases
        self._membership = membership
        self._commits = commits
        self._before_revocation = before_revocation
        self._outside_since: float | None = None
        self.retired = False
        """Whether another consumer has replaced this one: then its rebalances are ignored."""
        consumer.subscribe([topic], listener=_Listener(self))
        membership.joins_with(consumer)

    @property
    def id(self) -> str:
        """Its member id; empty outside the group."""
        member: str = self.consumer.group_metadata().member_id
        return member

    @property
    def settled_in(self) -> bool:
        """Whether it is in the group, and no rebalance is under way."""
        return self.consumer.group_metadata().state is MemberState.STABLE

    def outside(self) -> float:
        """Seconds since the first call that found it not settled in; 0 while it is settled in."""
        if self.settled_in:
            self._outside_since = None
            return 0.0
        now = awake.now()
        if self._outside_since is None:
            self._outside_since = now
        return now - self._outside_since

    def retry_join(self) -> None:
        """Its successor is being made: if that fails, this member has the same time again."""
        if self._outside_since is not None:
            self._outside_since = awake.now()

    def pause(self) -> None:
        """Fetches nothing of any partition; what joins later is to be paused again."""
        running = self.consumer.assignment() - self.consumer.paused()
        if running:
            self.consumer.pause(*running)

    def resume(self) -> None:
        """Fetches of every partition again."""
        self.consumer.resume(*self.consumer.paused())

    def close(self, *, timeout: float) -> None:
        """Leaves the group, unless it is a static member, within about `timeout` seconds."""
        try:
            self.consumer.close(autocommit=False, timeout_ms=max(1, int(timeout * 1_000)))
        except kafka.errors.KafkaError as error:
            log.warning("consumer_close_failed", error=type(error).__name__)

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """The group takes partitions away: commits what is settled. On the client's IO thread."""
        leases = self._leases.of(partition.partition for partition in partitions)
        if not leases:
            return  # eager assignors call this without partitions on the first join
        # Blocks the client's IO thread, whose heartbeats can wait that long.
        self._membership.wait_until_quiet(QUIET_SECONDS)
        offsets = self._before_revocation(self._leases.given_to(self.id, leases))
        if offsets:
            await self._commits.before_revocation(self.consumer, offsets)
        self._leases.end(leases, "revoked")

    def lost(self, partitions: Iterable[TopicPartition]) -> None:
        """The group has taken partitions away already: nothing can be committed."""
        self._leases.end(self._leases.of(each.partition for each in partitions), "lost")

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """The group assigns partitions: each begins a lease. Before the client asks for offsets."""
        positions.forget_late_answers(self.consumer)
        self._leases.assign((each.partition for each in partitions), member=self.id)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Hands a consumer's rebalances to its member; ignores those of a replaced consumer."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if not self._member.retired:
            await self._member.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if not self._member.retired:
            self._member.assigned(assigned)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        if not self._member.retired:
            self._member.lost(lost)
