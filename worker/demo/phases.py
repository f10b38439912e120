"""What the demo sends, how fast, and what it does to the worker meanwhile.

    measure  as fast as the worker labels: tells the capacity
    steady   half the capacity
    burst    twice the capacity: lag builds
    recovery half the capacity: the lag goes back to zero
    kill     half the capacity; the worker is killed in the middle and a successor goes on

Pure: seconds and counts in, phases out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

PhaseName = Literal["measure", "steady", "burst", "recovery", "kill"]

STEADY_SHARE = 0.5
"""Of the capacity. At more the latency tells of the queue and not of the worker."""
BURST_SHARE = 2.0
STEADY_SECONDS = 15.0
BURST_SECONDS = 4.0
"""Each second of it takes two of recovery."""
LEAD_SECONDS = 4.0
"""Of the last phase before the kill: the successor must find a stream, not a beginning."""
RESTARTS = 1.3
"""Start-ups of a worker that the stream goes on for after the kill: one to be without a worker,
and a part of one in which the successor is seen to catch up."""
AFTER_SECONDS = 16.0
"""Longest that it goes on: where a start takes longer, what was sent is enough to catch up with."""
FEWEST, MOST = 2_000, 100_000
"""Messages in all, where nobody has asked for a number. Fewer prove little; on a fast machine
more take longer to count than to label."""
ROUGH_SECONDS, MEASURE_SECONDS = 2.0, 4.0
"""The measurement has two rounds: the first is warm-up and tells how many messages keep the worker
busy, the second counts."""
PATIENCE_SECONDS = 10.0
"""Longest round, for a machine that labels a batch in seconds."""
MEASURE_OUTPUTS = 64
"""Fewest outputs of a round."""
WINDOW = 64
"""Messages on their way in a round, at least."""
WINDOW_SECONDS = 1.5
"""Of labelling that should be on their way. At less the worker waits for the next message while
its outputs are committed and read; at more it takes long to work them off."""
MEASURE_SHARE = 0.1
"""Of a number of messages that was asked for, what a round may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the stream."""

    name: PhaseName
    rate: float
    """Messages sent in a second."""
    messages: int | None
    """How many; None: until Ctrl-C."""
    kill_after: int | None = None
    """The worker is killed when so many of them are sent; None: it is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user asked for."""

    messages: int | None
    rate: float | None
    burst: bool
    kill: bool
    forever: bool

    @property
    def needs_capacity(self) -> bool:
        """Whether some rate follows from what the worker can do."""
        return self.rate is None or self.burst


def plan(
    wishes: Wishes, *, capacity: float | None, start_seconds: float, measured: int = 0
) -> list[Phase]:
    """The phases after the measurement.

    Args:
        wishes: What the user asked for.
        capacity: Outputs a second at full load; None where none was needed.
        start_seconds: What a start of the worker takes.
        measured: Messages that the measurement has sent: they count.
    """
    phases = _timed(wishes, capacity, start_seconds)
    if not wishes.forever:
        return _counted(phases, _total(wishes, phases, measured) - measured)
    if len(phases) == 1:
        phases = []
    rate = _steady_rate(wishes, capacity)
    return [*_whole(phases), Phase(name="steady", rate=rate, messages=None)]


def names(wishes: Wishes) -> list[PhaseName]:
    """The phases by name, in order, the measurement too."""
    every: dict[PhaseName, bool] = {
        "measure": wishes.needs_capacity,
        "steady": True,
        "burst": wishes.burst,
        "recovery": wishes.burst,
        "kill": wishes.kill,
    }
    return [name for name, played in every.items() if played]


def _timed(wishes: Wishes, capacity: float | None, start_seconds: float) -> list[_Timed]:
    """The phases with the seconds that show best what they are for."""
    rate = _steady_rate(wishes, capacity)
    phases = [_Timed("steady", rate, STEADY_SECONDS)]
    if wishes.burst and capacity is not None:
        calm = min(rate, STEADY_SHARE * capacity)
        backlog = (BURST_SHARE - 1) * capacity * BURST_SECONDS
        phases += [
            _Timed("burst", BURST_SHARE * capacity, BURST_SECONDS),
            _Timed("recovery", calm, backlog / (capacity - calm)),
        ]
    if wishes.kill:
        after = min(AFTER_SECONDS, RESTARTS * start_seconds)
        phases.append(_Timed("kill", rate, LEAD_SECONDS + after))
    return phases


def _steady_rate(wishes: Wishes, capacity: float | None) -> float:
    if wishes.rate is not None:
        return wishes.rate
    if capacity is None:
        raise ValueError("without a rate the capacity is needed")
    return STEADY_SHARE * capacity


@dataclass(frozen=True, slots=True)
class _Timed:
    name: PhaseName
    rate: float
    seconds: float

    @property
    def messages(self) -> float:
        return self.rate * self.seconds

    def counted(self, messages: int) -> Phase:
        if self.name != "kill":
            return Phase(name=self.name, rate=self.rate, messages=messages)
        lead = round(messages * LEAD_SECONDS / self.seconds)
        return Phase(name="kill", rate=self.rate, messages=messages, kill_after=lead)


def _total(wishes: Wishes, phases: list[_Timed], measured: int) -> int:
    if wishes.messages is not None:
        return wishes.messages
    return min(MOST, max(FEWEST, measured + round(sum(phase.messages for phase in phases))))


def _counted(phases: list[_Timed], total: int) -> list[Phase]:
    """The phases made longer or shorter, all by the same factor, for a number of messages."""
    share = total / sum(phase.messages for phase in phases)
    counts = [floor(phase.messages * share) for phase in phases]
    counts[0] += total - sum(counts)
    return [phase.counted(count) for phase, count in zip(phases, counts, strict=True) if count > 0]


def _whole(phases: list[_Timed]) -> list[Phase]:
    return [phase.counted(ceil(phase.messages)) for phase in phases]


class Capacity:
    """One round of measuring how many outputs a second a worker makes that never lacks an input.

    Outputs come in clumps: a worker with a backlog labels it sorted by length, and releases what
    it has in order. So a round goes from a moment when nothing waits to the next such moment.

    Args:
        now: When the first message is sent, in seconds.
        seconds: How long to send.
        expected: Outputs a second that an earlier round has found.
        messages: How many the stream will have; None: any number.
    """

    def __init__(
        self, *, now: float, seconds: float, expected: float = 0.0, messages: int | None = None
    ) -> None:
        self._began = self._now = now
        self._seconds = seconds
        self._expected = expected
        self._settled = 0
        self.most = None if messages is None else max(1, floor(messages * MEASURE_SHARE))
        """Messages that the round may send; None: any number."""

    def saw(self, settled: int, *, now: float) -> None:
        """So many outputs of the round have been read by now."""
        self._settled, self._now = settled, now

    def enough(self) -> bool:
        """Whether no more need be sent."""
        if self.most is not None and self._settled >= self.most:
            return True
        seconds = self._now - self._began
        return seconds >= PATIENCE_SECONDS or (
            seconds >= self._seconds and self._settled >= MEASURE_OUTPUTS
        )

    def window(self) -> int:
        """Messages that should be on their way."""
        return max(WINDOW, ceil(WINDOW_SECONDS * max(self._expected, self.rate())))

    def rate(self) -> float:
        """Outputs a second so far; what the round has found, once nothing waits."""
        return self._settled / max(1e-3, self._now - self._began)
