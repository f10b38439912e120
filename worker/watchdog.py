"""Notices a call that never returns. Waiting does not help then; a restart does.

The thread that makes the call only marks its begin and its end. The main thread, which waits for no
such call, looks at the marks and ends the process: what was not committed is read again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from worker import awake
from worker.awake import LONGEST_STEP
from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLL_DEADLINE = 30.05
"""Seconds for a turn of the poll loop: 30 more than a poll may wait for records. All else in a
turn has limits of its own: replacing the consumer about 11 s, a revocation's commit 10."""


class Call:
    """A kind of call that may hang. One thread enters it again and again; another looks at it."""

    def __init__(self, *, what: str, limit: float, advice: str) -> None:
        self.what = what
        self.limit = limit
        self.advice = advice
        self.returned = 0
        """How many of the calls have returned."""
        self.under_way = False

    def __enter__(self) -> None:
        self.under_way = True

    def __exit__(self, *_: object) -> None:
        self.under_way = False
        self.returned += 1


class Watchdog:
    """The calls that may hang. Any thread may enter one; `overdue` is the main thread's.

    Args:
        model_deadline: Seconds that one call of the model may take.
        clock: Monotonic seconds.
        last_resort: Called again and again, with the seconds after which the process is to end by
            itself unless it is called again: `LastResort.put_off`.
    """

    def __init__(
        self,
        *,
        model_deadline: float,
        clock: Callable[[], float] = time.monotonic,
        last_resort: Callable[[float], None] | None = None,
    ) -> None:
        self.model = Call(
            what="a call of the model",
            limit=model_deadline,
            advice="raise model.deadline if the model is only slow",
        )
        self.poll = Call(
            what="a turn of the poll loop", limit=POLL_DEADLINE, advice="the consumer hangs"
        )
        self._clock = clock
        self._last_resort = last_resort
        self._looked = clock()
        self._renewed = float("-inf")
        self._spent: dict[Call, tuple[int, float]] = {}

    def overdue(self) -> Fatal | None:
        """The failure of a call that is past its limit. To be called several times a second."""
        now = self._clock()
        step = min(now - self._looked, LONGEST_STEP)
        self._looked = now
        if self._last_resort is not None and now - self._renewed >= LONGEST_STEP:
            self._renewed = now
            self._last_resort(max(self.model.limit, self.poll.limit))
        for call in (self.model, self.poll):
            spent = self._count(call, step)
            if spent > call.limit:
                return Fatal(
                    f"{call.what} has not come back for {spent:.0f} s (its deadline: "
                    f"{call.limit:g} s): {call.advice}; what was not committed is read again"
                )
        return None

    def _count(self, call: Call, step: float) -> float:
        returned = call.returned
        before, spent = self._spent.get(call, (-1, 0.0))
        spent = spent + step if call.under_way and before == returned else 0.0
        self._spent[call] = (returned, spent)
        return spent


@contextlib.contextmanager
def limited(
    seconds: float,
    late: Callable[[], None],
    *,
    last_resort: Callable[[float], None] = lambda _: None,
) -> Iterator[None]:
    """Calls `late`, on a thread of its own, if the block takes longer than `seconds`.

    For the steps of a start, before a watchdog is asked. Seconds in which the whole process was
    stopped do not count. `last_resort` is as in `Watchdog`; 0 calls it off.
    """
    over = threading.Event()

    def watch() -> None:
        end = awake.now() + seconds
        while (left := end - awake.now()) > 0:
            last_resort(left)
            if over.wait(min(left, LONGEST_STEP)):
                return
        late()

    thread = threading.Thread(target=watch, name="deadline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        last_resort(0)  # the worker may wait for a broker next, without limit


def end_at_once(code: int) -> NoReturn:
    """Ends the process although threads hang: a normal exit might wait for them."""
    for handler in logging.getLogger().handlers:
        handler.flush()  # of ours: waits for the reader, for a limited time
    os._exit(code)
