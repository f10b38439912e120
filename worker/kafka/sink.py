"""The producer: outputs out, acknowledgements back. Knows how kafka-python produces and fails.

Owned by the publish thread.

One record that the broker refuses for good makes kafka-python's idempotent producer fail every
later record of every topic with the same error. So what the topic's
limits refuse for certain is never sent, what may be too large is sent alone, and after a refusal
nobody foresaw the producer is replaced and the suspects go out again one by one, in order: only
what is refused alone is refused.
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
    from collections.abc import Set as AbstractSet

    from kafka import KafkaProducer

    from worker.kafka.clients import Connection
    from worker.kafka.topics import Topic
    from worker.records import Lease, Output

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
        self._void: frozenset[Lease] = frozenset()
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
        certain = self._foretold(output)
        if certain is not None:
            output = self._replace(output, certain)
        if self._oversized(output):
            self._settle_all()
            self._acknowledged.append(self._send_alone(output))
            return
        try:
            self._unacknowledged.append((_send(self._ready(), output), output))
        except (kafka.errors.KafkaError, ValueError) as error:
            self._resend(error, also=output)

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended: their outputs are not sent again, since another owner may be further."""
        if self._unacknowledged:
            self._void |= leases

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

    def _resend(self, error: Exception, also: Output | None = None) -> None:
        """Replaces the producer and sends again all from the first unacknowledged output on.

        Also those behind it that were acknowledged: without them the order would turn around.
        """
        queue = self._unacknowledged
        while queue and queue[0][0].is_done and queue[0][0].exception is None:
            self._acknowledged.append(queue.popleft()[1])
        entries = [(future.exception, output) for future, output in queue]
        entries += [(error, also)] if also is not None else []
        entries = [entry for entry in entries if entry[1].record.lease not in self._void]
        queue.clear()
        self._void = frozenset()
        name = type(error).__name__
        self._on_error(name)
        log.warning("producer_replaced", error=name, resending=len(entries))
        self.close(timeout=1.0)
        pending = [output for _, output in entries]
        refused = [_refusal(failure) is not None for failure, _ in entries]
        if True in refused:
            # The refused one fails with its own error, an innocent of its batch with another,
            # and all later ones with the refused one's: it is the first such, or close behind.
            first = refused.index(True)
            self._send_all(pending[:first])
            self._settle_all()
            pending = self._find_refused(pending[first:])
        else:
            self._require_hope(error)
            self._check_outage()
            time.sleep(0.1)
        self._send_all(pending)

    def _find_refused(self, pending: list[Output]) -> list[Output]:
        """Sends one by one until one is refused alone; returns those behind it."""
        for at, output in enumerate(pending):
            taken = self._send_alone(output)
            self._acknowledged.append(taken)
            if taken is not output:
                return pending[at + 1 :]
        return []

    def _send_all(self, pending: list[Output]) -> None:
        """Sends in order by one producer; begins again with another if that fails."""
        while True:
            try:
                producer = self._ready()
                sent = [(_send(producer, output), output) for output in pending]
            except (kafka.errors.KafkaError, ValueError) as error:
                self._require_hope(error)
                self._check_outage()
                self.close(timeout=1.0)
                time.sleep(0.1)
            else:
                self._unacknowledged.extend(sent)
                return

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

    def _ready(self) -> KafkaProducer:
        while self._producer is None:
            try:
                self._producer = self._connection.producer(**self._options)
            except Transient:
                self._check_outage()
        return self._producer

    def _foretold(self, output: Output) -> Refusal | None:
        """The verdict where the topic's configuration leaves no doubt of it."""
        topic = self._topics[output.topic]
        if topic.compacted and output.key is None:
            return "invalid"
        if output.timestamp is None:
            return None
        age = int(time.time() * 1_000) - output.timestamp
        outside = age > topic.earliest_ms or -age > topic.latest_ms
        return "timestamp" if outside else None

    def _oversized(self, output: Output) -> bool:
        """Whether the broker may refuse it as too large: it limits what is left of compression."""
        size = len(output.key or b"") + len(output.value or b"") + OVERHEAD_BYTES
        size += sum(len(name) * 4 + len(value) + 16 for name, value in output.headers)
        return size > self._topics[output.topic].max_message_bytes

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
