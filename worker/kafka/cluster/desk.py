"""Questions to the cluster through an admin client, which reconnects when it has to."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

import kafka.errors
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from worker.errors import Refused, Transient
from worker.kafka.cluster import features

if TYPE_CHECKING:
    from collections.abc import Callable

    from kafka import KafkaAdminClient

    from worker.kafka.cluster.clients import Connection

DEFAULT_OFFSETS_KEPT_MINUTES = 7 * 24 * 60

_UNKNOWN = (kafka.errors.IncompatibleBrokerVersion, kafka.errors.UnsupportedVersionError)

T = TypeVar("T")


class Desk:
    """Asks the cluster. Owned by whoever makes it; one thread at a time.

    Args:
        connection: How to reach the cluster.
    """

    def __init__(self, *, connection: Connection) -> None:
        self._connection = connection
        self._admin: KafkaAdminClient | None = None

    def ask(self, question: Callable[[KafkaAdminClient], T]) -> T:
        """The admin client's answer.

        Raises:
            Transient: No broker answers; the line says what is known of the cause.
            Refused: The brokers do not know the question, and will not (see `offers`); or a broker
                refuses this client for good.
            kafka.errors.AuthorizationError: This client may not ask.
        """
        try:
            if self._admin is None:
                self._admin = self._connection.admin()
            return question(self._admin)
        except kafka.errors.AuthorizationError:
            raise
        except _UNKNOWN as error:
            self.close()
            what = next(iter(error.args), type(error).__name__)
            raise Refused(f"these brokers are too old for what the worker asks: {what}") from error
        except kafka.errors.KafkaError as error:
            self.close()
            raise Transient(self._connection.trouble(error)) from error

    def offers(self) -> features.Offers:
        """What the brokers offer of Kafka's protocol.

        Raises:
            Transient: No broker answers.
        """
        # Not `api_versions`, which fails at a request that is newer than the client.
        return self.ask(lambda admin: admin._manager.broker_version_data.api_versions)  # noqa: SLF001

    def close(self) -> None:
        """Closes the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def end_offsets(self, topic: str, partitions: int) -> dict[int, int]:
        """Offset up to which a `read_committed` reader may read, per partition.

        Raises:
            Transient: No broker answers.
        """
        return self._offsets(topic, partitions, OffsetSpec.LATEST)

    def start_offsets(self, topic: str, partitions: int) -> dict[int, int]:
        """Offset of the first record that retention has not deleted, per partition.

        Raises:
            Transient: No broker answers.
        """
        return self._offsets(topic, partitions, OffsetSpec.EARLIEST)

    def begins_before(self, topic: str, partitions: int, age: float) -> set[int]:
        """Partitions whose oldest record was written more than `age` seconds ago.

        Raises:
            Transient: No broker answers.
        """
        then = int((time.time() - age) * 1_000)
        oldest = self.start_offsets(topic, partitions)
        younger = self._offsets(topic, partitions, then)  # -1 where all are older
        return {number for number, offset in oldest.items() if younger[number] != offset}

    def offsets_kept(self) -> float:
        """Seconds for which brokers keep the offsets of a group without members.

        Kafka's default where this client may not ask.

        Raises:
            Transient: No broker answers.
        """
        name = "offsets.retention.minutes"
        return self.broker_limits(name).get(name, DEFAULT_OFFSETS_KEPT_MINUTES) * 60

    def broker_limits(self, *names: str) -> dict[str, float]:
        """Numbers of a broker's configuration; without those that this client may not know.

        Raises:
            Transient: No broker answers.
        """
        if not features.offered(self.offers(), features.DESCRIBE_CONFIGS):
            return {}
        brokers = self.ask(lambda admin: admin.describe_cluster())["brokers"]
        number = str(brokers[0]["broker_id"])
        resource = ConfigResource(ConfigResourceType.BROKER, number, dict.fromkeys(names, ""))
        try:
            answer = self.ask(lambda a: a.describe_configs([resource], config_filter="all"))
        except kafka.errors.AuthorizationError:
            return {}
        found = answer.get("broker", {}).get(number, {})
        numbers = {}
        for name in names:
            with contextlib.suppress(KeyError, TypeError, ValueError):  # other brokers' answers
                numbers[name] = float(found[name]["value"])
        return numbers

    def _offsets(self, topic: str, partitions: int, spec: OffsetSpec | int) -> dict[int, int]:
        wanted = {TopicPartition(topic, number): spec for number in range(partitions)}
        offsets = self.ask(
            lambda admin: admin.list_partition_offsets(
                wanted, isolation_level="read_committed", timeout_ms=5_000
            )
        )
        return {partition.partition: found.offset for partition, found in offsets.items()}
