"""The stream from its first message to its last: the capacity is measured, the phases follow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.demo.capacity import MEASURE_SECONDS, ROUGH_SECONDS, Capacity
from worker.demo.outage import Outage
from worker.demo.phases import MOST, plan
from worker.demo.sender import Pace

if TYPE_CHECKING:
    from worker.demo.ledger import Ledger
    from worker.demo.phases import Phase, Wishes
    from worker.demo.sender import Sender
    from worker.demo.supervisor import Supervisor
    from worker.demo.watch import Watch

BACKLOG = 5_000
"""Most messages on their way where the user chose the rate, or there is no end: more wait unsent.
It bounds the demo's memory, and the time that `--forever` takes to end."""


class Scenario:
    """Sets the sender's pace, phase after phase, and kills the worker. Owned by the main thread.

    Args:
        wishes: What the user asked for.
        start_seconds: How long the worker took to start.
        sender: Sends the messages.
        ledger: What became of them.
        supervisor: The worker, which is ready.
        watch: Waits, and looks after everything meanwhile.
    """

    def __init__(
        self,
        *,
        wishes: Wishes,
        start_seconds: float,
        sender: Sender,
        ledger: Ledger,
        supervisor: Supervisor,
        watch: Watch,
    ) -> None:
        self._wishes = wishes
        self._start_seconds = start_seconds
        self._sender = sender
        self._ledger = ledger
        self._supervisor = supervisor
        self._watch = watch
        self.capacity: float | None = None
        """Outputs a second at full load, as measured."""

    def run(self) -> None:
        """Sends every phase, and returns when every message has its output.

        Raises:
            Interrupted: A signal came.
            Fatal: The worker ended or is stuck, the broker ended, or a message cannot be sent.
        """
        self._sender.start()
        if self._wishes.needs_capacity:
            self._measure()
        phases = plan(
            self._wishes,
            capacity=self.capacity,
            start_seconds=self._start_seconds,
            measured=self._sender.sent,
        )
        counts = [phase.messages for phase in phases]
        known = [count for count in counts if count is not None]
        self._watch.total = self._sender.sent + sum(known) if len(known) == len(counts) else None
        for phase in phases:
            self._play(phase)
        self.finish()

    def finish(self) -> None:
        """Sends no more; returns when every message has its output.

        Raises:
            Interrupted: A signal came.
            Fatal: As for `run`.
        """
        self._sender.finish()
        self._watch.show("all sent, labelling the rest")
        self._watch.until(lambda: self._sender.ended() and self._all_settled())
        self._watch.draw()

    def _measure(self) -> None:
        self._watch.show("measuring what the worker can do", phase="measure")
        rough = self._measure_round(seconds=ROUGH_SECONDS, expected=0.0)
        left = self._wishes.messages is None or self._sender.sent < self._wishes.messages
        self.capacity = (
            self._measure_round(seconds=MEASURE_SECONDS, expected=rough) if left else rough
        )
        self._watch.event(f"the worker labels {self.capacity:,.0f} messages a second here")

    def _measure_round(self, *, seconds: float, expected: float) -> float:
        capacity = Capacity(
            now=time.monotonic(),
            seconds=seconds,
            expected=expected,
            messages=self._wishes.messages,
        )
        before, sent = self._ledger.settled, self._sender.sent
        until = None if capacity.most is None else sent + capacity.most
        self._sender.take(Pace(phase="measure", rate=None, until=until, room=capacity.window))

        def look() -> None:
            capacity.saw(self._ledger.settled - before, now=time.monotonic())

        def enough() -> bool:
            look()
            return capacity.enough()

        self._watch.until(enough)
        self._sender.take(None)
        self._watch.until(self._all_settled)
        look()
        return capacity.rate()

    def _play(self, phase: Phase) -> None:
        if phase.name != "recovery":  # which must find the burst's lag
            self._watch.until(self._all_settled)
        already = self._sender.sent
        until = None if phase.messages is None else already + phase.messages
        doing = f"{phase.name} {phase.rate:,.0f}/s"
        self._watch.show(doing, phase=phase.name)
        self._watch.event(doing)
        # A rate that follows from the capacity may leave the backlog that it is meant to.
        room = MOST if phase.messages is not None and self._wishes.rate is None else BACKLOG
        self._sender.take(Pace(phase=phase.name, rate=phase.rate, until=until, room=lambda: room))
        if phase.kill_after is not None:
            due = already + phase.kill_after
            self._watch.until(lambda: self._sender.sent >= due)
            self._kill()
        self._watch.until(lambda: until is not None and self._sender.sent >= until)

    def _kill(self) -> None:
        self._watch.outage = Outage(
            sent=self._sender.sent, waiting=self._ledger.waiting, at=time.monotonic()
        )
        self._supervisor.kill()
        self._watch.event("the worker is killed with -9, a successor starts")

    def _all_settled(self) -> bool:
        return self._ledger.inputs == self._sender.sent and not self._ledger.waiting
