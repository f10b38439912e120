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
"""Longest wait of the source before it looks for another pace, or whether it should stop."""
FULL_SECONDS = 0.002
"""Pause where as many are on their way as may be."""
CATCH_UP_SECONDS = 1.0
"""Of a stall so much is made up for: without a limit a flood would follow it."""
CLOSE_SECONDS = 10.0
"""For the last messages to be acknowledged."""
ABANDON_SECONDS = 1.0
"""For a producer, and the thread that waits for it, to end where nothing is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How to send."""

    phase: str
    """Is noted on each message."""
    rate: float | None
    """Messages a second; None: as fast as there is room."""
    until: int | None
    """Messages in all after which to send no more; None: no end."""
    room: Callable[[], int]
    """Messages that may be on their way; what the worker cannot keep up with waits unsent."""


class Source:
    """Sends messages on a thread of its own, which owns the producer.

    It begins with nothing to do, and does what the last pace says.

    Args:
        producer: A producer; it is closed at the end.
        topic: The input topic.
        messages: What to send; there is always one more.
        settled: How many of those sent have their output.
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
        """Handed to the producer; all are acknowledged once the thread has ended well."""
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, pace: Pace | None) -> None:
        """Sends like this from now on; None: nothing."""
        self._pace = pace

    def finish(self) -> None:
        """No more messages. Those that were sent are still acknowledged."""
        self._stop.set()

    def close(self) -> None:
        """Finishes, and waits until the thread has ended: for a while, then it is abandoned."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)
        self.abandon()

    def abandon(self) -> None:
        """Ends the producer at once. What is not acknowledged by now is no longer waited for."""
        self._stop.set()
        end(self._producer, timeout=ABANDON_SECONDS)
        if self._thread.ident is not None:
            self._thread.join(ABANDON_SECONDS)

    def ended(self) -> bool:
        """Whether everything is sent and acknowledged.

        Raises:
            Fatal: A message could not be sent.
        """
        self.check()
        return not self._thread.is_alive()

    def check(self) -> None:
        """Makes sure that messages can be sent.

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
