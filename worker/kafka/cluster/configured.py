"""The limits of topics that their configuration says, at the start and after a refusal."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog
from kafka.admin import ConfigResource, ConfigResourceType

from worker.kafka.cluster import features
from worker.kafka.cluster.desk import Desk

if TYPE_CHECKING:
    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic

log = structlog.get_logger(__name__)

HASTE_SECONDS = 3.0
"""Longest wait for a connection, and for each answer, when limits are read while outputs wait."""


def configured(desk: Desk, names: list[str]) -> dict[str, dict[str, str]]:
    """The configuration of each topic; empty if this client cannot ask: then the defaults apply.

    Raises:
        Transient: No broker answers.
        Refused: The brokers do not serve this client.
    """
    if not features.offered(desk.offers(), features.DESCRIBE_CONFIGS):
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        answer = desk.ask(lambda admin: admin.describe_configs(resources, config_filter="all"))
    except kafka.errors.AuthorizationError:
        return {}
    return {
        name: {key: str(entry["value"]) for key, entry in entries.items()}
        for name, entries in answer.get("topic", {}).items()
    }


def limits(config: dict[str, str]) -> dict[str, Any]:
    """The fields of a `Topic` that its configuration says."""
    return {
        "max_message_bytes": int(config.get("max.message.bytes", 1_048_588)),
        "compacted": "compact" in config.get("cleanup.policy", "delete"),
        "earliest_ms": _unless_append_time(config, "message.timestamp.before.max.ms", 2**63 - 1),
        "latest_ms": _unless_append_time(config, "message.timestamp.after.max.ms", 3_600_000),
    }


def limits_now(connection: Connection, topic: Topic) -> Topic:
    """The topic with its limits of now, or as it is if they are not to be had within seconds.

    Any thread: it asks by a client of its own.
    """
    try:
        hasty = replace(connection, patience=HASTE_SECONDS, thorough=False)
        with contextlib.closing(Desk(connection=hasty)) as desk:
            config = configured(desk, [topic.name])[topic.name]
        return replace(topic, **limits(config))
    except Exception as error:  # noqa: BLE001 - nothing depends on it
        log.debug("limits_not_read", topic=topic.name, error=type(error).__name__)
        return topic


def _unless_append_time(config: dict[str, str], name: str, default: int) -> int:
    if config.get("message.timestamp.type") == "LogAppendTime":
        return 2**63 - 1  # the broker overwrites the timestamp, whatever it is
    return int(config.get(name, default))
