"""What the brokers offer of Kafka's protocol, against what the worker needs of it. Pure.

A broker lists the requests that it answers, each with its highest version: older Kafkas, and other
programs that speak the protocol, have fewer. What the worker cannot do without is refused at start,
with the setting that asks for it; what it can do without is logged once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kafka.protocol.api_key import ApiKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Offers: TypeAlias = Mapping[int, tuple[int, int]]
"""Lowest and highest version of each request that the brokers answer, by its key."""


class Need(NamedTuple):
    """A request, and the version from which on it does what the worker needs."""

    api: ApiKey
    version: int
    kafka: str
    """The first Apache Kafka that has it."""


class Lack(NamedTuple):
    """What the worker goes without where a request is missing."""

    need: Need
    without: str


ALWAYS = (
    Need(ApiKey.Metadata, 4, "0.11"),  # asks for a topic without creating it
    Need(ApiKey.Produce, 3, "0.11"),  # headers
    Need(ApiKey.Fetch, 4, "0.11"),  # headers, read_committed
    Need(ApiKey.ListOffsets, 2, "0.11"),  # read_committed
    Need(ApiKey.FindCoordinator, 0, "0.9"),
    Need(ApiKey.JoinGroup, 0, "0.9"),
    Need(ApiKey.SyncGroup, 0, "0.9"),
    Need(ApiKey.Heartbeat, 0, "0.9"),
    Need(ApiKey.LeaveGroup, 0, "0.9"),
    Need(ApiKey.OffsetCommit, 2, "0.9"),
    Need(ApiKey.OffsetFetch, 1, "0.9"),
)
IDEMPOTENCE = Need(ApiKey.InitProducerId, 0, "0.11")
TRANSACTIONS = (
    Need(ApiKey.FindCoordinator, 1, "0.11"),
    IDEMPOTENCE,
    Need(ApiKey.AddPartitionsToTxn, 0, "0.11"),
    Need(ApiKey.AddOffsetsToTxn, 0, "0.11"),
    Need(ApiKey.EndTxn, 0, "0.11"),
    Need(ApiKey.TxnOffsetCommit, 3, "2.5"),  # the broker checks the proof of membership
    Need(ApiKey.OffsetFetch, 7, "2.5"),  # waits for offsets of an open transaction
)
STATIC_MEMBER = (Need(ApiKey.JoinGroup, 5, "2.3"),)
ZSTD = (Need(ApiKey.Produce, 7, "2.1"), Need(ApiKey.Fetch, 10, "2.1"))

DESCRIBE_CONFIGS = Need(ApiKey.DescribeConfigs, 0, "0.11")
DESCRIBE_GROUPS = Need(ApiKey.DescribeGroups, 0, "0.9")
DESCRIBE_TRANSACTIONS = Need(ApiKey.DescribeTransactions, 0, "3.0")
DESCRIBE_PRODUCERS = Need(ApiKey.DescribeProducers, 0, "2.8")
OFFSET_FOR_LEADER_EPOCH = Need(ApiKey.OffsetForLeaderEpoch, 2, "2.1")

DISPENSABLE = (
    Lack(
        Need(ApiKey.Metadata, 10, "2.8"),
        "topic ids: a topic that is deleted and made again is not noticed",
    ),
    Lack(Need(ApiKey.Metadata, 8, "2.3"), "permissions on topics: a missing ACL shows at its use"),
    Lack(IDEMPOTENCE, "the idempotent producer: a request that is repeated may double its outputs"),
    Lack(DESCRIBE_GROUPS, "permissions on the group: a missing ACL shows at its use"),
    Lack(DESCRIBE_CONFIGS, "the limits of topics and brokers: Kafka's defaults are assumed"),
    Lack(
        OFFSET_FOR_LEADER_EPOCH,
        "the check of positions after a change of leaders: a log that was cut is noticed only "
        "where it ends before the position",
    ),
    Lack(
        DESCRIBE_PRODUCERS,
        "the producers of hanging transactions: those are found, and not whose they are",
    ),
)
OF_TRANSACTIONS = (
    Lack(
        DESCRIBE_TRANSACTIONS,
        "permissions on the transactional id: a missing ACL shows at its use",
    ),
)
OF_STATIC_MEMBERS = (
    Lack(
        Need(ApiKey.DescribeGroups, 4, "2.4"),
        "the names of a group's members: exactly once, a worker that was replaced while it stood "
        "still may end its successor, which starts again",
    ),
    Lack(
        Need(ApiKey.LeaveGroup, 3, "2.4"),
        "the leaving of static members: after a drain the worker's partitions wait for its "
        "restart, or for kafka.session_timeout",
    ),
)


def offered(offers: Offers, need: Need) -> bool:
    """Whether the brokers answer the request in the version that is needed, or a later one."""
    return need.version <= offers.get(need.api, (0, -1))[1]


def missing(offers: Offers, needs: Iterable[Need]) -> str:
    """What the brokers lack, in words; empty where they have it all."""
    return "; ".join(_in_words(offers, need) for need in needs if not offered(offers, need))


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How the brokers are to be used, as far as some cannot serve it."""

    transactions: str | None = None
    """Who needs transactions: `delivery.guarantee=exactly_once`; None: nobody."""
    instead: str = ""
    """What to do where the brokers have none."""
    static_member: bool = False
    """Whether the worker is a static member of its group."""
    compression: str = "none"
    """Codec of what is produced."""
    session_timeout: float | None = None
    """Of a member of the group, in seconds; None: there is no member."""
    transaction_timeout: float = 0.0
    """In seconds."""

    def lacks(self, offers: Offers) -> Iterator[tuple[str, str]]:
        """What the brokers lack and the worker can do without: the request, and what goes with it.

        Args:
            offers: Of the brokers.
        """
        dispensable: tuple[Lack, ...] = DISPENSABLE
        if self.transactions is not None:
            dispensable += OF_TRANSACTIONS
        if self.static_member:
            dispensable += OF_STATIC_MEMBERS
        for need, without in dispensable:
            if not offered(offers, need):
                yield _in_words(offers, need), without

    def refusal(self, offers: Offers) -> str | None:
        """Why these brokers cannot serve; None if they can.

        Args:
            offers: Of the brokers.
        """
        if lacking := missing(offers, ALWAYS):
            return f"these brokers cannot serve the worker ({lacking})"
        if self.transactions is not None and (lacking := missing(offers, TRANSACTIONS)):
            if absent := missing(offers, (need for need in TRANSACTIONS if need.api not in offers)):
                return f"these brokers offer no transactions: {self.instead} ({absent})"
            return f"these brokers are too old for {self.transactions}: {self.instead} ({lacking})"
        if self.static_member and (lacking := missing(offers, STATIC_MEMBER)):
            return (
                "these brokers know no static members of a group: leave kafka.replica_id unset, "
                f"with delivery.guarantee=at_least_once ({lacking})"
            )
        if self.compression == "zstd" and (lacking := missing(offers, ZSTD)):
            return f"these brokers do not know kafka.compression=zstd: choose another ({lacking})"
        return None


def _in_words(offers: Offers, need: Need) -> str:
    has = offers.get(need.api)
    if has is None:
        return f"{need.api.name} is missing: Kafka {need.kafka} has it"
    return (
        f"{need.api.name} has version {has[1]}: version {need.version} is needed, of Kafka "
        f"{need.kafka}"
    )
