"""Input for chaos runs: numbered messages, each exactly once, as fast as is asked for."""

import json
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

_QUIET = {"log_level": 2, "error_cb": lambda _: None}  # brokers are away on purpose here
_PIECE = 500


class Feeder:
    """Produces messages 0 … total-1 to a topic, up to the number it is told.

    Idempotent and acknowledged by all in-sync replicas, so that the input is exact. Partitions
    are chosen as the worker's client does it: a key's inputs and outputs share a number. ``text``
    makes a message's text of its number.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        total: int,
        *,
        keys: int = 500,
        text: Callable[[int], str] = "n {}".format,
    ) -> None:
        self.total = total
        self.sent = 0
        self._topic = topic
        self._keys = keys
        self._text = text
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                **_QUIET,
            }
        )

    def feed(self, up_to: int) -> None:
        """Sends at most one piece; waits for nothing."""
        for number in range(self.sent, min(up_to, self.total, self.sent + _PIECE)):
            self._producer.produce(
                self._topic,
                json.dumps({"text": self._text(number), "id": number}).encode(),
                b"key-%d" % (number % self._keys),
                on_delivery=self._delivered,
            )
            self.sent = number + 1
        self._producer.poll(0)

    def finish(self) -> None:
        """Waits until all is acknowledged."""
        left = self._producer.flush(120)
        assert not left, f"the input itself: {left} messages are not acknowledged"
        assert not self._failed, f"the input itself was refused: {self._failed[:3]}"

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(str(error))
