"""How many outputs the next span may hold, so that a transaction ends well within its deadline.

Pure: no Kafka, no clock. Owned by the thread that sends.

    a span failed late       half as many bytes
    it was committed soon    twice as many, up to the most
    a topic refused one of n, and no broker says which
                             the first half of them, then half of what is left: log2(n) spans
    it was found            one, then twice as many after every span: the next may be near
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SPAN_BYTES = 8_388_608
"""Most bytes of a span, before compression: 3 s at 3 MB/s. A single output may exceed it."""
LATE_SECONDS = 4.0
"""A span whose outputs take so much longer than its commit is too large: a transaction has 13 s."""
SOON_SECONDS = 2.0
MANY_RECORDS = 4_096
"""After a span of so many outputs without a refused one their number is limited no more."""


class SpanSize:
    """What the next span may hold.

    Args:
        most: Bytes that it may ever hold.
    """

    def __init__(self, most: int = SPAN_BYTES) -> None:
        self._most = most
        self._bytes = most
        self._suspects = 0
        self._records: int | None = None

    def take(self, sizes: Iterable[int]) -> int:
        """How many of the outputs that wait, of these sizes in bytes, make up the next span."""
        records = (self._suspects + 1) // 2 or self._records
        count = total = 0
        for size in sizes:
            total += size
            if count and (total > self._bytes or count == records):
                break
            count += 1
        return count

    def committed(self, records: int, *, seconds: float, excess: float) -> None:
        """A span of so many outputs was committed.

        Args:
            records: How many.
            seconds: From its begin to the answer to its commit.
            excess: By how many of them its outputs took longer than its commit.
        """
        self._suspects = max(0, self._suspects - records)
        if self._records is not None and not self._suspects:
            self._records = self._records * 2 if self._records < MANY_RECORDS else None
        if excess > LATE_SECONDS:
            self._halve()
        elif seconds < SOON_SECONDS:
            self._bytes = min(self._most, self._bytes * 2)

    def failed(self, *, seconds: float) -> None:
        """A span failed after `seconds`, and not by a refused output."""
        if seconds > LATE_SECONDS:
            self._halve()

    def refused_among(self, records: int) -> None:
        """One of the first `records` outputs was refused, and it is unknown which."""
        self._suspects = records

    def found(self) -> None:
        """It is known which outputs were refused, or all is read again."""
        if self._suspects:
            self._records = 1
        self._suspects = 0

    def _halve(self) -> None:
        self._bytes = max(1, self._bytes // 2)
