"""How long a batch takes, and whether a drain has time for one more.

Pure: no clock; time is an argument. The assemble and the classify thread own one each.
"""

from __future__ import annotations

from collections import deque

RECENT = 10
"""Batches whose longest is what the next one is expected to take: batches differ in size, and one
that was slow by chance (memory ran out) is forgotten after so many."""


class Pace:
    """The time of the last batches."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._since = 0.0

    @property
    def known(self) -> bool:
        """Whether any batch has finished yet."""
        return bool(self._recent)

    def begins(self, now: float) -> None:
        """A batch begins on an idle model."""
        self._since = now

    def ended(self, now: float) -> float:
        """A batch ended, and the next one begins if there is one; returns its seconds."""
        seconds, self._since = now - self._since, now
        self.took(seconds)
        return seconds

    def took(self, seconds: float) -> None:
        """A batch took so many seconds."""
        self._recent.append(seconds)

    def fits(self, batches: int, *, now: float, until: float) -> bool:
        """Whether so many batches, one after the other, are likely to be finished by `until`.

        Before any has finished, one is tried.
        """
        if not self.known:
            return batches == 1 and now <= until
        return now + batches * max(self._recent) <= until
