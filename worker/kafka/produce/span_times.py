"""When the next span of outputs is due. Owned by the publish thread."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GAP = 0.02
"""Seconds between two spans, however long they take: a revocation, which waits for the end of one,
must find the gap, or the leases end within the next."""


class SpanTimes:
    """Gathers outputs between two spans; what comes after a pause is due at once.

    Args:
        seconds: From one span's begin to the next one's, at least.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next_at = float("-inf")
        self._due_at: float | None = None

    def wait(self) -> bool:
        """An output waits; returns whether it is the first."""
        first = self._due_at is None
        if first:
            self._due_at = self._next_at
        return first

    def due(self, *, following: int) -> bool:
        """Whether a span should be sent now.

        Args:
            following: Records in flight whose outputs are not there yet; 0: no reason to wait.
        """
        return self._due_at is not None and (following == 0 or time.monotonic() >= self._due_at)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While a span is sent."""
        begun = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._next_at = max(begun + self._seconds, ended + min(self._seconds, GAP))

    def at_once(self) -> None:
        """What waits is due now: what a full span has left, or a span that failed."""
        self._due_at = float("-inf")

    def rest(self) -> None:
        """Nothing waits."""
        self._due_at = None
