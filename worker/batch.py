"""Documents to micro-batches, by tokens, count and age.

Pure: no clock, no lock, no queue; the time is an argument. Owned by the assemble thread.

A batch begins with the oldest document. Where rows are padded, its nearest neighbours in length
join it until the budget is full, or the next one would need too much padding and is better off in a
batch of its own. So no document waits for more batches than there were documents before it. Where
rows are packed nothing is padded, and documents are taken as they came.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from worker.layout import Layout
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
    """Padding included: what the device really computes."""
    max_wait: float
    """Seconds that a document waits for mates while the model is busy."""
    layout: Layout = field(default=Layout())
    """How rows stand in memory: whether there is padding, and how much."""

    def tokens(self, batch: MicroBatch) -> int:
        """Tokens of a batch, padding included."""
        return self.layout.tokens([len(item.tokens) for item in batch.items])


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


PADDED = 1.25
"""Most tokens of a batch, padding included, for each token of a text."""
ANYHOW = 32
"""A batch of at most this part of the token budget may need any padding: a device takes about as
long for less."""


class Batcher:
    """Gathers encoded documents and hands out micro-batches.

    Documents of one length wait in one queue and are taken from its front only, so the oldest of
    all stands at the front of its queue.

    Args:
        budget: What a batch may hold.
    """

    def __init__(self, *, budget: Budget) -> None:
        self.budget = budget
        self._serial = 0
        self._arrivals: deque[tuple[int, int, float]] = deque()  # (tokens, serial, since)
        self._queues: dict[int, deque[tuple[int, Encoded]]] = {}  # by tokens; none is empty
        self._lengths: list[int] = []  # of the queues, rising
        self._count = 0
        self._tokens = 0

    def __len__(self) -> int:
        return self._count

    def add(self, items: Iterable[Encoded], now: float) -> None:
        """Takes documents in, at `now` seconds of any monotonic clock."""
        for item in items:
            length = len(item.tokens)
            self._serial += 1
            queue = self._queues.get(length)
            if queue is None:
                queue = self._queues[length] = deque()
                insort(self._lengths, length)
            queue.append((self._serial, item))
            self._arrivals.append((length, self._serial, now))
            self._count += 1
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
        if self._count >= self.budget.max_records or self._tokens >= self.budget.max_tokens:
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
        """The next batch: the oldest document, and those that go with it best.

        Raises:
            LookupError: Nothing waits.
        """
        oldest = self._oldest()
        if oldest is None:
            raise LookupError("there is no document to take")
        packed = self.budget.layout.packed
        chosen = self._in_order() if packed else self._alike(oldest[0])
        self._lengths = [length for length in self._lengths if length in self._queues]
        return MicroBatch(tuple(chosen), reason)

    def _in_order(self) -> list[Encoded]:
        """The oldest documents, as they came, as far as the budget goes."""
        chosen: list[Encoded] = []
        room = self.budget.max_tokens
        while len(chosen) < self.budget.max_records and (oldest := self._oldest()) is not None:
            room -= oldest[0]
            if room < 0 and chosen:
                break
            chosen += self._take(oldest[0], 1)
        return chosen

    def _alike(self, own: int) -> list[Encoded]:
        """The oldest document, which has so many tokens, and its nearest neighbours in length."""
        at = bisect_left(self._lengths, own)
        rounded = self.budget.layout.length
        longest, least, chosen = own, rounded(own), self._take(own, 1)
        shorter = self._lengths[:at][::-1]  # both away from its own
        longer = self._lengths[at if own in self._queues else at + 1 :]
        while True:
            below = self._fitting(shorter[0], longest, least, len(chosen)) if shorter else 0
            above = self._fitting(longer[0], longer[0], least, len(chosen)) if longer else 0
            if below and (not above or own - shorter[0] < longer[0] - own):
                length, count = shorter.pop(0), below
            elif above:
                length, count = longer.pop(0), above
                longest = length
            else:
                break
            chosen += self._take(length, count)
            least += rounded(length) * count
        return chosen

    def discard(self, unwanted: Callable[[Encoded], bool]) -> int:
        """Forgets the documents for which `unwanted` is true; returns how many."""
        before = self._count
        for length, queue in list(self._queues.items()):
            kept = deque(entry for entry in queue if not unwanted(entry[1]))
            self._count -= len(queue) - len(kept)
            self._tokens -= length * (len(queue) - len(kept))
            if kept:
                self._queues[length] = kept
            else:
                del self._queues[length]
        self._lengths = [length for length in self._lengths if length in self._queues]
        return before - self._count

    def _oldest(self) -> tuple[int, int, float] | None:
        arrivals, queues = self._arrivals, self._queues
        while arrivals:
            length, serial, _ = arrivals[0]
            queue = queues.get(length)
            if queue is not None and queue[0][0] == serial:
                return arrivals[0]
            arrivals.popleft()
        return None

    def _fitting(self, length: int, longest: int, least: int, rows: int) -> int:
        """How many documents of a length may join a batch.

        Args:
            length: Their tokens.
            longest: Tokens of the batch's longest document, these included.
            least: Tokens of the batch if no document were padded to the longest one's length.
            rows: Documents of the batch.
        """
        budget, rounded = self.budget, self.budget.layout.length
        longest, own = rounded(max(1, longest)), rounded(length)
        room = min(budget.max_records, budget.max_tokens // longest) - rows
        most = min(room, len(self._queues.get(length, ())))
        if most <= 0 or (rows + most) * longest <= PADDED * (least + most * own):
            return max(0, most)
        # So many would need too much; of the longest ones fewer would need more still.
        anyhow = budget.max_tokens // ANYHOW // longest - rows
        spare = PADDED * least - rows * longest
        dense = int(spare / (longest - PADDED * own)) if longest > PADDED * own else 0
        return max(0, min(most, max(anyhow, dense)))

    def _take(self, length: int, most: int) -> list[Encoded]:
        """The oldest documents of a length; none where there is none any more."""
        queue = self._queues.get(length, deque())
        taken = [queue.popleft()[1] for _ in range(min(most, len(queue)))]
        self._count -= len(taken)
        self._tokens -= length * len(taken)
        if taken and not queue:
            del self._queues[length]
        return taken
