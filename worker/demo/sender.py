"""The thread that sends the stream."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.demo.topics import PHASE, SENT
from worker.errors import Fatal
from worker.kafka.produce.writer import end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kafka import KafkaProducer

    from worker.demo.sentences import Message

TURN_SECONDS = 0.02
"""The longest wait before the thread looks for another pace, or whether it should stop."""
FULL_SECONDS = 0.002
"""Pause while as many messages are on their way as may be."""
CATCH_UP_SECONDS = 1.0
"""How much of a stall is made up for: without a limit a flood would follow it."""
CLOSE_SECONDS = 10.0
"""For the last messages to be acknowledged."""
ABANDON_SECONDS = 1.0
"""For a producer that waits for no message any more, and its thread, to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast to send, and how many."""

    phase: str
    """Written into a header of each message."""
    rate: float | None
    """Messages a second; None: as fast as there is room."""
    until: int | None
    """How many messages are sent in all, those of earlier paces too; None: no end."""
    room: Callable[[], int]
    """How many messages may be on their way: what the worker cannot keep up with waits unsent."""


class Sender:
    """Sends messages at a pace, on a thread of its own, which owns the producer.

    It sends nothing before it gets a pace. Its methods are the main thread's.

    Args:
        producer: A producer; it is closed at the end.
        topic: The input topic.
        messages: What to send, without end.
        settled: How many of those sent have their output; called on the sender's thread.
    """

    def __init__(
        self,
        *,
        producer: KafkaProducer,
        topic: str,
        messages: Iterator[Message],
        settled: Callable[[], int],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._messages = messages
        self._settled = settled
        self._pace: Pace | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self.sent = 0
        """Messages handed to the producer; once the thread has ended well, all are acknowledged."""
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def take(self, pace: Pace | None) -> None:
        """Sends at this pace from now on; None: nothing."""
        self._pace = pace

    def finish(self) -> None:
        """Sends no more messages. Those that were sent are still acknowledged."""
        self._stop.set()

    def close(self) -> None:
        """Finishes and waits until the thread has ended; after 10 s it is abandoned."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)
        self.abandon()

    def abandon(self) -> None:
        """Ends the producer at once, without a wait for messages that are not acknowledged."""
        self._stop.set()
        end(self._producer, timeout=ABANDON_SECONDS)
        if self._thread.ident is not None:
            self._thread.join(ABANDON_SECONDS)

    def ended(self) -> bool:
        """Whether the thread has ended, with every message acknowledged.

        Raises:
            Fatal: A message could not be sent.
        """
        self.check()
        return not self._thread.is_alive()

    def check(self) -> None:
        """Checks that messages could be sent so far.

        Raises:
            Fatal: One could not.
        """
        if self._failure is not None:
            raise Fatal(f"the demo cannot send its messages: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            self._send_all()
            self._producer.flush(timeout=30)
        except Exception as error:  # noqa: BLE001 - a thread's boundary: the owner raises it
            self._refused(error)
        end(self._producer, timeout=ABANDON_SECONDS)

    def _send_all(self) -> None:
        pace, due = None, 0.0
        while not self._stop.is_set() and self._failure is None:
            if self._pace is not pace:
                pace, due = self._pace, time.monotonic()
            if pace is None or (pace.until is not None and self.sent >= pace.until):
                self._stop.wait(TURN_SECONDS)
            elif (wait := due - time.monotonic()) > 0:
                self._stop.wait(min(wait, TURN_SECONDS))
            elif self.sent - self._settled() >= pace.room():
                self._stop.wait(FULL_SECONDS)
            else:
                self._send(next(self._messages), pace.phase)
                if pace.rate is not None:
                    due = max(due + 1 / pace.rate, time.monotonic() - CATCH_UP_SECONDS)

    def _send(self, message: Message, phase: str) -> None:
        sent_ms = time.time_ns() // 1_000_000
        noted = [(SENT, str(sent_ms).encode()), (PHASE, phase.encode())]
        self._producer.send(
            self._topic,
            key=message.key,
            value=message.value,
            headers=[*message.headers, *noted],
        ).add_errback(self._refused)
        self.sent += 1

    def _refused(self, error: Exception) -> None:
        self._failure = self._failure or error
