"""Which outputs a topic is certain to refuse: by its limits, and by what it refused.

Owned by the thread that sends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.kafka.cluster.configured import limits_now
from worker.kafka.produce.refusals import SizeMemory, foretold
from worker.kafka.produce.times import TimeMemory

if TYPE_CHECKING:
    from worker.errors import Refusal
    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic
    from worker.kafka.produce.writer import Sendable

LOOK_SECONDS = 10.0
"""A topic's limits are read again after a refusal, but not more often."""


class Forecast:
    """What is certain of an output before it is sent.

    Args:
        connection: How to reach the cluster.
        topics: The topics that are written, by name.
        compression: Codec of batches, or `none`.
    """

    def __init__(
        self, *, connection: Connection, topics: dict[str, Topic], compression: str
    ) -> None:
        self._connection = connection
        self._topics = dict(topics)
        self._looked: dict[str, float] = {}
        self._sizes = SizeMemory(compression=compression)
        self._times = TimeMemory()

    @property
    def smallest(self) -> int:
        """The least number of bytes that a topic takes as a batch."""
        return min(topic.max_message_bytes for topic in self._topics.values())

    def refusal(self, output: Sendable) -> Refusal | None:
        """Why the topic is certain to refuse an output; None if it is not."""
        if self._sizes.refuses(output):
            return "too_large"
        if self._times.refuses(output):
            return "timestamp"
        return foretold(self._topics[output.topic], output)

    def oversized(self, output: Sendable) -> bool:
        """Whether the broker is to refuse it as too large, if the limit is what it was."""
        return self._sizes.exceeds(output, self._topics[output.topic].max_message_bytes)

    def refused(self, output: Sendable, refusal: Refusal, *, searched: bool = False) -> None:
        """The topic refused the output: those as large, or as old, are not tried for now.

        Args:
            output: The refused one.
            refusal: Why.
            searched: No broker named it: it was found by sending it alone.
        """
        if refusal != "too_large" or not self.oversized(output):
            self._look_again(output.topic)
        if refusal == "timestamp":
            self._times.refused(output, searched=searched)
        if refusal == "too_large":
            limit = self._topics[output.topic].max_message_bytes
            self._sizes.refused(output, limit=limit)

    def _look_again(self, topic: str) -> None:
        """Nothing foretold a refusal: the topic's limits may be others by now."""
        now = time.monotonic()
        if now - self._looked.get(topic, float("-inf")) >= LOOK_SECONDS:
            self._looked[topic] = now
            self._topics[topic] = limits_now(self._connection, self._topics[topic])
