"""Documents to micro-batches, by tokens, count and age.

Pure: no clock, no lock, no queue; the time is an argument. Owned by the assemble thread.

A batch begins with the oldest document; its nearest neighbours in length join it until the budget
is full. So a batch needs little padding, and no document waits for more batches than there were
documents before it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from worker.records import MicroBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.records import Encoded, FlushReason


@dataclass(frozen=True, slots=True)
class Budget:
    """What a micro-batch may hold.

    A single document may exceed `max_tokens`: it runs alone.
    """

    max_records: int
    max_tokens: int
    """Rows times the longest row: what the device really computes."""
    max_wait: float
    """Seconds that a document waits for mates while the model is busy."""


RECOVERY_STEPS = 16
"""Steps from nothing to the full budget. Twice as many double the time of recovery."""
RECOVERY_SECONDS = 10.0
"""Without an out-of-memory error for this time the budget grows by a step: from half to all of it
in 80 s. While another program keeps the memory, one batch in this time fails."""


class ElasticBudget:
    """What a micro-batch may hold now: halved when memory runs out, then restored step by step.

    Args:
        full: What it may hold when there is enough memory.
    """

    def __init__(self, full: Budget) -> None:
        self.full = full
        self.now = full
        self._share = 1.0
        self._quiet_since = 0.0

    def ran(self, batch: MicroBatch, *, out_of_memory: bool, at: float) -> bool:
        """The model finished a batch, at `at` seconds of any monotonic clock.

        Returns:
            Whether the budget changed. The smallest is a batch of one text, however long.
        """
        if out_of_memory:
            self._quiet_since = at
            return self._within(batch) and self._take(self._share / 2)
        if self._share < 1.0 and at - self._quiet_since >= RECOVERY_SECONDS:
            self._quiet_since = at
            return self._take(min(1.0, self._share + 1 / RECOVERY_STEPS))
        return False

    def _take(self, share: float) -> bool:
        former, full = self.now, self.full
        self.now = replace(
            full,
            max_records=max(1, int(full.max_records * share)),
            max_tokens=max(1, int(full.max_tokens * share)),
        )
        if self.now == former and share < self._share:
            return False  # the smallest budget: a smaller share would only lengthen the recovery
        self._share = share
        return self.now != former

    def _within(self, batch: MicroBatch) -> bool:
        """Whether a batch fits: the failure of one staged before the last halving is no news."""
        rows = len(batch.items)
        fits = rows <= self.now.max_records and rows * batch.padded_length <= self.now.max_tokens
        return rows == 1 or fits


class Batcher:
    """Gathers encoded documents and hands out micro-batches.

    Args:
        budget: What a batch may hold.
    """

    def __init__(self, *, budget: Budget) -> None:
        self.budget = budget
        self._serial = 0
        self._arrivals: deque[tuple[int, int, float]] = deque()  # (tokens, serial, since)
        self._by_length: list[tuple[int, int]] = []  # (tokens, serial), sorted
        self._waiting: dict[int, Encoded] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, items: Iterable[Encoded], now: float) -> None:
        """Takes documents in, at `now` seconds of any monotonic clock."""
        for item in items:
            length = len(item.tokens)
            self._serial += 1
            self._waiting[self._serial] = item
            self._arrivals.append((length, self._serial, now))
            insort(self._by_length, (length, self._serial))
            self._tokens += length

    def due(self, now: float, *, idle: bool, draining: bool = False) -> FlushReason | None:
        """Why a batch should be taken now, or None to wait for more documents.

        Args:
            now: Seconds of the clock that `add` was given.
            idle: The model has nothing to run: any batch is worth running.
            draining: No more documents will come.
        """
        oldest = self._oldest()
        if oldest is None:
            return None
        if len(self._waiting) >= self.budget.max_records or self._tokens >= self.budget.max_tokens:
            return "full"
        if draining:
            return "drain"
        if idle:
            return "idle"
        return "age" if now - oldest[2] >= self.budget.max_wait else None

    def wait(self, now: float) -> float | None:
        """Seconds until the oldest document is due by age; None when nothing waits."""
        oldest = self._oldest()
        return None if oldest is None else max(0.0, oldest[2] + self.budget.max_wait - now)

    def take(self, reason: FlushReason) -> MicroBatch:
        """The next batch: the oldest document and its nearest neighbours in length.

        Raises:
            LookupError: Nothing waits.
        """
        oldest = self._oldest()
        if oldest is None:
            raise LookupError("there is no document to take")
        first, last = self._window(bisect_left(self._by_length, oldest[:2]))
        chosen = self._by_length[first:last]
        del self._by_length[first:last]
        self._tokens -= sum(length for length, _ in chosen)
        return MicroBatch(tuple(self._waiting.pop(serial) for _, serial in chosen), reason)

    def discard(self, unwanted: Callable[[Encoded], bool]) -> int:
        """Forgets the documents for which `unwanted` is true; returns how many."""
        gone = {serial for serial, item in self._waiting.items() if unwanted(item)}
        for serial in gone:
            self._tokens -= len(self._waiting.pop(serial).tokens)
        if gone:
            self._by_length = [entry for entry in self._by_length if entry[1] not in gone]
        return len(gone)

    def _oldest(self) -> tuple[int, int, float] | None:
        arrivals = self._arrivals
        while arrivals and arrivals[0][1] not in self._waiting:
            arrivals.popleft()
        return arrivals[0] if arrivals else None

    def _window(self, oldest: int) -> tuple[int, int]:
        """The slice around index `oldest` that fits the budget, grown neighbour by neighbour."""
        lengths = self._by_length
        own = longest = lengths[oldest][0]
        first, last = oldest, oldest + 1
        while last - first < self.budget.max_records:
            shorter = lengths[first - 1][0] if first else None
            longer = lengths[last][0] if last < len(lengths) else None
            rows = last - first + 1
            take_longer = longer is not None and rows * longer <= self.budget.max_tokens
            take_shorter = shorter is not None and rows * longest <= self.budget.max_tokens
            if take_longer and take_shorter:
                assert longer is not None  # noqa: S101 - for the type checker
                assert shorter is not None  # noqa: S101
                take_shorter = own - shorter < longer - own
            if take_shorter:
                first -= 1
            elif take_longer:
                assert longer is not None  # noqa: S101
                longest = longer
                last += 1
            else:
                break
        return first, last
