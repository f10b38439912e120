"""Which outputs may be sent and which offset is safe to commit, per partition and assignment.

Pure: no Kafka, no clock, no lock. Owned by the publish thread.

Results come back in any order, since similar lengths run together. Two prefixes of what was
accepted, in the order the consumer gave it, decide everything:

    accepted   1 2 4 5 7 8 9      offsets have holes: compaction, transaction markers
    completed  ■ ■ ■ . ■ ■ .
    sent       ───────┤           outputs leave in the partition's order: 7 waits for 5
    settled    ────┤              acknowledged without a gap: 5 may be committed, since 4 is done

Committing beyond the settled prefix would lose every unacknowledged record before it if the
process died then; sending beyond the completed prefix would turn the partition's order around.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class _Entry(Generic[T]):
    __slots__ = ("acknowledged", "offset", "result", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        self.result: T | None = None
        self.acknowledged = False


class Ledger(Generic[T]):
    """The records of one lease that are in flight.

    `settled_records` and `settled_bytes` count all that was ever settled under it.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry[T]] = {}
        self._unsent: deque[_Entry[T]] = deque()
        self._unsettled: deque[_Entry[T]] = deque()
        self.settled_records = 0
        self.settled_bytes = 0
        self.committable: int | None = None
        """The offset to commit: one past the settled prefix; None before anything settled."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unsent(self) -> int:
        """Records whose results were not handed out yet."""
        return len(self._unsent)

    def accept(self, records: Iterable[tuple[int, int]]) -> None:
        """Takes in `(offset, bytes)` of records in the order the consumer gave them.

        Raises:
            ValueError: An offset is not above the one before it.
        """
        for offset, size in records:
            last = self._unsettled[-1].offset if self._unsettled else (self.committable or 0) - 1
            if offset <= last:
                raise ValueError(f"offset {offset} came after {last}")
            entry: _Entry[T] = _Entry(offset, size)
            self._entries[offset] = entry
            self._unsent.append(entry)
            self._unsettled.append(entry)

    def complete(self, offset: int, result: T) -> None:
        """Takes a record's result.

        Raises:
            KeyError: The offset is not in flight.
        """
        self._entries[offset].result = result

    def sendable(self) -> list[T]:
        """Results whose turn has come, in the partition's order; each is handed out once."""
        ready: list[T] = []
        unsent = self._unsent
        while unsent and (result := unsent[0].result) is not None:
            ready.append(result)
            # From here on the sender holds the result; a ledger that kept it, too, would double
            # the memory that an outage takes.
            unsent.popleft().result = None
        return ready

    def acknowledge(self, offset: int) -> None:
        """Takes the acknowledgement of a record's output.

        Raises:
            KeyError: The offset is not in flight.
        """
        self._entries[offset].acknowledged = True
        unsettled = self._unsettled
        while unsettled and unsettled[0].acknowledged:
            entry = unsettled.popleft()
            del self._entries[entry.offset]
            self.settled_records += 1
            self.settled_bytes += entry.size
            self.committable = entry.offset + 1
