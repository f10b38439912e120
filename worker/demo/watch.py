"""The stream from its first message to its last: the phases in turn, and what the view shows."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from worker.demo.ledger import counted_quantile
from worker.demo.outage import Outage
from worker.demo.phases import (
    MEASURE_SECONDS,
    MOST,
    ROUGH_SECONDS,
    Capacity,
    names,
    plan,
)
from worker.demo.source import Pace
from worker.demo.view import Frame, Sample
from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.demo.ledger import Ledger
    from worker.demo.phases import Phase, Wishes
    from worker.demo.show import Stream
    from worker.demo.source import Source
    from worker.demo.stop import Stop
    from worker.demo.supervisor import Supervisor
    from worker.demo.topics import Reader

FRAME_SECONDS = 0.25
"""Pause between frames. Half of it costs the worker a few percent of two cores."""
SCRAPE_SECONDS = 0.5
STALL_SECONDS = 60.0
"""Without any output for so long while messages wait, the worker is stuck."""
BACKLOG = 5_000
"""Messages on their way at most where the rate or the number is not the demo's own choice: more
wait unsent. It bounds the demo's memory, and the time that `--forever` takes to end."""
_RATE_SAMPLES = 7
"""Scrapes that the rate looks back on: three seconds."""
_PAST = 400
"""Scrapes that the charts look back on: more than three minutes."""


