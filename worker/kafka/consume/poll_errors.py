"""Why a poll failed for good: the one line that the process ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kafka.errors

if TYPE_CHECKING:
    from collections.abc import Mapping


def line(
    error: Exception,
    *,
    topic: str,
    positions: Mapping[int, int | None],
    instance_id: str | None = None,
) -> str:
    """What is wrong and what to do.

    Args:
        error: What the client's poll raised.
        topic: The topic that was read.
        positions: Offset of the next record of each partition that is read; None: not known.
        instance_id: Name of the static member.
    """
    if isinstance(error, kafka.errors.FencedInstanceIdError):
        return (
            f"fenced: another worker is the group's static member {instance_id}; "
            "kafka.replica_id must be its own for every worker; nothing is lost"
        )
    cause = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    if not of_a_record(error):
        return f"topic {topic} cannot be consumed: {cause}"
    at = ", ".join(
        f"partition {number} offset {position}"
        for number, position in sorted(positions.items())
        if position is not None
    )
    return (
        f"topic {topic} has a record that cannot be read: {cause}; "
        f"next to read: {at or 'unknown'}; see deploy/runbooks.md#a-record-that-cannot-be-read"
    )


def of_a_record(error: Exception) -> bool:
    """Whether a record cannot be read, rather than the cluster being in trouble."""
    # An error that is not the client's comes from its decoder: a header name that is not UTF-8.
    spoilt = (kafka.errors.CorruptRecordError, kafka.errors.UnsupportedCodecError)
    return isinstance(error, spoilt) or not isinstance(error, kafka.errors.KafkaError)
