"""Cooperative-sticky assignment that ignores claims that are out of date."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

if TYPE_CHECKING:
    from collections.abc import Iterable


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Each member claims what it holds; of two claims to a partition the newer counts.

    kafka-python 3.0.12 keeps claiming partitions that a member has lost (it was frozen past its
    session timeout, say), and its claims carry no generation. When such a member joins again, the
    leader takes it for the owner and assigns it the partition at once, so that there are two
    owners: outputs double, and a commit of one can move the offset back behind the other's. Claims
    here have version 2 of the consumer protocol, which names the generation, as Java's have.
    """

    version = 2

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member sends to the leader: topics, its partitions, and their generation."""
        claims = super().metadata(topics)
        claims.generation_id = self.generation
        return claims

    def assign(self, cluster: Any, members: list[Any]) -> Any:
        """The leader's assignment, after it has removed claims that are out of date."""
        holders: dict[tuple[str, int], dict[int, list[int]]] = defaultdict(dict)
        for index, member in enumerate(members):
            for topic, partition in _claims(member.metadata):
                by_generation = holders[topic, partition]
                by_generation.setdefault(member.metadata.generation_id, []).append(index)
        for (topic, partition), by_generation in holders.items():
            newest = by_generation.pop(max(by_generation))
            # Two claims of one generation: neither can be trusted, and nobody keeps it.
            out_of_date = [index for older in by_generation.values() for index in older]
            for index in [*out_of_date, *(newest if len(newest) > 1 else [])]:
                _strike_out(members[index].metadata, topic, partition)
        return super().assign(cluster, members)


def _claims(metadata: Any) -> list[tuple[str, int]]:
    return [(each.topic, p) for each in metadata.owned_partitions or () for p in each.partitions]


def _strike_out(metadata: Any, topic: str, partition: int) -> None:
    for each in metadata.owned_partitions:
        if each.topic == topic:
            each.partitions = [p for p in each.partitions if p != partition]
