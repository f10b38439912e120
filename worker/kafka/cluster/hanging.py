"""Finds transactions that hang, and names the producer of each. Owned by the watch thread.

A `read_committed` reader gets no further than the last stable offset, which stays at the first open
transaction. Kafka itself can lose a transaction's end when brokers crash; then that offset never
moves again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from worker.errors import Transient
from worker.kafka.cluster import features

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.kafka.cluster.topics import TopicDesk

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
"""Pause between looks, or half of `after` if that is shorter: two requests for each topic."""
LONGEST_STEP = 60.0
"""Most seconds that are counted between two answers: while no broker answers, no transaction can
end."""


class TopicPart(NamedTuple):
    """A partition of any topic."""

    topic: str
    partition: int


class Ends(NamedTuple):
    """Where a partition ends."""

    stable: int
    """The last stable offset: what `read_committed` readers may read."""
    end: int
    """Offset of the next record."""


class Hanging:
    """Follows partitions' last stable offsets. Pure: time is an argument.

    Args:
        after: Seconds for which the offset may stand still, though records follow it; after them
            a transaction hangs.
    """

    def __init__(self, *, after: float) -> None:
        self._after = after
        self._asked: float | None = None
        self._stuck: dict[TopicPart, tuple[int, float]] = {}  # (stable offset, seconds)

    def update(self, ends: Mapping[TopicPart, Ends], now: float) -> dict[TopicPart, int]:
        """The last stable offsets of the partitions in which a transaction hangs.

        Args:
            ends: Of all partitions; those that are gone are forgotten.
            now: Seconds of any monotonic clock.
        """
        step = 0.0 if self._asked is None else min(now - self._asked, LONGEST_STEP)
        self._asked = now
        before, self._stuck = self._stuck, {}
        for partition, (stable, end) in ends.items():
            if stable >= end:
                continue
            last, seconds = before.get(partition, (-1, 0.0))
            self._stuck[partition] = (stable, seconds + step if last == stable else 0.0)
        return {p: at for p, (at, seconds) in self._stuck.items() if seconds > self._after}


class TransactionWatch:
    """Logs and counts partitions whose `read_committed` readers wait for a transaction that hangs.

    Args:
        desk: Asks the cluster.
        after: Seconds after which an open transaction hangs.
        on_change: Called after each look with the number of partitions in which one hangs.
    """

    def __init__(self, *, desk: TopicDesk, after: float, on_change: Callable[[int], None]) -> None:
        self._desk = desk
        self._on_change = on_change
        self._hanging = Hanging(after=after)
        self._pause = min(LOOK_SECONDS, after / 2)
        self._next_look = 0.0
        self._logged: set[TopicPart] = set()

    def look(self, topics: Mapping[str, int]) -> None:
        """Looks at these topics' partitions, if it is time to.

        Args:
            topics: Names, and how many partitions each has.

        Raises:
            Transient: No broker answers.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._pause
        ends: dict[TopicPart, Ends] = {}
        for topic, partitions in topics.items():
            ends |= self._ends(topic, partitions)
        found = self._hanging.update(ends, now)
        for partition in found.keys() - self._logged:
            self._log(partition, found[partition])
        for partition in self._logged - found.keys():
            log.info("hanging_transaction_ended", **partition._asdict())
        self._logged = set(found)
        self._on_change(len(found))

    def _ends(self, topic: str, partitions: int) -> dict[TopicPart, Ends]:
        wanted = {TopicPartition(topic, number): OffsetSpec.LATEST for number in range(partitions)}

        def ask(isolation: str) -> Any:
            return self._desk.ask(
                lambda admin: admin.list_partition_offsets(
                    wanted, isolation_level=isolation, timeout_ms=5_000
                )
            )

        try:
            # In this order: what is written between the two questions is no open transaction.
            end, stable = ask("read_uncommitted"), ask("read_committed")
        except kafka.errors.AuthorizationError:
            return {}  # an output topic: it can be written all the same
        return {
            TopicPart(topic, at.partition): Ends(stable[at].offset, end[at].offset)
            for at in wanted
            if at in stable and at in end
        }

    def _log(self, partition: TopicPart, offset: int) -> None:
        unknown: dict[str, int | None] = {"producer_id": None}
        log.warning(
            "hanging_transaction",
            **partition._asdict(),
            start_offset=offset,
            **(self._producer(TopicPartition(*partition), offset) or unknown),
            help="deploy/runbooks.md#a-hanging-transaction",
        )

    def _producer(self, at: TopicPartition, offset: int) -> dict[str, int | None] | None:
        """The producer whose transaction is open at the offset; None where it is not known."""
        try:
            if not features.offered(self._desk.offers(), features.DESCRIBE_PRODUCERS):
                return None
            states = self._desk.ask(lambda admin: admin.describe_producers([at]))
        except (Transient, kafka.errors.KafkaError) as error:
            log.debug("producers_unknown", error=str(error))
            return None
        for state in states[at].active_producers:
            if state.current_transaction_start_offset == offset:
                return {
                    "producer_id": state.producer_id,
                    "producer_epoch": state.producer_epoch,
                    "coordinator_epoch": state.coordinator_epoch,
                }
        return None
