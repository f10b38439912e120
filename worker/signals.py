"""Signals caught for a while, by whoever owns the main thread."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from types import FrameType


class CaughtSignals(ABC):
    """In its `with` block signals go to `_caught`, on the main thread; then to whom they went."""

    numbers: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._caught) for number in self.numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @abstractmethod
    def _caught(self, number: int, frame: FrameType | None) -> None: ...
