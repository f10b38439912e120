"""Who gets which partition: cooperative-sticky, with claims that can be out of date."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

if TYPE_CHECKING:
    from collections.abc import Iterable


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Each member claims what it holds; of two claims to a partition the newer counts.

    kafka-python 3.0.12 goes on claiming what a member has lost (it was frozen past its session
    timeout, say), and claims carry no generation. Where such a member joins again, the leader
    takes it for the owner, hands it the partition at once, and has two owners at work: outputs
    double, and a commit of the one can move the offset back behind the other's. Claims here are
    of version 2 of the consumer protocol, which names the generation, as Java's are.
    """

    version = 2

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member sends to the leader: its topics, what it holds, and since when."""
        claims = super().metadata(topics)
        claims.generation_id = self.generation
        return claims

    def assign(self, cluster: Any, members: list[Any]) -> Any:
        """The leader's decision, on what each member rightly claims."""
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
