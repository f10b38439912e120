"""The producer: outputs out, acknowledgements back. Knows how kafka-python produces and fails.

Owned by the publish thread.

One record that the broker refuses for good makes kafka-python's idempotent producer fail every
later record of every topic with the same error. So what looks refusable is sent alone by a
producer of its own, and after any failure the producer is replaced and what was not acknowledged
goes out again one by one, in order: only what is refused alone is refused.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import kafka.errors
import structlog
from kafka.serializer import Serializer

from worker.errors import Fatal, Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka import KafkaProducer

    from worker.kafka.clients import Connection
    from worker.kafka.topics import Topic
    from worker.records import Output

log = structlog.get_logger(__name__)

Refusal = Literal["too_large", "timestamp", "invalid"]
"""Why a broker refuses a record for good."""

BATCH_BYTES = 262_144
"""One batch per partition is in flight at a time: 16 KiB, the default, is 8 times slower at 5 ms
round trip; doubling it gains nothing on loopback."""
LINGER_MS = 5
MAX_REQUEST_BYTES = 134_217_728
"""The client refuses above it before compression, while the broker limits the compressed batch:
so it must be far above what a topic takes, or a dead letter cannot be written."""
OVERHEAD_BYTES = 256
"""Upper bound of what a record batch adds around one record's key, value and headers."""

_NULL_KEY = b"\x00null"
_REFUSALS: dict[type[Exception], Refusal] = {
    kafka.errors.MessageSizeTooLargeError: "too_large",
    kafka.errors.RecordListTooLargeError: "too_large",
    kafka.errors.InvalidTimestampError: "timestamp",
    kafka.errors.InvalidRecordError: "invalid",
    kafka.errors.PolicyViolationError: "invalid",
}


_HOPELESS = (
    kafka.errors.AuthorizationError,
    kafka.errors.SaslAuthenticationFailedError,
    kafka.errors.UnsupportedVersionError,
    kafka.errors.InvalidTopicError,
)
"""Errors that a new producer and time do not mend."""


class _NullableKey(Serializer):  # type: ignore[misc]
    """Lets a null key with a null value through, which ``send`` refuses otherwise."""

    def serialize(self, topic: str, headers: object, data: bytes | None) -> bytes | None:  # noqa: ARG002
        return None if data is _NULL_KEY else data


