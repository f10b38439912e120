"""When something is due again. Owned by the thread that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Interval:
    """Says when something is due again.

    Args:
        seconds: Between two times.
        clock: Monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")

    def due(self) -> bool:
        """Whether it is due; a new interval begins then."""
        over = self.over
        if over:
            self.begin()
        return over

    @property
    def over(self) -> bool:
        """Whether it is due; nothing begins."""
        return self._clock() >= self._next

    def begin(self) -> None:
        """A new interval begins."""
        self._next = self._clock() + self._seconds
