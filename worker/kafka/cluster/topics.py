"""The topics, checked at start and watched while records flow; never created.

Everything here uses an admin client: only that can ask for a topic without creating it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import kafka.errors
import structlog

from worker.errors import Fatal, Refused, Transient
from worker.kafka.cluster import access, configured, features, limits
from worker.kafka.cluster.desk import Desk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.kafka.cluster.clients import Connection

log = structlog.get_logger(__name__)

_NO_ID = str(UUID(int=0))
"""Of a topic while brokers are upgraded from versions without ids: it gets one later."""
_NEEDS = {"input": ("Read",), "output": ("Write",), "dlq": ("Write",)}
_REDRIVE_NEEDS = {"input": ("Write",), "dlq": ("Read", "Write")}
_PREVIEW_NEEDS = {"input": (), "dlq": ("Read",)}
DEFAULT_PARTITIONS = 4
"""Partitions in the command that a refusal gives for a missing topic."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker describes it."""

    name: str
    id: str | None
    """None where the brokers give topics no ids."""
    partitions: int
    max_message_bytes: int
    """Largest record batch that the broker takes, after compression."""
    compacted: bool
    """Whether the broker refuses records without a key."""
    earliest_ms: int
    """How far in the past, in ms, a timestamp may be."""
    latest_ms: int
    """How far in the future, in ms, a timestamp may be."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The three topics of a worker."""

    input: Topic
    output: Topic
    dlq: Topic


