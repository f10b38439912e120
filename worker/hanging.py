"""Which partitions have a transaction that never ends.

A ``read_committed`` reader gets no further than the last stable offset, which stands at the first
open transaction. Kafka itself can lose a transaction's end when brokers crash; then that offset
never moves again. Pure: no Kafka, no clock; time is an argument. Owned by the watch thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_STEP = 60.0
"""Most seconds that count between two answers: while no broker answers no transaction can end."""


class TopicPart(NamedTuple):
    """A partition of any topic."""

    topic: str
    partition: int


class Ends(NamedTuple):
    """Where a partition ends."""

    stable: int
    """The last stable offset: what ``read_committed`` readers may read."""
    end: int
    """Offset of the next record."""


class Hanging:
    """Follows partitions' last stable offsets.

    Args:
        after: Seconds without a move, though records follow, after which a transaction hangs.
    """

    def __init__(self, *, after: float) -> None:
        self._after = after
        self._asked: float | None = None
        self._stuck: dict[TopicPart, tuple[int, float]] = {}  # (stable offset, seconds)

    def update(self, ends: Mapping[TopicPart, Ends], now: float) -> dict[TopicPart, int]:
        """The last stable offsets of the partitions in which a transaction hangs.

        Args:
            ends: Of all partitions; those that are gone are forgotten.
            now: Seconds of any monotonic clock.
        """
        step = 0.0 if self._asked is None else min(now - self._asked, LONGEST_STEP)
        self._asked = now
        before, self._stuck = self._stuck, {}
        for partition, (stable, end) in ends.items():
            if stable >= end:
                continue
            last, seconds = before.get(partition, (-1, 0.0))
            self._stuck[partition] = (stable, seconds + step if last == stable else 0.0)
        return {p: at for p, (at, seconds) in self._stuck.items() if seconds > self._after}
