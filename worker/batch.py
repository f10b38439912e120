"""Documents to micro-batches, by tokens, count and age.

Pure: no clock, no lock, no queue; the time is an argument. Owned by the assemble thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from worker.records import MicroBatch
from worker.waiting import Budget, ByLength, InOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.records import Encoded, FlushReason


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
        rows, now = len(batch.items), self.now
        return rows == 1 or (rows <= now.max_records and now.tokens(batch) <= now.max_tokens)


class Batcher:
    """Gathers encoded documents and hands out micro-batches.

    Args:
        budget: What a batch may hold.
    """

    def __init__(self, *, budget: Budget) -> None:
        self.budget = budget
        self._waiting = InOrder() if budget.layout.packed else ByLength()

    def __len__(self) -> int:
        return self._waiting.count

    def add(self, items: Iterable[Encoded], now: float) -> None:
        """Takes documents in, at `now` seconds of any monotonic clock."""
        self._waiting.add(items, now)

    def due(self, now: float, *, idle: bool, draining: bool = False) -> FlushReason | None:
        """Why a batch should be taken now, or None to wait for more documents.

        Args:
            now: Seconds of the clock that `add` was given.
            idle: The model has nothing to run: any batch is worth running.
            draining: No more documents will come.
        """
        waiting, budget = self._waiting, self.budget
        since = waiting.since()
        if since is None:
            return None
        if waiting.count >= budget.max_records or waiting.tokens >= budget.max_tokens:
            return "full"
        if draining:
            return "drain"
        if idle:
            return "idle"
        return "age" if now - since >= budget.max_wait else None

    def wait(self, now: float) -> float | None:
        """Seconds until the oldest document is due by age; None when nothing waits."""
        since = self._waiting.since()
        return None if since is None else max(0.0, since + self.budget.max_wait - now)

    def take(self, reason: FlushReason) -> MicroBatch:
        """The next batch: the oldest document, and those that go with it best.

        Raises:
            LookupError: Nothing waits.
        """
        if self._waiting.since() is None:
            raise LookupError("there is no document to take")
        return MicroBatch(tuple(self._waiting.take(self.budget)), reason)

    def discard(self, unwanted: Callable[[Encoded], bool]) -> int:
        """Forgets the documents for which `unwanted` is true; returns how many."""
        before = self._waiting.count
        self._waiting.discard(unwanted)
        return before - self._waiting.count
