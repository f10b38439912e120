"""The thread that sends the stream."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kafka import KafkaProducer

    from worker.demo.sentences import Message

TURN_SECONDS = 0.05
"""Longest wait of the source before it looks whether it should stop."""
CATCH_UP_SECONDS = 1.0
"""Of a stall so much is made up for: without a limit a flood would follow it."""
CLOSE_SECONDS = 10.0
"""For the last messages to be acknowledged."""


class Source:
    """Sends messages at a rate, on a thread of its own, which owns the producer.

    Args:
        producer: A producer; it is closed at the end.
        topic: The input topic.
        messages: What to send; the thread ends with it.
        rate: Messages a second.
        may_send: Whether there is room for more: what the worker cannot keep up with waits here.
    """

    def __init__(
        self,
        *,
        producer: KafkaProducer,
        topic: str,
        messages: Iterator[Message],
        rate: float,
        may_send: Callable[[], bool],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._messages = messages
        self._rate = rate
        self._may_send = may_send
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self.sent = 0
        """Handed to the producer; all are acknowledged once the thread has ended well."""
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """No more messages. Those that were sent are still acknowledged."""
        self._stop.set()

    def close(self) -> None:
        """Finishes, and waits until the thread has ended."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)

    def ended(self) -> bool:
        """Whether everything is sent and acknowledged.

        Raises:
            Fatal: A message could not be sent.
        """
        if self._failure is not None:
            raise Fatal(f"the demo cannot send its messages: {self._failure}") from self._failure
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._send_all()
            self._producer.flush(timeout=30)
        except Exception as error:  # noqa: BLE001 - a thread's boundary: the owner raises it
            self._refused(error)
        try:
            self._producer.close(timeout=5)
        except Exception as error:  # noqa: BLE001 - likewise
            self._refused(error)

    def _send_all(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set() and self._failure is None:
            wait = due - time.monotonic()
            if wait > 0 or not self._may_send():
                self._stop.wait(min(max(wait, 0.001), TURN_SECONDS))
                continue
            message = next(self._messages, None)
            if message is None:
                return
            self._send(message)
            due = max(due + 1 / self._rate, time.monotonic() - CATCH_UP_SECONDS)

    def _send(self, message: Message) -> None:
        self._producer.send(
            self._topic, key=message.key, value=message.value, headers=list(message.headers)
        ).add_errback(self._refused)
        self.sent += 1

    def _refused(self, error: Exception) -> None:
        self._failure = self._failure or error
