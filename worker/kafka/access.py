"""Which permissions a worker lacks, as far as the brokers tell without anything being changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import kafka.errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka import KafkaAdminClient

COORDINATOR_PATIENCE = 10.0
"""Seconds for a group's coordinator: the first group of a new cluster waits for its offsets topic,
which takes 1 s on a quiet machine."""

_NOT_YET = (
    kafka.errors.CoordinatorNotAvailableError,
    kafka.errors.CoordinatorLoadInProgressError,
    kafka.errors.NotCoordinatorError,
)


def allows(described: dict[str, Any], operation: str) -> bool:
    """Whether a topic's or a group's description grants this; also where it does not tell."""
    granted = described.get("authorized_operations")
    return not granted or operation.upper() in granted


def reads_group(admin: KafkaAdminClient, group_id: str) -> bool:
    """Whether this client may join the group and commit; also where brokers do not tell.

    Raises:
        kafka.errors.KafkaError: The cluster does not answer.
    """
    end = time.monotonic() + COORDINATOR_PATIENCE
    while True:
        try:
            return allows(admin.describe_groups([group_id])[group_id], "Read")
        except kafka.errors.GroupAuthorizationFailedError:
            return False
        except _NOT_YET:
            if time.monotonic() > end:
                return True
            time.sleep(0.2)


def forbidden(failure: BaseException) -> bool:
    """Whether a failure comes of what this client may not do, or of who it says it is."""
    kinds = (kafka.errors.AuthorizationError, kafka.errors.SaslAuthenticationFailedError)
    return isinstance(failure.__cause__, kinds)


def advice(lacking: Iterable[str], who: str) -> str:
    """The line that says which ACLs to add: ``Read on topic tweets``."""
    operations = [f"operation {each}" for each in lacking]
    acls = "an ACL" if len(operations) == 1 else "ACLs"
    return f"permission is missing: add {acls}: {' and '.join(operations)} for {who}"