class TopicDesk(Desk):
    """Describes the topics of a worker, and refuses what cannot work."""

    def __init__(self, *, connection: Connection) -> None:
        super().__init__(connection=connection)
        self._logged: set[str] = set()

    def check(
        self,
        *,
        input_topic: str,
        output_topic: str,
        dlq_topic: str,
        group: str,
        transactional_id: str | None,
        use: features.Use,
    ) -> Topics:
        """Describes the three topics and refuses what cannot work.

        Args:
            input_topic: Needs the permission Read.
            output_topic: Needs Write.
            dlq_topic: Needs Write.
            group: Needs Read.
            transactional_id: Needs Write; None without transactions.
            use: What is asked of the brokers.

        Raises:
            Refused: A topic does not exist or cannot be used, with the command that mends it; or
                a permission is missing; or a broker refuses this client, or cannot serve it.
            Transient: No broker answers.
        """
        self._served(use)
        names = {"input": input_topic, "output": output_topic, "dlq": dlq_topic}
        topics = self._permitted(names, _NEEDS, group, transactional_id)
        self._in_limits(use, group)
        return Topics(**topics)

    def check_redrive(
        self, *, input_topic: str, dlq_topic: str, group: str, preview: bool, use: features.Use
    ) -> tuple[Topic, Topic]:
        """Describes the two topics of a redrive and refuses what cannot work.

        Args:
            input_topic: Where dead letters are put back.
            dlq_topic: Where they are.
            group: Name of the redrive's group, which is its transactional id too.
            preview: Nothing is to be written.
            use: What is asked of the brokers.

        Raises:
            Refused: A topic does not exist or cannot be used, with the command that mends it; or
                a permission is missing; or a broker refuses this client, or cannot serve it.
            Transient: No broker answers.
        """
        self._served(use)
        names = {"input": input_topic, "dlq": dlq_topic}
        needs, name = (_PREVIEW_NEEDS, None) if preview else (_REDRIVE_NEEDS, group)
        topics = self._permitted(names, needs, group, name)
        self._in_limits(use, group)
        return topics["input"], topics["dlq"]

    def verify(self, topics: Topics) -> Topics:
        """Describes the topics again.

        Raises:
            Fatal: A topic was deleted, or deleted and created again.
            Refused: A permission was taken away.
            Transient: No broker answers.
        """
        wanted = {"input": topics.input, "output": topics.output, "dlq": topics.dlq}
        names = {role: topic.name for role, topic in wanted.items()}
        found, lacking = self._described(names, _NEEDS)
        self._refuse(lacking)
        for topic in wanted.values():
            if topic.name not in found:
                raise Fatal(f"topic {topic.name} was deleted while the worker ran")
            now = _id(found[topic.name])
            if topic.id is not None and now is not None and now != topic.id:
                raise Fatal(
                    f"topic {topic.name} was deleted and made again while the worker ran: its "
                    "offsets mean other records now; reset the group's offsets if need be"
                )
        count = len(found[topics.input.name]["partitions"])
        grown = replace(topics.input, partitions=count)
        return Topics(input=grown, output=topics.output, dlq=topics.dlq)

    def _permitted(
        self,
        names: dict[str, str],
        needs: Mapping[str, tuple[str, ...]],
        group: str,
        transactional_id: str | None,
    ) -> dict[str, Topic]:
        found, lacking = self._described(names, needs)
        name, known = transactional_id, self._known
        if known(features.DESCRIBE_GROUPS) and not self.ask(lambda a: access.reads_group(a, group)):
            lacking.append(f"Read on group {group}")
        if (
            name is not None
            and known(features.DESCRIBE_TRANSACTIONS)
            and not self.ask(lambda a: access.sees_transactions(a, name))
        ):
            lacking.append(f"Write on transactional id {name}")
        self._refuse(lacking)
        return self._usable(names, found)

    def _served(self, use: features.Use) -> None:
        """Refuses brokers that cannot serve, and logs once what others lack."""
        offers = self.offers()
        if refusal := use.refusal(offers):
            raise Refused(refusal)
        for lack, without in use.lacks(offers):
            if lack not in self._logged:
                self._logged.add(lack)
                log.warning("brokers_lack", what=lack, without=without)

    def _in_limits(self, use: features.Use, group: str) -> None:
        """Refuses timeouts that the brokers do not allow."""
        allowed = self.broker_limits(*limits.NAMES)
        seconds = use.session_timeout
        if seconds is not None:
            fits = limits.session_fits(seconds, allowed)
            if fits is None:
                fits = self.ask(lambda admin: access.takes_session(admin, group, seconds))
            if not fits:
                raise Refused(limits.session_refused(seconds, allowed))
        if not limits.transaction_fits(use.transaction_timeout, allowed):
            raise Refused(limits.transaction_refused(use.transaction_timeout, allowed))

    def _known(self, need: features.Need) -> bool:
        return features.offered(self.offers(), need)

    def _refuse(self, lacking: list[str]) -> None:
        if lacking:
            raise Refused(access.advice(lacking, self._connection.security.who))

    def _usable(self, names: dict[str, str], found: dict[str, Any]) -> dict[str, Topic]:
        missing = [f"{role}.topic {name}" for role, name in names.items() if name not in found]
        if missing:
            commands = [
                _create_command(self._connection, name)
                for name in names.values()
                if name not in found
            ]
            raise Refused(
                f"there is no topic for {', '.join(missing)}; the worker never creates topics: "
                + " && ".join(commands)
            )
        configs = configured.configured(self, list(names.values()))
        topics = {role: _topic(found[name], configs.get(name, {})) for role, name in names.items()}
        if topics["dlq"].compacted:
            raise Refused(
                f"dlq.topic {names['dlq']} is compacted, which deletes all but one dead letter of "
                "a key: set its cleanup.policy to delete"
            )
        return topics

    def _described(
        self, names: dict[str, str], needs: Mapping[str, tuple[str, ...]]
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """The topics that exist, and the permissions for their roles that this client lacks."""
        described = self.ask(lambda admin: admin.describe_topics(list(names.values())))
        roles = {name: role for role, name in names.items()}
        found, lacking = {}, []
        for topic in described:
            name, error = topic["name"], kafka.errors.for_code(topic["error_code"])
            hidden = error is kafka.errors.TopicAuthorizationFailedError
            if error is kafka.errors.NoError:
                found[name] = topic
            elif not hidden and error is not kafka.errors.UnknownTopicOrPartitionError:
                raise Transient(f"topic {name} is not ready: {error.__name__}")
            lacking += [
                f"{need} on topic {name}"
                for need in needs[roles[name]] or (("Describe",) if hidden else ())
                if hidden or not access.allows(topic, need)
            ]
        return found, lacking


def _topic(described: dict[str, Any], config: dict[str, str]) -> Topic:
    return Topic(
        name=described["name"],
        id=_id(described),
        partitions=len(described["partitions"]),
        **configured.limits(config),
    )


def _id(described: dict[str, Any]) -> str | None:
    found: str | None = described.get("topic_id")
    return None if found == _NO_ID else found


def _create_command(connection: Connection, topic: str) -> str:
    servers = shlex.quote(connection.bootstrap_servers)
    return (
        f"kafka-topics.sh --bootstrap-server {servers} --create --topic {shlex.quote(topic)} "
        f"--partitions {DEFAULT_PARTITIONS}"
    )
