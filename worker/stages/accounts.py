"""What each lease has accepted and settled. Owned by the poll thread.

The accounts bound memory: at the limits nothing more is read, so no inbox can grow with the
backlog or while the broker is away. Records are limited exactly, bytes to one record beyond.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from worker.messages import Progress
    from worker.records import Lease, Record

RESUME_SHARE = 0.75
"""Share of the limit at which reading resumes: fewer, larger polls instead of many small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be in flight."""

    records: int
    bytes: int


class Room(NamedTuple):
    """How much may be read now."""

    records: int
    bytes: int


NO_ROOM = Room(0, 0)


class Account:
    """What one lease has accepted and settled."""

    def __init__(self) -> None:
        self._accepted = self._settled = 0
        self._accepted_bytes = self._settled_bytes = 0
        self.settled_to = 0
        """Offset up to which every record is settled; 0 before any is."""
        self.reached = 0
        """Offset that is safe to commit, also past offsets without records. Never goes back."""
        self._marks: deque[tuple[int, int]] = deque()

    @property
    def in_flight(self) -> int:
        """Records accepted but not settled."""
        return self._accepted - self._settled

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of the records accepted but not settled."""
        return self._accepted_bytes - self._settled_bytes

    def accept(self, records: Sequence[Record]) -> None:
        """Takes in the records of one poll; `oldest` takes the timestamp of the first for all."""
        if not self.in_flight:
            self._marks.clear()
        self._accepted += len(records)
        self._accepted_bytes += sum(record.size for record in records)
        self._marks.append((records[0].offset, records[0].timestamp))

    def settle(self, progress: Progress) -> None:
        """Takes in what is settled by now."""
        self._settled = progress.records
        self._settled_bytes = progress.bytes
        self.settled_to = progress.committable
        self.reached = max(self.reached, progress.committable)
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= progress.committable:
            marks.popleft()

    def pass_to(self, position: int | None) -> None:
        """Takes in the consumer's position, while nothing is in flight.

        Only the position moves past transaction markers and compaction holes; without it an idle
        topic shows a lag for ever.
        """
        self.reached = max(self.reached, position or 0)

    def oldest(self) -> int | None:
        """Timestamp in ms of about the oldest record in flight; None where there is none."""
        return self._marks[0][1] if self.in_flight else None


class Accounts:
    """The accounts of the leases held now.

    Args:
        limits: What may be in flight in all of them.
    """

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[Lease, Account] = {}

    def __iter__(self) -> Iterator[tuple[Lease, Account]]:
        return iter(self._held.items())

    @property
    def in_flight(self) -> int:
        """Records read but not settled."""
        return sum(account.in_flight for account in self._held.values())

    def room(self, *, paused: bool) -> Room:
        """How much may be read now; while paused, nothing until `RESUME_SHARE` is reached."""
        in_flight = self.in_flight
        held = sum(account.bytes_in_flight for account in self._held.values())
        share = RESUME_SHARE if paused else 1.0
        if in_flight >= self._limits.records * share or held >= self._limits.bytes * share:
            return NO_ROOM
        return Room(self._limits.records - in_flight, self._limits.bytes - held)

    def accept(self, records: Iterable[Record]) -> None:
        """Records were read."""
        for lease, batch in groupby(records, key=attrgetter("lease")):
            self._held[lease].accept(list(batch))

    def settle(self, progress: Progress) -> bool:
        """Takes in what is settled by now; returns whether the lease is still held."""
        account = self._held.get(progress.lease)
        if account is None:
            return False
        account.settle(progress)
        return True

    def follow(self, *, held: Iterable[Lease], ended: Iterable[Lease]) -> None:
        """Leases ended; others are new."""
        for lease in ended:
            self._held.pop(lease, None)
        for lease in held:
            self._held.setdefault(lease, Account())

    def reached(self, leases: Iterable[Lease]) -> dict[Lease, int]:
        """The offset that is safe to commit for each of the leases, where one is known."""
        accounts = {lease: self._held[lease] for lease in leases if lease in self._held}
        return {lease: account.reached for lease, account in accounts.items() if account.reached}
