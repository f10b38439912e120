"""Documents that wait for a batch, and which of them go together.

Pure, as `batch.py`. A batch begins with the oldest document. Where rows are packed nothing is
padded, and documents are taken as they came. Where rows are padded, its nearest neighbours in
length join it until the budget is full, or the next one would need too much padding and is better
off in a batch of its own. So no document waits for more batches than there were documents before
it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.records import Encoded, MicroBatch


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


PADDED = 1.25
"""Most tokens of a batch, padding included, for each token of a text."""
ANYHOW = 32
"""A batch of at most this part of the token budget may need any padding: a device takes about as
long for less."""


class InOrder:
    """Documents that wait, for batches of packed rows: taken as they came."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Encoded, float]] = deque()
        self.tokens = 0

    @property
    def count(self) -> int:
        """How many."""
        return len(self._queue)

    def add(self, items: Iterable[Encoded], now: float) -> None:
        """Takes documents in."""
        for item in items:
            self._queue.append((item, now))
            self.tokens += len(item.tokens)

    def since(self) -> float | None:
        """When the oldest was added."""
        return self._queue[0][1] if self._queue else None

    def take(self, budget: Budget) -> list[Encoded]:
        """The oldest documents, as far as the budget goes; at least one."""
        queue, room, taken = self._queue, budget.max_tokens, 0
        chosen: list[Encoded] = []
        while queue and len(chosen) < budget.max_records:
            item = queue[0][0]
            taken += len(item.tokens)
            if taken > room and chosen:
                taken -= len(item.tokens)
                break
            queue.popleft()
            chosen.append(item)
        self.tokens -= taken
        return chosen

    def discard(self, unwanted: Callable[[Encoded], bool]) -> None:
        """Forgets the documents for which `unwanted` is true."""
        self._queue = deque(entry for entry in self._queue if not unwanted(entry[0]))
        self.tokens = sum([len(item.tokens) for item, _ in self._queue])


class ByLength:
    """Documents that wait, for batches of padded rows.

    Those of one length wait in one queue and are taken from its front only, so the oldest of all
    stands at the front of its queue.
    """

    def __init__(self) -> None:
        self.count = 0
        self.tokens = 0
        self._serial = 0
        self._arrivals: deque[tuple[int, int, float]] = deque()  # (tokens, serial, since)
        self._queues: dict[int, deque[tuple[int, Encoded]]] = {}  # by tokens; none is empty
        self._lengths: list[int] = []  # of the queues, rising

    def add(self, items: Iterable[Encoded], now: float) -> None:
        """Takes documents in."""
        for item in items:
            length = len(item.tokens)
            self._serial += 1
            queue = self._queues.get(length)
            if queue is None:
                queue = self._queues[length] = deque()
                insort(self._lengths, length)
            queue.append((self._serial, item))
            self._arrivals.append((length, self._serial, now))
            self.count += 1
            self.tokens += length

    def since(self) -> float | None:
        """When the oldest was added."""
        oldest = self._oldest()
        return None if oldest is None else oldest[1]

    def take(self, budget: Budget) -> list[Encoded]:
        """The oldest document and its nearest neighbours in length."""
        oldest = self._oldest()
        if oldest is None:
            return []
        own, rounded = oldest[0], budget.layout.length
        at = bisect_left(self._lengths, own)
        longest, least, chosen = own, rounded(own), self._take(own, 1)
        shorter = self._lengths[:at][::-1]  # both away from its own
        longer = self._lengths[at if own in self._queues else at + 1 :]
        while True:
            batch = len(chosen), least
            below = self._fitting(shorter[0], longest, batch, budget) if shorter else 0
            above = self._fitting(longer[0], longer[0], batch, budget) if longer else 0
            if below and (not above or own - shorter[0] < longer[0] - own):
                length, count = shorter.pop(0), below
            elif above:
                length, count = longer.pop(0), above
                longest = length
            else:
                break
            chosen += self._take(length, count)
            least += rounded(length) * count
        self._lengths = [length for length in self._lengths if length in self._queues]
        return chosen

    def discard(self, unwanted: Callable[[Encoded], bool]) -> None:
        """Forgets the documents for which `unwanted` is true."""
        for length, queue in list(self._queues.items()):
            kept = deque(entry for entry in queue if not unwanted(entry[1]))
            self.count -= len(queue) - len(kept)
            self.tokens -= length * (len(queue) - len(kept))
            if kept:
                self._queues[length] = kept
            else:
                del self._queues[length]
        self._lengths = [length for length in self._lengths if length in self._queues]

    def _oldest(self) -> tuple[int, float] | None:
        """Its tokens, and when it was added."""
        arrivals, queues = self._arrivals, self._queues
        while arrivals:
            length, serial, since = arrivals[0]
            queue = queues.get(length)
            if queue is not None and queue[0][0] == serial:
                return length, since
            arrivals.popleft()
        return None

    def _fitting(self, length: int, longest: int, batch: tuple[int, int], budget: Budget) -> int:
        """How many documents of a length may join a batch.

        Args:
            length: Their tokens.
            longest: Tokens of the batch's longest document, these included.
            batch: Documents of the batch, and its tokens if none were padded to the longest one's
                length.
            budget: What the batch may hold.
        """
        rounded, (rows, least) = budget.layout.length, batch
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
        self.count -= len(taken)
        self.tokens -= length * len(taken)
        if taken and not queue:
            del self._queues[length]
        return taken
