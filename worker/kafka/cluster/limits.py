"""What brokers allow of the timeouts that a worker asks for. Pure.

A client without DescribeConfigs on the cluster does not know the limits: then a broker that refuses
a timeout says only that it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORTEST_SESSION = "group.min.session.timeout.ms"
LONGEST_SESSION = "group.max.session.timeout.ms"
LONGEST_TRANSACTION = "transaction.max.timeout.ms"
NAMES = (SHORTEST_SESSION, LONGEST_SESSION, LONGEST_TRANSACTION)
"""The brokers' settings."""


def session_fits(seconds: float, limits: Mapping[str, float]) -> bool | None:
    """Whether the brokers allow a session timeout; None where their limits are not known.

    Args:
        seconds: The timeout.
        limits: Milliseconds by the name of the brokers' setting.
    """
    if SHORTEST_SESSION not in limits or LONGEST_SESSION not in limits:
        return None
    return limits[SHORTEST_SESSION] <= seconds * 1_000 <= limits[LONGEST_SESSION]


def session_refused(seconds: float, limits: Mapping[str, float] | None = None) -> str:
    """The line for a session timeout that the brokers do not allow.

    Args:
        seconds: The timeout.
        limits: As far as they are known.
    """
    known = [_known(name, limits) for name in (SHORTEST_SESSION, LONGEST_SESSION)]
    return (
        f"kafka.session_timeout of {seconds:g} s is not between the brokers' limits, "
        f"{' and '.join(known)} (in ms): choose one that is, or have them changed"
    )


def transaction_fits(seconds: float, limits: Mapping[str, float]) -> bool:
    """Whether the brokers allow a transaction timeout; true where their limit is not known."""
    return seconds * 1_000 <= limits.get(LONGEST_TRANSACTION, float("inf"))


def transaction_refused(seconds: float, limits: Mapping[str, float] | None = None) -> str:
    """The line for a transaction timeout that the brokers do not allow."""
    known = _known(LONGEST_TRANSACTION, limits)
    return (
        f"the brokers' {known} (in ms) does not allow transactions of {seconds:g} s: raise it to "
        f"{seconds * 1_000:.0f} at least; a worker can use delivery.guarantee=at_least_once"
    )


def _known(name: str, limits: Mapping[str, float] | None) -> str:
    limit = (limits or {}).get(name)
    return name if limit is None else f"{name}={limit:.0f}"
