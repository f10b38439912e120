"""Whether, and until when, the worker stops. Any thread may look; the main thread decides."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

import structlog

from worker import awake
from worker.errors import Transient
from worker.logs import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

T = TypeVar("T")

HAND_BACK_SHARE = 0.6
"""Share of the drain deadline by which records that were read are labelled. Those of a batch that
is likely to take longer are handed back: not published, not committed, and read again by the next
owner."""
CLOSE_SHARE = 0.15
"""Share of the drain deadline kept for the last commit and for leaving the group."""
RETRY_SECONDS = 1.0
"""Pause between attempts to reach a broker."""


class Shutdown:
    """Whether to stop, by a drain within its deadline or at once. Any thread.

    Args:
        deadline: Seconds that a drain may take.
        clock: Monotonic seconds.
    """

    def __init__(self, *, deadline: float, clock: Callable[[], float] = awake.now) -> None:
        self.deadline = deadline
        self._clock = clock
        self._began = 0.0
        self._stopping = threading.Event()
        self._aborting = threading.Event()

    def drain(self) -> None:
        """Nothing more is to be read; what was read is to be finished. The main thread's."""
        self._began = self._clock()
        self._stopping.set()

    def abort(self) -> None:
        """Stop at once: nothing that is not settled is to be committed. The main thread's."""
        self._aborting.set()
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether nothing more is to be read."""
        return self._stopping.is_set()

    def aborting(self) -> bool:
        """Whether to stop at once."""
        return self._aborting.is_set()

    @property
    def hand_back_at(self) -> float:
        """When a drain hands back what is not labelled yet, in seconds of the clock."""
        return self._began + HAND_BACK_SHARE * self.deadline

    def handing_back(self) -> bool:
        """Whether that time has come."""
        return self._clock() > self.hand_back_at

    def left(self) -> float:
        """Seconds that a drain has left for the last commit and for leaving the group."""
        spent = self._clock() - self._began
        return max(CLOSE_SHARE * self.deadline, (1 - CLOSE_SHARE) * self.deadline - spent)

    def wait(self, seconds: float) -> None:
        """Returns after `seconds`, or as soon as the worker stops."""
        self._stopping.wait(seconds)

    def reached(self, make: Callable[[], T]) -> T | None:
        """What `make` returns, as soon as the broker answers; None if the worker stops first."""
        away = Lasting(log, "broker_away", clock=self._clock)
        while not self.stopping:
            try:
                return make()
            except Transient as error:
                away.still(str(error))
                self.wait(RETRY_SECONDS)
        return None
