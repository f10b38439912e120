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
    for partition, offset in committed.items():
        if offset is None:
            consumer.seek_to_beginning(partition)
        else:
            consumer.seek(partition, offset)
    log.info("went_back", to={partition.partition: at for partition, at in committed.items()})


def forget_late_answers(consumer: KafkaConsumer) -> None:
    """Committed offsets are asked for anew.

    kafka-python 3.0.12 keeps an answer that came after its question's timeout, and gives it to
    whoever asks for the same partitions next, however much later: outputs would double.
    """
    consumer._coordinator._offset_fetch_futures.clear()  # noqa: SLF001


def go_back_before_the_cut(
    consumer: KafkaConsumer, cut: kafka.errors.LogTruncationError
) -> list[int]:
    """A leader without the last records took over: goes to where its log parts from what was read.

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
    consumer: KafkaConsumer, gone: Exception, *, on_expired: Callable[[int], None]
) -> list[int]:
    """Goes to the earliest record there is, and says what was lost on the way.

    Args:
        consumer: It raised ``gone``, one of ``GONE``.
        gone: Names the partitions.
        on_expired: Called with how many offsets retention has deleted before they were read.

    Returns:
        The partitions that went back: what is in flight of them is void.

    Raises:
        Transient: The broker is away; nothing was moved.
    """
    (positions,) = gone.args
    if isinstance(gone, kafka.errors.NoOffsetForPartitionError):
        consumer.seek_to_beginning(*positions)  # a group that has committed nothing
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
