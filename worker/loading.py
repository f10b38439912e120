"""The model is loaded while the cluster is asked.

Importing torch and reading weights take seconds of computing, the cluster's answers seconds of
waiting: in parallel neither delays the other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from worker.aside import Aside

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Loading(Aside[T]):
    """Calls `load` on a thread and keeps what it returns.

    Args:
        load: Called once, on the thread.
        look: Called on the thread before `load`: raises what a quick look at the checkpoint finds.
    """

    def __init__(self, load: Callable[[], T], *, look: Callable[[], None] = lambda: None) -> None:
        self._looked = threading.Event()

        def looked_and_loaded() -> T:
            look()
            self._looked.set()
            return load()

        super().__init__(looked_and_loaded, name="load")

    def looked(self, seconds: float) -> None:
        """Waits until `look` has returned, for at most `seconds`. Raises what it raised."""
        self._looked.wait(seconds)
        self.failed_early()

    def _run(self) -> None:
        super()._run()
        self._looked.set()  # also where `look` has failed
