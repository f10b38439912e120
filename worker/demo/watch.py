"""What goes on while the stream flows: topics are read, everything is checked, frames are drawn."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from worker.demo.frame import Story

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.demo.guard import Guard
    from worker.demo.ledger import Ledger
    from worker.demo.outage import Outage
    from worker.demo.reader import Reader
    from worker.demo.recorder import Recorder
    from worker.demo.supervisor import Supervisor
    from worker.demo.terminal import LiveView

FRAME_SECONDS = 0.25
"""Pause between frames. With half of it the frames cost the worker a few percent of two cores."""


class Watch:
    """Waits for what the scenario waits for, and looks after everything meanwhile.

    Owned by the main thread.

    Args:
        reader: Fills the ledger.
        ledger: What became of the messages.
        guard: Raises where the stream cannot go on.
        recorder: Keeps the past, and makes the frames.
        supervisor: The worker.
        view: Shows the frames.
        phases: The names of all phases, in order.
        total: How many messages will be sent; None where it is not known yet.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        ledger: Ledger,
        guard: Guard,
        recorder: Recorder,
        supervisor: Supervisor,
        view: LiveView,
        phases: Sequence[str],
        total: int | None,
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._guard = guard
        self._recorder = recorder
        self._supervisor = supervisor
        self._view = view
        self._story = Story(phases=phases)
        self._next_frame = 0.0
        self.total = total
        """How many messages will be sent; None where it is not known, or there is no end."""
        self.outage: Outage | None = None
        """What the kill did; None while there was none."""

    def show(self, doing: str, *, phase: str | None = None) -> None:
        """Shows from now on that this is done, and in which phase where that changes."""
        phase = self._story.phase if phase is None else phase
        self._story = replace(self._story, doing=doing, phase=phase)

    def event(self, text: str) -> None:
        """Shows that something has happened."""
        self._view.event(text)

    def until(self, condition: Callable[[], bool]) -> None:
        """Turns until the condition holds, once at least.

        Raises:
            Interrupted: A signal came.
            Fatal: The stream cannot go on.
        """
        while True:
            self._turn()
            if condition():
                return

    def draw(self) -> None:
        """Draws a frame now."""
        self._view.frame(self._recorder.frame(time.monotonic(), self._story, total=self.total))

    def _turn(self) -> None:
        self._reader.read(FRAME_SECONDS / 2)
        now = time.monotonic()
        self._ledger.note_lag(self._story.phase)
        self._guard.check(now)
        self._follow_outage(now)
        self._recorder.sample(now, self._story)
        if now >= self._next_frame:
            self._next_frame = now + FRAME_SECONDS
            self.draw()

    def _follow_outage(self, now: float) -> None:
        outage = self.outage
        if outage is None or outage.over:
            return
        new = outage.follow(
            now,
            ready=self._supervisor.ready,
            settled=self._ledger.settled,
            waiting=self._ledger.waiting,
        )
        self._story = replace(self._story, doing=outage.doing(now), down=outage.down)
        if new:
            self.event(new)
