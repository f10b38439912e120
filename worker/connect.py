"""Settings to a connection and topics: the first step of every command that uses the cluster."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from worker.errors import Refused, Transient
from worker.kafka.cluster import access
from worker.kafka.cluster.clients import Connection
from worker.kafka.cluster.features import Use
from worker.kafka.cluster.security import Security
from worker.kafka.cluster.topics import TopicDesk
from worker.kafka.consume.start import Start
from worker.kafka.produce.transaction import TRANSACTION_TIMEOUT

if TYPE_CHECKING:
    from worker.kafka.cluster.topics import Topics
    from worker.settings import KafkaSettings, Settings


def connection(settings: Settings) -> Connection:
    """How this worker's clients reach the cluster."""
    return Connection(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        client_id=identity(settings),
        metadata_max_age=settings.kafka.metadata_max_age,
        security=_security(settings.kafka),
    )


def checked(desk: TopicDesk, settings: Settings) -> Topics:
    """This worker's topics.

    Raises:
        Refused: One is missing or cannot serve, or a permission is missing, or the brokers lack
            what the settings need.
        Transient: No broker answers.
    """
    topics = desk.check(
        input_topic=settings.input.topic,
        output_topic=settings.output.topic,
        dlq_topic=settings.dlq.topic,
        group=settings.kafka.group_id,
        transactional_id=identity(settings) if settings.transactional else None,
        use=Use(
            transactions="delivery.guarantee=exactly_once" if settings.transactional else None,
            instead="use delivery.guarantee=at_least_once",
            static_member=settings.static_member,
            compression=settings.kafka.compression,
            session_timeout=settings.kafka.session_timeout,
            transaction_timeout=TRANSACTION_TIMEOUT if settings.transactional else 0.0,
        ),
    )
    if settings.output.partition == "input":
        _refuse_fewer(topics)
    return topics


def _refuse_fewer(topics: Topics) -> None:
    needed, there = topics.input.partitions, topics.output.partitions
    if there < needed:
        raise Refused(
            f"output.partition: input needs as many partitions as {topics.input.name} has "
            f"({needed}); {topics.output.name} has {there}: add some to it, or set "
            "output.partition=key"
        )


def start(settings: Settings, topics: Topics) -> Start:
    """Where the group begins in a partition for which it has committed nothing."""
    given = settings.input.start
    named = given in ("earliest", "latest")
    return Start(
        latest=given == "latest",
        time_ms=None if named else int(datetime.fromisoformat(given).timestamp() * 1_000),
        partitions=topics.input.partitions,
    )


def identity(settings: Settings) -> str:
    """This replica's client id, which is its transactional id too."""
    return f"{settings.kafka.group_id}-{settings.replica}"


def explained(failure: BaseException, settings: Settings) -> BaseException:
    """The failure; or, where a broker forbids something, a refusal that says what is missing."""
    if not access.forbidden(failure):
        return failure
    link = connection(settings)
    desk = TopicDesk(connection=link)
    try:
        checked(desk, settings)
    except Refused as refused:
        return refused
    except Transient:
        pass
    finally:
        desk.close()
    if access.may_not_write_transactions(failure):
        lacking = f"Write on transactional id {identity(settings)}"
        return Refused(access.advice([lacking], link.security.who))
    return failure


def _security(kafka: KafkaSettings) -> Security:
    password, key_password = kafka.sasl_password, kafka.ssl_key_password
    return Security(
        protocol=kafka.security_protocol,
        mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=password.get_secret_value() if password else None,
        token_file=kafka.sasl_token_file,
        ca_file=kafka.ssl_cafile,
        cert_file=kafka.ssl_certfile,
        key_file=kafka.ssl_keyfile,
        key_password=key_password.get_secret_value() if key_password else None,
    )
