"""Which timestamps a topic refused. Owned by the thread that sends.

The limits are known from the topic's configuration, where this client may ask for it; this is for
where it may not, or where they changed since.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.produce.writer import Sendable

REMEMBER_SECONDS = 60.0
"""How long a topic whose limits were widened may still lose timestamps of outputs."""


@dataclass(slots=True)
class _Refused:
    """The timestamps nearest to now that a topic refused."""

    age_ms: float = float("inf")
    future: float = float("inf")
    """Unix milliseconds."""
    at: float = float("-inf")
    """When, in monotonic seconds."""
    searched: set[bool] = field(default_factory=set)
    """Whether those that were searched for lay in the future."""


class TimeMemory:
    """How old, and how far in the future, timestamps were that a topic refused.

    A topic that refuses one refuses older ones, or later ones in the future. A refused one in the
    future may be valid soon: for the minute that it is remembered its output has the current time.

    Args:
        clock: Monotonic seconds.
        now: Unix seconds.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._now = now
        self._topics: dict[str, _Refused] = {}

    def refused(self, output: Sendable, *, searched: bool = False) -> None:
        """The topic refused the output for its timestamp.

        Args:
            output: The refused one.
            searched: No broker named it. After a second such one, half as near to now is taken for
                refused, too: of many that come nearer step by step each would else be searched for.
                Valid ones lose no more by that than their event time, for a minute.
        """
        if output.timestamp is None:
            return
        known = self._known(output.topic) or _Refused()
        age = self._age(output.timestamp)
        again = searched and (age < 0) in known.searched
        if searched:
            known.searched.add(age < 0)
        if age >= 0:
            known.age_ms = min(known.age_ms, age / 2 if again else age)
        else:
            known.future = min(known.future, output.timestamp + (age / 2 if again else 0))
        known.at = self._clock()
        self._topics[output.topic] = known

    def refuses(self, output: Sendable) -> bool:
        """Whether the topic refused a timestamp nearer to now, or this one, in the last minute."""
        if output.topic not in self._topics or output.timestamp is None:  # nearly every output
            return False
        known = self._known(output.topic)
        if known is None:
            return False
        return output.timestamp >= known.future or self._age(output.timestamp) >= known.age_ms

    def _known(self, topic: str) -> _Refused | None:
        known = self._topics.get(topic)
        if known is None or self._clock() - known.at >= REMEMBER_SECONDS:
            return None
        return known

    def _age(self, timestamp: int) -> float:
        return self._now() * 1_000 - timestamp
