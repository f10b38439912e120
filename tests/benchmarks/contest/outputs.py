"""Reads a contestant's outputs while it runs, as a `read_committed` reader sees them."""

import json
import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from tests.support.audit import _QUIET

Source = tuple[int, int]
"""An input's partition and offset."""


class Outputs:
    """The first output of each input, from the beginning of the topic on.

    With librdkafka: some microseconds a message, the same for every contestant.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.appended: dict[Source, int] = {}
        """When the broker got each input's first output, in ms."""
        self.labels: dict[int, str] = {}
        """By the input's id."""
        self.moved = time.monotonic()
        """When the last new output was read."""
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{topic}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                **_QUIET,
            }
        )
        self._reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])

    def read(self, timeout: float = 0.1) -> int:
        """Reads what there is; returns how many inputs are answered by now."""
        before = len(self.appended)
        for message in self._reader.consume(2_000, timeout=timeout):
            error = message.error()
            if error is None:
                self._add(message)
            elif not error.retriable() and error.code() != KafkaError._PARTITION_EOF:
                raise AssertionError(f"outputs: {error}")
        if len(self.appended) > before:
            self.moved = time.monotonic()
        return len(self.appended)

    def close(self) -> None:
        self._reader.close()

    def _add(self, message: Any) -> None:
        value = json.loads(message.value())
        source = value["source"]["partition"], value["source"]["offset"]
        self.appended.setdefault(source, message.timestamp()[1])
        self.labels.setdefault(value["id"], value["label"])
