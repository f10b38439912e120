"""How every Kafka client of this worker is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import kafka.errors
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.protocol.admin import DescribeGroupsRequest

from worker import garbage
from worker.errors import Transient
from worker.kafka.cluster import features
from worker.kafka.cluster.examine import Found, examine
from worker.kafka.cluster.network import network
from worker.kafka.cluster.security import Security

if TYPE_CHECKING:
    from kafka.net.compat import KafkaNetClient

_UNREACHED = (
    kafka.errors.KafkaConnectionError,
    kafka.errors.KafkaTimeoutError,
    kafka.errors.RequestTimedOutError,
    kafka.errors.NodeNotReadyError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach the cluster."""

    bootstrap_servers: str
    client_id: str
    """This replica's name in the broker's logs and quotas."""
    metadata_max_age: float = 30.0
    """Seconds after which topics are looked up again."""
    patience: float = 10.0
    """Seconds that one attempt to reach the cluster takes at most."""
    security: Security = field(default_factory=Security)
    """TLS and SASL."""
    thorough: bool = True
    """Whether an admin client finds out why no broker answers: seconds for each broker."""

    @property
    def servers(self) -> list[str]:
        """The bootstrap brokers, as `host:port`."""
        return [server.strip() for server in self.bootstrap_servers.split(",") if server.strip()]

    def common(self) -> dict[str, Any]:
        """Options of every client."""
        return {
            **self.security.options(),
            "bootstrap_servers": self.servers,
            "client_id": self.client_id,
            # The default of 30 s outlives sessions and deadlines.
            "reconnect_backoff_max_ms": 1_000,
            "bootstrap_timeout_ms": int(self.patience * 1_000),
            "metadata_max_age_ms": int(self.metadata_max_age * 1_000),
        }

    def admin(self) -> KafkaAdminClient:
        """An admin client: the first of a worker's clients.

        Raises:
            Refused: A broker refuses this client for good.
            Transient: No broker answers.
        """
        if self.thorough:
            self.examine()  # first: the client would try a wrong password for ten seconds
        limit = int(self.patience * 1_000)
        return _reach(_Admin, self, examine=self.thorough, request_timeout_ms=limit)

    def consumer(self, *, examine: bool = True, **options: Any) -> KafkaConsumer:
        """A consumer.

        Args:
            examine: If no broker answers, find out why; that takes seconds for each broker.
            options: The client's.

        Raises:
            Refused: A broker refuses this client for good.
            Transient: No broker answers.
        """
        consumer = _reach(KafkaConsumer, self, examine=examine, **options)
        if not _offers(consumer._client, features.OFFSET_FOR_LEADER_EPOCH):  # noqa: SLF001
            # After a change of leaders the client would ask for ever, and fetch nothing meanwhile.
            consumer._cluster.leader_epoch_for_partition = lambda _: -1  # noqa: SLF001
        return consumer

    def producer(self, **options: Any) -> KafkaProducer:
        """A producer.

        Raises:
            Refused: A broker refuses this client for good.
            Transient: No broker answers.
        """
        producer = _reach(KafkaProducer, self, **options)
        if "transactional_id" in options or _offers(producer._sender._client, features.IDEMPOTENCE):  # noqa: SLF001
            return producer
        producer._sender.force_close()  # noqa: SLF001 - it asks for what there is not
        producer.close(timeout=1.0)
        # One request at a time: a second one could overtake the first that is repeated.
        plain = {"enable_idempotence": False, "max_in_flight_requests_per_connection": 1}
        return _reach(KafkaProducer, self, **options | plain)

    def no_answer(self, seen: list[str]) -> str:
        """The line for a cluster that does not answer.

        Args:
            seen: What was found out about each address; may be empty.
        """
        return (
            f"no broker answers at {self.bootstrap_servers}: "
            "check kafka.bootstrap_servers and that the cluster is up"
            + (f" ({'; '.join(seen)})" if seen else "")
        )

    def trouble(self, error: kafka.errors.KafkaError) -> str:
        """The line for a question that failed; takes seconds where brokers cannot be reached.

        Raises:
            Refused: A broker refuses this client for good.
        """
        if self.thorough and isinstance(error, _UNREACHED):
            found = self.examine()
            if found.advertised:
                return misplaced(found.advertised)
            if len(found.away) == len(self.servers):
                return self.no_answer(found.away)
        return f"the cluster does not answer: {type(error).__name__}"

    def examine(self) -> Found:
        """Which brokers cannot be asked whether they serve this client.

        Raises:
            Refused: A broker refuses this client for good.
        """
        return examine(servers=self.servers, client_id=self.client_id, security=self.security)


def misplaced(advertised: list[str]) -> str:
    """The line for brokers that say that they are where this client does not reach them.

    Args:
        advertised: Each address with the cause.
    """
    return (
        f"brokers cannot be reached at the addresses that they advertise ({'; '.join(advertised)}):"
        " if they are up, set advertised.listeners of each to an address that its clients reach"
    )


class _Admin(KafkaAdminClient):  # type: ignore[misc]
    def _describe_groups_request(self, group_ids: list[str]) -> DescribeGroupsRequest:
        """Like the client's own, but of version 5 at most.

        Later versions answer with an error for a group that nobody has joined yet, without the
        permissions that a worker would have in it.
        """
        return DescribeGroupsRequest(
            groups=list(group_ids), include_authorized_operations=True, max_version=5
        )


def _offers(client: KafkaNetClient, need: features.Need) -> bool:
    return features.offered(client._manager.broker_version_data.api_versions, need)  # noqa: SLF001


def _reach(kind: Any, connection: Connection, *, examine: bool = True, **options: Any) -> Any:
    made: list[KafkaNetClient] = []

    def kept(**options: Any) -> KafkaNetClient:
        made.append(network(**options))
        return made[-1]

    try:
        return kind(**connection.common() | {"kafka_client": kept}, **options)
    except BaseException as error:
        # A constructor that fails leaves its thread and its descriptors behind.
        for client in made:
            client.close()
        garbage.now()
        if not isinstance(
            error, kafka.errors.KafkaTimeoutError | kafka.errors.KafkaConnectionError
        ):
            raise
        seen = connection.examine().away if examine else []
        raise Transient(connection.no_answer(seen)) from error
