"""Where a consumer reads on: committed offsets, and what to do if the record there is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kafka.errors
import structlog
from kafka import TopicPartition

from worker.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaConsumer

    from worker.kafka.consume.leases import Leases
    from worker.kafka.consume.member import Member
    from worker.kafka.consume.membership import Membership
    from worker.kafka.consume.start import Start
    from worker.records import Lease

log = structlog.get_logger(__name__)

STALE_SECONDS = 2.0
"""Longest wait before a poll for the open transaction, and for one committed offset."""
START_SECONDS = 5.0
"""Longest wait for a partition's first offset."""

GONE = (kafka.errors.NoOffsetForPartitionError, kafka.errors.OffsetOutOfRangeError)
"""What a consumer with `auto_offset_reset` `none` raises where it cannot read on."""


class Positions:
    """Keeps the member's positions at records that exist and are not settled.

    Args:
        topic: The input topic.
        leases: What is owned; leases whose position moves back begin anew.
        membership: Says whether a transaction is open.
        start: Where the group begins.
        on_expired: Called with how many offsets retention has deleted before they were read.
    """

    def __init__(
        self,
        *,
        topic: str,
        leases: Leases,
        membership: Membership,
        start: Start,
        on_expired: Callable[[int], None],
    ) -> None:
        self._topic = topic
        self._start = start
        self._leases = leases
        self._membership = membership
        self._on_expired = on_expired
        self.cut: kafka.errors.LogTruncationError | None = None
        """A log that lost its last records, and that `mend` has not left yet. The client raises
        it once, to whoever asks first."""

    def of(self, member: Member, lease: Lease) -> int | None:
        """Offset of the next record under the lease; None while it is not known."""
        if not self._leases.holds(lease) or lease.partition in self._leases.stale:
            return None
        try:
            position: int | None = member.consumer.position(
                TopicPartition(self._topic, lease.partition), timeout_ms=0
            )
        except kafka.errors.LogTruncationError as cut:
            self.cut = cut
            return None
        except (kafka.errors.KafkaError, KeyError):
            return None
        return position

    def mend(self, member: Member) -> None:
        """Before a poll: leaves a log that was cut, and moves stale positions back."""
        cut, self.cut = self.cut, None
        if cut is not None:
            self._begin_anew(member, go_back_before_the_cut(member.consumer, cut))
        stale = self._leases.stale
        if not stale:
            return
        if not self._membership.wait_until_quiet(STALE_SECONDS):
            return  # a transaction of ended leases may be moving the committed offsets
        try:
            go_back(member.consumer, self._topic, stale, start=self._start, timeout=STALE_SECONDS)
        except Transient as error:
            log.warning("committed_offsets_awaited", error=str(error))
        else:
            stale.clear()

    def start_again(self, member: Member, gone: Exception) -> None:
        """Leaves positions whose records are gone; `gone` is one of `GONE`.

        Raises:
            Transient: The broker is away; nothing was moved.
        """
        partitions = start_again(
            member.consumer, gone, start=self._start, on_expired=self._on_expired
        )
        self._begin_anew(member, partitions)

    def _begin_anew(self, member: Member, partitions: Iterable[int]) -> None:
        owned = [lease.partition for lease in self._leases.of(partitions)]
        self._leases.begin(owned, member=member.id)


def go_back(
    consumer: KafkaConsumer,
    topic: str,
    partitions: Iterable[int],
    *,
    start: Start,
    timeout: float,
) -> None:
    """Moves positions to the group's committed offsets; each may take `timeout` seconds.

    Where there is none, to the group's start.

    Raises:
        Transient: Not all committed offsets are known; nothing was moved.
    """
    forget_late_answers(consumer)
    assigned = consumer.assignment()
    wanted = [TopicPartition(topic, number) for number in partitions]
    try:
        committed = {
            partition: consumer.committed(partition, timeout_ms=int(timeout * 1_000))
            for partition in wanted
            if partition in assigned
        }
    except kafka.errors.KafkaError as error:
        raise Transient(f"committed offsets are not known: {type(error).__name__}") from error
    begun = [partition for partition, offset in committed.items() if offset is None]
    if begun:
        start.seek(consumer, begun)
    for partition, offset in committed.items():
        if offset is not None:
            consumer.seek(partition, offset)
    log.info("went_back", to={partition.partition: at for partition, at in committed.items()})


def forget_late_answers(consumer: KafkaConsumer) -> None:
    """Makes the client ask for committed offsets anew.

    kafka-python 3.0.12 keeps an answer that came after its request's timeout, and gives it to the
    next request for the same partitions, however much later: outputs would double.
    """
    consumer._coordinator._offset_fetch_futures.clear()  # noqa: SLF001


def go_back_before_the_cut(
    consumer: KafkaConsumer, cut: kafka.errors.LogTruncationError
) -> list[int]:
    """Goes back to where the log of a new leader, which lacks the last records, parts from ours.

    Returns:
        The partitions: what is in flight of them is void.
    """
    for partition, parting in cut.divergent_offsets.items():
        log.error(
            "log_was_cut", partition=partition.partition,
            back_to="start" if parting is None else parting.offset,
        )  # fmt: skip
        if parting is None:
            consumer.seek_to_beginning(partition)
        else:
            consumer.seek(partition, parting.offset)
    return [partition.partition for partition in cut.divergent_offsets]


def start_again(
    consumer: KafkaConsumer,
    gone: Exception,
    *,
    start: Start,
    on_expired: Callable[[int], None],
) -> list[int]:
    """Goes to the earliest record that exists, and logs what was lost on the way.

    A group that has committed nothing goes to its start.

    Args:
        consumer: It raised `gone`, one of `GONE`.
        gone: Names the partitions.
        start: Where the group begins.
        on_expired: Called with how many offsets retention has deleted before they were read.

    Returns:
        The partitions that went back: what is in flight of them is void.

    Raises:
        Transient: The broker is away; nothing was moved.
    """
    (positions,) = gone.args
    if isinstance(gone, kafka.errors.NoOffsetForPartitionError):
        start.seek(consumer, positions)
        return []
    try:
        starts = consumer.beginning_offsets(list(positions), timeout_ms=int(START_SECONDS * 1_000))
    except kafka.errors.KafkaError as error:
        raise Transient(f"the start is not known: {type(error).__name__}") from error
    cut = []
    for partition, position in positions.items():
        expired = starts[partition] - position
        if expired > 0:
            on_expired(expired)
            log.error(
                "records_expired",
                partition=partition.partition,
                first=position,
                records=expired,
                hint="retention deleted them before they were read: add replicas or retention",
            )
        else:
            log.error("log_was_cut", partition=partition.partition, position=position)
            cut.append(partition.partition)
        consumer.seek(partition, starts[partition])
    return cut