class Sink:
    """Sends outputs in order and says which of them the broker has.

    Args:
        connection: How to reach the cluster.
        topics: The topics that are written, by name.
        compression: Codec of batches, or ``none``.
        delivery_timeout: Seconds after which an output that waits is sent by a new producer.
        outage_limit: Seconds without any acknowledgement after which ``Fatal`` is raised.
        replace: Makes the output that takes a refused one's place.
        on_error: Called with the error's name for every failed send.
        stopping: Whether the process is to give up waiting for the broker.

    Raises:
        Transient: No broker answers.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        topics: dict[str, Topic],
        compression: str,
        delivery_timeout: float,
        outage_limit: float,
        replace: Callable[[Output, Refusal], Output],
        on_error: Callable[[str], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._replace = replace
        self._on_error = on_error
        self._stopping = stopping
        self._outage_limit = outage_limit
        smallest = min(topic.max_message_bytes for topic in topics.values())
        self._options: dict[str, Any] = {
            "acks": "all",
            # Explicit: a setting that conflicts then raises; else it turns idempotence off.
            "enable_idempotence": True,
            "compression_type": None if compression == "none" else compression,
            "linger_ms": LINGER_MS,
            # Above a topic's limit the client splits batches and loses track of their futures.
            "batch_size": min(BATCH_BYTES, smallest),
            "max_request_size": MAX_REQUEST_BYTES,
            "delivery_timeout_ms": int(delivery_timeout * 1_000),
            "request_timeout_ms": min(10_000, int(delivery_timeout * 500)),
            "max_block_ms": 10_000,
            "retry_backoff_ms": 20,
            "key_serializer": _NullableKey(),
            "metrics_enabled": False,
        }
        self._producer: KafkaProducer | None = self._connection.producer(**self._options)
        self._unacknowledged: deque[tuple[Any, Output]] = deque()
        self._acknowledged: list[Output] = []
        self._last_good = time.monotonic()

    def __len__(self) -> int:
        return len(self._unacknowledged)

    def send(self, output: Output) -> None:
        """Hands an output to the producer. Blocks while the broker is away and none is ready.

        Raises:
            Fatal: The outage limit has passed, or nothing can be written.
        """
        if not self._unacknowledged:
            self._last_good = time.monotonic()
        if self._refusable(output):
            self._settle_all()
            self._acknowledged.append(self._send_alone(output))
            return
        future = None
        while future is None:
            try:
                future = _send(self._ready(), output)
            except (kafka.errors.KafkaError, ValueError) as error:
                self._resend(error)
        self._unacknowledged.append((future, output))

    def take_acknowledged(self) -> list[Output]:
        """Outputs that the broker has, in the order they were sent, each once.

        Raises:
            Fatal: As for ``send``.
        """
        self._collect()
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def close(self, *, timeout: float) -> None:
        """Closes the producer; what is not acknowledged by then is not waited for."""
        producer, self._producer = self._producer, None
        if producer is not None:
            _discard(producer, timeout=timeout)

    def _collect(self) -> None:
        queue = self._unacknowledged
        while queue and queue[0][0].is_done:
            future, output = queue[0]
            if future.exception is not None:
                self._resend(future.exception)
                return
            queue.popleft()
            self._last_good = time.monotonic()
            self._acknowledged.append(output)
        if queue:
            self._check_outage()

    def _settle_all(self) -> None:
        while self._unacknowledged:
            self._collect()
            if self._unacknowledged:
                time.sleep(0.001)

    def _resend(self, error: Exception) -> None:
        """Replaces the producer and sends again all that the broker did not acknowledge."""
        pending = [
            output
            for future, output in self._unacknowledged
            if not (future.is_done and future.exception is None)
        ]
        self._acknowledged += [
            output
            for future, output in self._unacknowledged
            if future.is_done and future.exception is None
        ]
        self._unacknowledged.clear()
        name = type(error).__name__
        self._on_error(name)
        log.warning("producer_replaced", error=name, resending=len(pending))
        self.close(timeout=1.0)
        if isinstance(error, kafka.errors.RetriableError):
            # The broker was away and nobody was refused: at full speed again.
            time.sleep(0.1)
            for output in pending:
                self._unacknowledged.append((self._send_when_ready(output), output))
            return
        # The first to fail may be an innocent that shared a batch with the refused one.
        self._require_hope(error)
        for output in pending:
            self._acknowledged.append(self._send_alone(output))

    def _send_alone(self, output: Output) -> Output:
        """Sends one output and waits; returns what the broker took in its place."""
        while True:
            try:
                _send(self._ready(), output).get(timeout=self._outage_limit)
            except (kafka.errors.KafkaError, ValueError) as error:
                self._on_error(type(error).__name__)
                self.close(timeout=1.0)
                refusal = _refusal(error)
                if refusal is not None:
                    output = self._replace(output, refusal)
                else:
                    self._require_hope(error)
                    self._check_outage()
                    time.sleep(0.1)
            else:
                self._last_good = time.monotonic()
                return output

    def _send_when_ready(self, output: Output) -> Any:
        while True:
            try:
                return _send(self._ready(), output)
            except (kafka.errors.KafkaError, ValueError) as error:
                self._require_hope(error)
                self._check_outage()
                self.close(timeout=1.0)

    def _ready(self) -> KafkaProducer:
        while self._producer is None:
            try:
                self._producer = self._connection.producer(**self._options)
            except Transient:
                self._check_outage()
        return self._producer

    def _refusable(self, output: Output) -> bool:
        """Whether the topic's limits, as far as they are known, let the broker refuse it."""
        topic = self._topics[output.topic]
        size = len(output.key or b"") + len(output.value or b"") + OVERHEAD_BYTES
        size += sum(len(name) * 4 + len(value) + 16 for name, value in output.headers)
        if size > topic.max_message_bytes or (topic.compacted and output.key is None):
            return True
        if output.timestamp is None:
            return False
        age = int(time.time() * 1_000) - output.timestamp
        return age > topic.earliest_ms or -age > topic.latest_ms

    def _check_outage(self) -> None:
        if self._stopping():
            raise Transient("the process stops while outputs wait for the broker")
        away = time.monotonic() - self._last_good
        if away > self._outage_limit:
            raise Fatal(
                f"no output was acknowledged for {away:.0f} s (kafka.outage_limit): nothing "
                "unacknowledged was committed; it is read again after a restart"
            )

    def _require_hope(self, error: Exception) -> None:
        if isinstance(error, _HOPELESS):
            raise Fatal(f"outputs cannot be written: {type(error).__name__}: {error}") from error


def _send(producer: KafkaProducer, output: Output) -> Any:
    key = output.key
    if key is None and output.value is None:
        key = _NULL_KEY
    return producer.send(
        output.topic,
        value=output.value,
        key=key,
        headers=output.headers,
        partition=output.partition,
        timestamp_ms=output.timestamp,
    )


def _refusal(error: Exception) -> Refusal | None:
    return next((name for kind, name in _REFUSALS.items() if isinstance(error, kind)), None)


def _discard(producer: KafkaProducer, *, timeout: float) -> None:
    # Told to give up first: close() alone waits for unsent data, raises, and leaves the sender
    # thread alive; a producer that is merely forgotten blocks 1 s in __del__ and silences the
    # client's logger for good.
    sender = producer._sender  # noqa: SLF001 - the client has no public way
    if producer._accumulator.has_incomplete:  # noqa: SLF001
        sender.force_close()
        sender.join(timeout)
    try:
        producer.close(timeout=timeout)
    except kafka.errors.KafkaError as error:
        producer._closed = True  # noqa: SLF001 - nothing is left for __del__ to do
        log.debug("producer_close_failed", error=type(error).__name__)
