"""The model is loaded on a thread of its own, while the main thread asks the cluster.

Importing torch and reading weights take seconds of computing, the cluster's answers take waiting:
beside each other neither delays the other. The thread is a daemon and is never interrupted, so a
process that has to end in the middle must not finalize the interpreter under it: `under_way`
says when `end_at_once` is the way out.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Loading(Generic[T]):
    """What `load` returns, when it has.

    All but the thread itself is the main thread's.

    Args:
        load: Called once, on the thread.
        look: Called there before it: raises what can be found wrong at once.
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
        """Whether the thread is in the middle of it."""
        return self._thread.is_alive()

    def looked(self, seconds: float) -> None:
        """Waits until `look` has returned, or for so long. Raises what it raised."""
        self._looked.wait(seconds)
        self.failed_early()

    def failed_early(self) -> None:
        """Raises what `load` raised, if it has by now."""
        if self._failure is not None:
            raise self._failure

    def result(self) -> T:
        """Waits. A signal's handler runs meanwhile, and may raise.

        Raises:
            BaseException: What `load` raised.
        """
        self._done.wait()
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
