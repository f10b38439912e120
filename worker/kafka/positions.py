"""Where a consumer reads on: committed offsets, and what to do where a record is no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kafka.errors
import structlog
from kafka import TopicPartition

from worker.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaConsumer

log = structlog.get_logger(__name__)

START_SECONDS = 5.0
"""Longest wait for a partition's first offset."""

GONE = (kafka.errors.NoOffsetForPartitionError, kafka.errors.OffsetOutOfRangeError)
"""What a consumer without a reset of its own raises where it cannot read on."""


def go_back(
    consumer: KafkaConsumer, topic: str, partitions: Iterable[int], *, timeout: float
) -> None:
    """Moves positions to the group's committed offsets; each may take ``timeout`` seconds.

    Raises:
        Transient: Not all of them are known; nothing was moved.
    """
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
    for partition, offset in committed.items():
        if offset is None:
            consumer.seek_to_beginning(partition)
        else:
            consumer.seek(partition, offset)
    log.info("went_back", to={partition.partition: at for partition, at in committed.items()})


def start_again(
    consumer: KafkaConsumer, gone: Exception, *, on_expired: Callable[[int], None]
) -> None:
    """Goes to the earliest record there is, and says what was lost on the way.

    Args:
        consumer: It raised ``gone``, one of ``GONE``.
        gone: Names the partitions.
        on_expired: Called with how many offsets retention has deleted before they were read.

    Raises:
        Transient: The broker is away; nothing was moved.
    """
    (positions,) = gone.args
    if isinstance(gone, kafka.errors.NoOffsetForPartitionError):
        consumer.seek_to_beginning(*positions)  # a group that has committed nothing
        return
    try:
        starts = consumer.beginning_offsets(list(positions), timeout_ms=int(START_SECONDS * 1_000))
    except kafka.errors.KafkaError as error:
        raise Transient(f"the start is not known: {type(error).__name__}") from error
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
        consumer.seek(partition, starts[partition])
