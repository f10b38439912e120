"""What both sinks and redrive use: one producer at a time, and what topics are certain to refuse.

Owned by the thread that sends. One record that the broker refuses for good makes kafka-python's
idempotent producer fail every later record of every topic with the same error, and a producer
whose coordinator was away may hang for ever: so producers are replaced, and the writer keeps what
outlives each of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import kafka.errors
import structlog

from worker import garbage
from worker.errors import Fatal, Transient
from worker.kafka.produce.appender import Appender, KeyHashes, NullableKey
from worker.kafka.produce.forecast import Forecast

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka import KafkaProducer

    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic
    from worker.kafka.produce.outage import Outage

log = structlog.get_logger(__name__)

BATCH_BYTES = 262_144
"""One batch per partition is in flight at a time: 16 KiB, the default, is 8 times slower at 5 ms
round trip; doubling it gains nothing on loopback."""
LINGER_MS = 5
MAX_REQUEST_BYTES = 134_217_728
"""The client refuses larger records, before compression, while the broker limits the compressed
batch: so it must be far above what a topic takes, or a dead letter cannot be written."""

_HOPELESS = (
    kafka.errors.AuthorizationError,
    kafka.errors.SaslAuthenticationFailedError,
    kafka.errors.UnsupportedCompressionTypeError,
    kafka.errors.UnsupportedVersionError,
    kafka.errors.InvalidTopicError,
)
"""Errors against which neither a new producer nor time helps."""


class Sendable(Protocol):
    """What a producer has to know of a record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[str, bytes]]: ...
    @property
    def timestamp(self) -> int | None: ...


class Writer:
    """Makes a producer when one is needed, and ends it when it is of no more use.

    Args:
        connection: How to reach the cluster.
        topics: The topics that are written, by name.
        compression: Codec of batches, or `none`.
        delivery_timeout: Seconds after which an unacknowledged output fails.
        outage: Says when waiting for the broker is to end.
        options: Further options of every producer.
        prepare: Called with every new producer; if it raises, the producer is ended.

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
        outage: Outage,
        options: dict[str, Any] | None = None,
        prepare: Callable[[KafkaProducer], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self.forecast = Forecast(connection=connection, topics=topics, compression=compression)
        self.outage = outage
        self._prepare = prepare
        self._options: dict[str, Any] = {
            "acks": "all",
            # Explicit: a setting that conflicts then raises; else it turns idempotence off.
            "enable_idempotence": True,
            "compression_type": None if compression == "none" else compression,
            "linger_ms": LINGER_MS,
            "max_request_size": MAX_REQUEST_BYTES,
            "delivery_timeout_ms": int(delivery_timeout * 1_000),
            "request_timeout_ms": min(10_000, int(delivery_timeout * 500)),
            "max_block_ms": 10_000,
            "retry_backoff_ms": 20,
            "key_serializer": NullableKey(),
            "metrics_enabled": False,
            **(options or {}),
        }
        self._hashes = KeyHashes()
        self._appender: Appender | None = None
        outage.succeeded()
        self._open()

    @property
    def producer(self) -> KafkaProducer | None:
        """The present one."""
        return self._appender.producer if self._appender is not None else None

    @property
    def last_error(self) -> BaseException | None:
        """The error that made the producer useless; the client's later errors do not say it."""
        manager = getattr(self.producer, "_transaction_manager", None)
        return getattr(manager, "last_error", None)

    def ready(self) -> Appender:
        """The way to a producer that is fit for use. Blocks while the broker is away.

        Raises:
            Fatal: The outage limit has passed, or there cannot be a producer.
            Transient: The process is to stop.
        """
        while self._appender is None:
            try:
                self._open()
            except Transient as error:
                self.outage.check(error)
                time.sleep(0.1)  # a broker that answers and refuses does so at once
        return self._appender

    def discard(self, *, timeout: float, force: bool = False) -> None:
        """Ends the producer; what is not acknowledged by then is not waited for."""
        producer, self._appender = self.producer, None
        if producer is not None:
            end(producer, timeout=timeout, force=force)

    def _open(self) -> None:
        # Above a topic's limit the client splits batches and loses track of their futures.
        sizes = {"batch_size": min(BATCH_BYTES, self.forecast.smallest)}
        producer = self._connection.producer(**self._options | sizes)
        try:
            self._prepare(producer)
        except BaseException:
            end(producer, timeout=1.0, force=True)
            raise
        self._appender = Appender(producer, self._hashes)


def require_hope(error: Exception) -> None:
    """Raises if neither a new producer nor time helps against the error.

    Raises:
        Fatal: Neither helps.
    """
    if isinstance(error, _HOPELESS):
        raise Fatal(f"outputs cannot be written: {type(error).__name__}: {error}") from error


def end(producer: KafkaProducer, *, timeout: float, force: bool = False) -> None:
    """Closes a producer for good, whatever state it is in, within about `timeout` seconds."""
    # The sender gives up first: close() alone waits for unsent data, raises, and leaves the sender
    # thread alive; a producer that is merely forgotten blocks 1 s in __del__ and silences the
    # client's logger for good.
    sender = producer._sender  # noqa: SLF001 - the client has no public way
    if force or producer._accumulator.has_incomplete:  # noqa: SLF001
        sender.force_close()
        sender.join(timeout)
    try:
        producer.close(timeout=timeout)
    except kafka.errors.KafkaError as error:
        producer._closed = True  # noqa: SLF001 - nothing is left for __del__ to do
        log.debug("producer_close_failed", error=type(error).__name__)
    garbage.now()
