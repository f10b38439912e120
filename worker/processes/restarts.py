"""When a child that ended is started again: pure, the time is an argument."""

from __future__ import annotations

FIRST_PAUSE = 1.0
"""Seconds until a child is started again; the next pause is twice as long."""
LONGEST_PAUSE = 60.0
SETTLED = 60.0
"""Seconds that a child has to be ready for the pause to be short again: one that fails a moment
after each start waits longer and longer."""
HOPELESS = 4
"""Ends in a row without having been ready after which a child counts as one that cannot start. When
all of them do, whoever has started the supervisor may have a better device."""


class Restarts:
    """The ends of one child. Owned by the fleet."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE
        self._ready_since: float | None = None
        self._in_vain = 0

    @property
    def hopeless(self) -> bool:
        """It has ended again and again without having been ready."""
        return self._in_vain >= HOPELESS

    def ready(self, now: float) -> None:
        """The child is ready. To be called again and again."""
        self._in_vain = 0
        if self._ready_since is None:
            self._ready_since = now

    def ended(self, now: float) -> float:
        """The child has ended, and nobody asked it to: seconds until it is started again."""
        if self._ready_since is None:
            self._in_vain += 1
        elif now - self._ready_since >= SETTLED:
            self._pause = FIRST_PAUSE
        self._ready_since = None
        pause = self._pause
        self._pause = min(2 * pause, LONGEST_PAUSE)
        return pause
