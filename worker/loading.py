"""The model is loaded on a thread of its own, while the main thread asks the cluster.

Importing torch and reading weights take seconds of computing, the cluster's answers seconds of
waiting: in parallel neither delays the other. The thread is a daemon and is never interrupted, so
the interpreter must not be finalized while it runs: a process that has to end while `under_way` is
true ends by `end_at_once`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SLICE_SECONDS = 0.2
"""Longest time until a signal is noticed while the model loads."""


class Loading(Generic[T]):
    """Calls `load` on a thread and keeps what it returns.

    All methods are the main thread's.

    Args:
        load: Called once, on the thread.
        look: Called on the thread before `load`: raises what a quick look at the checkpoint finds.
    """

    def __init__(self, load: Callable[[], T], *, look: Callable[[], None] = lambda: None) -> None:
        self._load = load
        self._look = look
        self._looked = threading.Event()
        self._loaded: list[T] = []
        self._failure: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begins to load."""
        self._thread.start()

    @property
    def under_way(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def looked(self, seconds: float) -> None:
        """Waits until `look` has returned, for at most `seconds`. Raises what it raised."""
        self._looked.wait(seconds)
        self.failed_early()

    def failed_early(self) -> None:
        """Raises what `look` or `load` has raised by now, if anything."""
        if self._failure is not None:
            raise self._failure

    def result(self) -> T:
        """Waits for what `load` returns. A signal's handler runs meanwhile, and may raise.

        Raises:
            BaseException: What `look` or `load` raised.
        """
        # In slices: a signal just before a wait without limit would be noticed at its end only.
        while not self._done.wait(SLICE_SECONDS):
            pass
        self.failed_early()
        self._thread.join()
        return self._loaded[0]

    def _run(self) -> None:
        try:
            self._look()
            self._looked.set()
            self._loaded.append(self._load())
        except BaseException as error:  # noqa: BLE001 - at a thread's boundary: result() raises it
            self._failure = error
        finally:
            self._looked.set()
            self._done.set()