class Watch:
    """Runs the stream and keeps what the view shows. Owned by the main thread.

    Args:
        ledger: What became of the messages.
        reader: Fills it.
        source: Sends them.
        supervisor: The worker, which is ready.
        stop: The user's wish to end.
        check_broker: Raises where the demo's own broker has ended.
        wishes: What the stream should be like.
        start_seconds: What the worker's start took.
        topics: Names of the input and the output topic.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        reader: Reader,
        source: Source,
        supervisor: Supervisor,
        stop: Stop,
        check_broker: Callable[[], None],
        wishes: Wishes,
        start_seconds: float,
        topics: tuple[str, str],
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._source = source
        self._supervisor = supervisor
        self._stop = stop
        self._check_broker = check_broker
        self._wishes = wishes
        self._start_seconds = start_seconds
        self._topics = topics
        self._phase = ""
        self._doing = "starting"
        self._total = wishes.messages
        self._killed_at = 0.0
        self._settled: deque[tuple[float, int]] = deque(maxlen=_RATE_SAMPLES)
        self._past: deque[Sample] = deque(maxlen=_PAST)
        self._began = self._moved = self._next_frame = self._next_scrape = time.monotonic()
        self._last_settled = 0
        self.capacity: float | None = None
        """Outputs a second at full load, as measured."""
        self.outage: Outage | None = None
        """What the kill did; None while there was none."""

    def run(self, screen: Stream) -> None:
        """Sends every phase, and returns when every message has its output.

        Raises:
            Interrupted: A signal came.
            Fatal: The worker ended or is stuck, the broker ended, or a message cannot be sent.
        """
        self._source.start()
        if self._wishes.needs_capacity:
            self._measure(screen)
        phases = plan(
            self._wishes,
            capacity=self.capacity,
            start_seconds=self._start_seconds,
            measured=self._source.sent,
        )
        counts = [phase.messages for phase in phases]
        known = [count for count in counts if count is not None]
        self._total = self._source.sent + sum(known) if len(known) == len(counts) else None
        for phase in phases:
            self._play(phase, screen)
        self.finish(screen)

    def finish(self, screen: Stream) -> None:
        """Sends no more; returns when every message has its output."""
        self._source.finish()
        self._doing = "all sent, labelling the rest"
        self._until(lambda: self._source.ended() and self._all_settled(), screen)
        screen.frame(self._frame(time.monotonic()))

    def _measure(self, screen: Stream) -> None:
        self._phase, self._doing = "measure", "measuring what the worker can do"
        rough = self._measure_round(screen, seconds=ROUGH_SECONDS, expected=0.0)
        left = self._wishes.messages is None or self._source.sent < self._wishes.messages
        self.capacity = (
            self._measure_round(screen, seconds=MEASURE_SECONDS, expected=rough) if left else rough
        )
        screen.event(f"the worker labels {self.capacity:,.0f} messages a second here")

    def _measure_round(self, screen: Stream, *, seconds: float, expected: float) -> float:
        capacity = Capacity(
            now=time.monotonic(),
            seconds=seconds,
            expected=expected,
            messages=self._wishes.messages,
        )
        before, sent = self._ledger.settled, self._source.sent
        until = None if capacity.most is None else sent + capacity.most
        self._source.take(Pace(phase="measure", rate=None, until=until, room=capacity.window))

        def look() -> None:
            capacity.saw(self._ledger.settled - before, now=time.monotonic())

        def enough() -> bool:
            look()
            return capacity.enough()

        self._until(enough, screen)
        self._source.take(None)
        self._until(self._all_settled, screen)
        look()
        return capacity.rate()

    def _play(self, phase: Phase, screen: Stream) -> None:
        if phase.name != "recovery":  # which is what it recovers from
            self._until(self._all_settled, screen)
        already = self._source.sent
        until = None if phase.messages is None else already + phase.messages
        self._phase, self._doing = phase.name, f"{phase.name} {phase.rate:,.0f}/s"
        screen.event(self._doing)
        # A rate that follows from the capacity may leave the backlog that it is meant to.
        room = MOST if phase.messages is not None and self._wishes.rate is None else BACKLOG
        self._source.take(Pace(phase=phase.name, rate=phase.rate, until=until, room=lambda: room))
        if phase.kill_after is not None:
            due = already + phase.kill_after
            self._until(lambda: self._source.sent >= due, screen)
            self._kill(screen)
        self._until(lambda: until is not None and self._source.sent >= until, screen)

    def _kill(self, screen: Stream) -> None:
        self.outage = Outage(sent=self._source.sent, waiting=self._ledger.waiting)
        self._killed_at = time.monotonic()
        self._supervisor.kill()
        screen.event("the worker is killed with -9, a successor starts")

    def _all_settled(self) -> bool:
        return self._ledger.inputs == self._source.sent and not self._ledger.waiting

    def _until(self, condition: Callable[[], bool], screen: Stream) -> None:
        while True:
            self._turn(screen)
            if condition():
                return

    def _turn(self, screen: Stream) -> None:
        """Reads what has come, looks after everything, and draws when it is time to."""
        self._reader.read(FRAME_SECONDS / 2)
        now = time.monotonic()
        self._ledger.lag_seen(self._phase)
        self._stop.check()
        self._check_broker()
        self._source.check()
        self._supervisor.check()
        self._follow_outage(now, screen)
        self._check_moving(now)
        if now >= self._next_scrape:
            self._next_scrape = now + SCRAPE_SECONDS
            self._sample(now)
        if now >= self._next_frame:
            self._next_frame = now + FRAME_SECONDS
            screen.frame(self._frame(now))

    def _follow_outage(self, now: float, screen: Stream) -> None:
        outage = self.outage
        if outage is None or outage.caught_up is not None:
            return
        seconds = now - self._killed_at
        new = outage.follow(
            seconds,
            ready=self._supervisor.ready,
            settled=self._ledger.settled,
            waiting=self._ledger.waiting,
        )
        self._doing = outage.now(seconds)
        if new:
            screen.event(new)

    def _check_moving(self, now: float) -> None:
        settled = self._ledger.settled
        if settled != self._last_settled or not self._ledger.waiting or not self._supervisor.ready:
            self._last_settled, self._moved = settled, now
        stalled = now - self._moved
        if stalled > STALL_SECONDS:
            raise Fatal(
                f"no output for {stalled:.0f} s while {self._ledger.waiting:,} messages wait "
                f"(the worker's log: {self._supervisor.log})"
            )

    def _sample(self, now: float) -> None:
        if self._supervisor.scraper is not None and self._supervisor.ready:
            self._supervisor.scraper.scrape()
        self._settled.append((now, self._ledger.settled))
        self._past.append(
            Sample(
                rate=_rate([*self._settled][-3:]),
                lag=self._ledger.waiting,
                phase=self._phase,
                down=self._down(),
            )
        )

    def _down(self) -> bool:
        return self.outage is not None and self.outage.back is None

    def _frame(self, now: float) -> Frame:
        ledger, scraper = self._ledger, self._supervisor.scraper
        reading = scraper.last if scraper else None
        recent: dict[int, int] = {}
        for latency in ledger.recent:
            recent[latency] = recent.get(latency, 0) + 1
        return Frame(
            elapsed=now - self._began,
            sent=self._source.sent,
            total=self._total,
            phases=names(self._wishes),
            phase=self._phase,
            doing=self._doing,
            down=self._down(),
            labelled=ledger.labelled,
            dead=ledger.dead,
            rate=_rate(self._settled),
            past=tuple(self._past),
            lag=ledger.waiting,
            p50=counted_quantile(recent, 0.5),
            p99=counted_quantile(recent, 0.99),
            batch=scraper.batch_size() if scraper else None,
            labels=ledger.mix(),
            reasons=ledger.reasons,
            shown=tuple(ledger.shown),
            model=reading.model if reading else "",
            topics=self._topics,
        )


def _rate(settled: Sequence[tuple[float, int]]) -> float:
    """Outputs a second, from times and counts."""
    if not settled:
        return 0.0
    (then, before), (now, after) = settled[0], settled[-1]
    return (after - before) / (now - then) if now > then else 0.0
