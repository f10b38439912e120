"""How long outputs have waited without any acknowledgement, and when waiting is to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker import awake
from worker.errors import Fatal, Transient

if TYPE_CHECKING:
    from collections.abc import Callable

TELL_SECONDS = 10.0
"""Seconds without an acknowledgement from which on `tell` is called."""


class Outage:
    """The time since the last acknowledgement. Owned by the thread that sends.

    Args:
        limit: Seconds without an acknowledgement after which `Fatal` is raised.
        stopping: Whether the process is to give up waiting for the broker.
        tell: Called with the seconds without an acknowledgement, again and again while outputs
            wait, and with 0 when they do no more.
    """

    def __init__(
        self,
        *,
        limit: float,
        stopping: Callable[[], bool],
        tell: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.limit = limit
        self._stopping = stopping
        self._tell = tell
        self._told = False
        self._last_good = awake.now()
        self._resting_since: float | None = None

    def succeeded(self) -> None:
        """The broker has acknowledged something, or is asked for the first time: no outage yet."""
        self._last_good = awake.now()
        self._resting_since = None
        self._all_is_well()

    def rests(self) -> None:
        """Nothing waits for an acknowledgement from now on, although the last thing failed."""
        self._resting_since = awake.now()
        self._all_is_well()

    def goes_on(self) -> None:
        """Something waits again: the time in which nothing did is no outage."""
        if self._resting_since is not None:
            self._last_good += awake.now() - self._resting_since
            self._resting_since = None

    def check(self, cause: Exception | None = None) -> None:
        """To be called again and again while something waits.

        Args:
            cause: What it waits for, as far as it is known.

        Raises:
            Fatal: Nothing was acknowledged for too long.
            Transient: The process is to stop.
        """
        if self._stopping():
            raise Transient("the process stops while outputs wait for the broker")
        away = awake.now() - self._last_good
        if away > self.limit:
            raise Fatal(
                f"no output was acknowledged for {away:.0f} s (kafka.outage_limit): nothing "
                "unacknowledged was committed; it is read again after a restart"
                + (f"; last: {cause}" if cause is not None else "")
            )
        if away > TELL_SECONDS:
            self._told = True
            self._tell(away)

    def _all_is_well(self) -> None:
        if self._told:
            self._told = False
            self._tell(0.0)
