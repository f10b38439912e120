"""Owns the threads: start, drain, abort. Knows no message but the abort.

`messages.py` draws who sends what to whom. Each mutable object has one owner among the threads;
everything else is a message or an object that says "any thread": metrics, gate, health, watchdog,
membership, shutdown.

A drain is a barrier that follows the last record through every stage. A thread's failure is sent to
the main thread, which then stops all threads: nothing unacknowledged is committed.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, Queue
from typing import TYPE_CHECKING, Protocol

from worker import awake
from worker.errors import Fatal
from worker.messages import Abort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.stages.shutdown import Shutdown
    from worker.watchdog import Watchdog

LAST_WORDS_SHARE = 0.02
"""Share of the drain deadline, at its end, in which the threads of a failed drain may end."""


class Stage(Protocol):
    """What one thread does."""

    def run(self) -> None:
        """Works until there is nothing left to do; raises what ends the worker."""


class Pipeline:
    """The running worker. All methods are the main thread's.

    Args:
        stages: By the name of the thread of each. A drain waits for all of them.
        watch: Runs beside them; nothing waits for its end.
        device: So does this one, where there is a GPU to ask.
        abort: Each puts an `Abort` into the inbox of one stage.
        shutdown: Says when to stop.
        watchdog: Notices a call that never returns.
    """

    def __init__(
        self,
        *,
        stages: Mapping[str, Stage],
        watch: Stage,
        device: Stage | None = None,
        abort: Sequence[Callable[[Abort], None]],
        shutdown: Shutdown,
        watchdog: Watchdog,
    ) -> None:
        self._abort = abort
        self._shutdown = shutdown
        self._watchdog = watchdog
        # Not a SimpleQueue: when a signal comes at the end of its timeout, SimpleQueue.get waits
        # for ever (CPython 3.11 and 3.12), and signals come to the main thread, which waits here.
        self._failures: Queue[BaseException] = Queue()
        self._threads = [self._thread(name, stage) for name, stage in stages.items()]
        self._beside = [self._thread("watch", watch)]
        if device is not None:
            self._beside.append(self._thread("device", device))

    def start(self) -> None:
        """Starts the threads."""
        self._watchdog.overdue()  # it watches before anything can hang
        for thread in (*self._threads, *self._beside):
            thread.start()

    def failure(self, timeout: float) -> BaseException | None:
        """The first failure of a thread, or of a call that hangs; waits up to `timeout` seconds."""
        try:
            return self._failures.get(timeout=timeout)
        except Empty:
            return self._watchdog.overdue()

    def drain(self, *, hurried: Callable[[], bool]) -> BaseException | None:
        """Finishes what was accepted, commits it and leaves the group, inside the deadline.

        Args:
            hurried: Whether a second signal asked for the end at once.

        Returns:
            None, or why the drain failed.
        """
        allowed = self._shutdown.deadline
        deadline = awake.now() + allowed - self.last_words
        self._shutdown.drain()
        failure: BaseException | None = None
        while failure is None and any(thread.is_alive() for thread in self._threads):
            if awake.now() > deadline:
                failure = Fatal(
                    f"the drain missed its deadline of {allowed:g} s: what was not committed is "
                    "read again"
                )
            elif hurried():
                failure = Fatal("aborted by a second signal: what was not committed is read again")
            else:
                failure = self.failure(timeout=0.01)
        failure = failure or self.failure(timeout=0)
        if failure is not None:
            self.abort()
        return failure

    def abort(self) -> None:
        """Stops the threads without waiting for them; nothing unacknowledged is committed."""
        self._shutdown.abort()
        for send in self._abort:
            send(Abort())

    @property
    def last_words(self) -> float:
        """Seconds for `join`, and for the end of the process, after a drain."""
        return LAST_WORDS_SHARE * self._shutdown.deadline

    def join(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the threads; returns whether all of them ended."""
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _thread(self, name: str, stage: Stage) -> threading.Thread:
        return threading.Thread(target=self._guard, args=(stage.run,), name=name, daemon=True)

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - a thread's boundary: the main thread decides
            self._failures.put(error)
