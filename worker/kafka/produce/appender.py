"""Hands outputs to a producer by a shorter way than its `send`, to the same end.

`KafkaProducer.send` checks again what the worker made itself, estimates sizes, hashes the key byte
by byte, and formats a line for its log even where nobody reads it: two thirds of what sending
costs. Here an ordinary output goes straight to the client's accumulator. All others go through
`send`, which waits, refuses and chooses as it always did.

This file alone relies on how kafka-python 3.0.12 keeps partitions and appends records;
`tests/integration/test_appender.py` pins that, and compares both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kafka import TopicPartition
from kafka.partitioner import murmur2
from kafka.serializer import Serializer

from worker.kafka.produce.refusals import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kafka import KafkaProducer

    from worker.kafka.produce.writer import Sendable

MOST_KEYS = 16_384
"""Keys whose hashes are remembered: 2 to 3 MB. Then all are forgotten."""
MOST_BYTES = 1_048_576
"""Bytes of all those keys."""
LONGEST_KEY = 1_024
"""Bytes of a key that is remembered."""
LARGEST = 1_048_576
"""Bytes of an output; of a larger one the client checks its own limit."""

_NULL_KEY = b"\x00null"


class NullableKey(Serializer):  # type: ignore[misc]
    """Lets a null key with a null value through, which the client's `send` refuses otherwise."""

    def serialize(self, topic: str, headers: object, data: bytes | None) -> bytes | None:  # noqa: ARG002
        return None if data is _NULL_KEY else data


class KeyHashes:
    """What Kafka's default partitioner makes of keys: most topics have them again and again."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._bytes = 0

    def of(self, key: bytes) -> int:
        """The hash of a key, without its sign."""
        known = self._known.get(key)
        if known is not None:
            return known
        found: int = murmur2(key) & 0x7FFF_FFFF
        if len(key) <= LONGEST_KEY:
            if len(self._known) >= MOST_KEYS or self._bytes >= MOST_BYTES:
                self._known.clear()
                self._bytes = 0
            self._known[key] = found
            self._bytes += len(key)
        return found


class _Places(NamedTuple):
    """The partitions of a topic."""

    made_of: Mapping[int, Any]
    ordered: list[TopicPartition]
    numbered: dict[int, TopicPartition]


class Appender:
    """The way to one producer. Owned by the thread that sends.

    Args:
        producer: The client's.
        hashes: Outlives it.
    """

    def __init__(self, producer: KafkaProducer, hashes: KeyHashes) -> None:
        self.producer = producer
        self._hashes = hashes
        self._manager = getattr(producer, "_transaction_manager", None)
        self._places: dict[str, _Places] = {}
        self._added: set[TopicPartition] = set()

    def begin_transaction(self) -> None:
        """Begins a transaction."""
        self._added.clear()
        self.producer.begin_transaction()

    def send(self, output: Sendable) -> Any:
        """Hands an output to the producer; returns its future.

        Raises:
            KafkaError: The producer takes no more.
            ValueError: There is no such partition.
        """
        place = self._place(output)
        if place is None:
            return self._send(output)
        producer, manager = self.producer, self._manager
        if manager is not None and manager.is_transactional():
            if manager.has_error():
                return self._send(output)  # raises the error
            if place not in self._added:
                manager.maybe_add_partition_to_transaction(place)
                self._added.add(place)
        future, is_full, is_new, _ = producer._accumulator.append(  # noqa: SLF001
            place, output.timestamp, output.key, output.value, output.headers
        )
        if is_full or is_new:
            producer._sender.wakeup()  # noqa: SLF001
        return future

    def _place(self, output: Sendable) -> TopicPartition | None:
        """Where an ordinary output belongs; None for any other."""
        key, value = output.key, output.value
        if value is None or size_of(output) > LARGEST:
            return None
        partitions = self.producer._metadata._partitions.get(output.topic)  # noqa: SLF001
        if not partitions:
            return None
        places = self._places.get(output.topic)
        if places is None or places.made_of is not partitions:  # new metadata is a new mapping
            ordered = [TopicPartition(output.topic, number) for number in sorted(partitions)]
            numbered = {place.partition: place for place in ordered}
            places = self._places[output.topic] = _Places(partitions, ordered, numbered)
        if output.partition is not None:
            return places.numbered.get(output.partition)
        if key is None:
            return None
        return places.ordered[self._hashes.of(key) % len(places.ordered)]

    def _send(self, output: Sendable) -> Any:
        key = output.key
        if key is None and output.value is None:
            key = _NULL_KEY
        return self.producer.send(
            output.topic,
            value=output.value,
            key=key,
            headers=output.headers,
            partition=output.partition,
            timestamp_ms=output.timestamp,
        )
