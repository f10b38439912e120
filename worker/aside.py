"""A step of a start on a thread of its own, so that no signal interrupts it.

An exception that a signal's handler raises comes at any instruction of the main thread: within a
library it loses a cleanup, leaves a lock held, or is swallowed. So the main thread only waits, and
what takes long runs here. The thread is a daemon: a process that has to end while `under_way` is
true ends by `end_at_once`, since finalizing the interpreter under a running import can crash.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from worker.signals import StoppedEarly

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLICE_SECONDS = 0.2
"""Longest time until a signal is noticed."""


class Aside(Generic[T]):
    """Calls a step on a thread and keeps what it returns.

    One thread at a time calls its methods.

    Args:
        step: Called once, on the thread.
        name: The thread's.
    """

    def __init__(self, step: Callable[[], T], *, name: str) -> None:
        self._step = step
        self._returned: list[T] = []
        self._failure: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins the step."""
        self._thread.start()

    @property
    def under_way(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def failed_early(self) -> None:
        """Raises what the step has raised by now, if anything."""
        if self._failure is not None:
            raise self._failure

    def result(self, *, stopped: Callable[[], bool] = lambda: False) -> T:
        """Waits for what the step returns.

        Args:
            stopped: Asked several times a second: whether to wait no longer.

        Raises:
            StoppedEarly: `stopped`; the step may be under way.
            BaseException: What the step raised.
        """
        # In slices: a signal just before a wait without limit would be noticed at its end only.
        while not self._done.wait(SLICE_SECONDS):
            if stopped():
                raise StoppedEarly
        if stopped():
            raise StoppedEarly
        self.failed_early()
        self._thread.join()
        return self._returned[0]

    def _run(self) -> None:
        try:
            self._returned.append(self._step())
        except BaseException as error:  # noqa: BLE001 - at a thread's boundary: result() raises it
            self._failure = error
        finally:
            self._done.set()
