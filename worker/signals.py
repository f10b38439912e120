"""Catches signals within a block on the main thread: the first asks to stop, the second ends."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from worker.errors import EXIT_DRAINED
from worker.log_lines import say

if TYPE_CHECKING:
    from types import FrameType

ECHO_SECONDS = 0.5
"""A second signal within this time counts as the first one: a wrapper may pass on a signal that the
terminal has sent to every process."""


class StoppedEarly(Exception):
    """A signal came during the start."""


class CaughtSignals(ABC):
    """Handles signals in its `with` block, on the main thread; then the old handlers are back."""

    numbers: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._first_at: float | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._caught) for number in self.numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether there was a signal."""
        return self._first_at is not None

    def _caught(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
            self._first()
        elif now - self._first_at > ECHO_SECONDS:
            self._second()

    @abstractmethod
    def _first(self) -> None:
        """Raises nothing where a library may be at work: see `worker/aside.py`."""

    @abstractmethod
    def _second(self) -> None: ...


class DrainSignals(CaughtSignals):
    """SIGTERM and SIGINT: the first asks for a drain, the second to stop at once."""

    def __init__(self) -> None:
        super().__init__()
        self.hurried = False
        self._heeded = False

    def heeded(self) -> None:
        """From now on somebody looks at `asked`; before that a signal ends the process at once."""
        self._heeded = True

    def _first(self) -> None:
        if not self._heeded:
            say("emotion-worker: stopped before it had started")
            os._exit(EXIT_DRAINED)

    def _second(self) -> None:
        self.hurried = True
