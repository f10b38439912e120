"""What the demo sends, how fast, and what it does to the worker meanwhile.

    measure   as fast as the worker labels: its capacity is found
    steady    half the capacity
    burst     twice the capacity: lag builds
    recovery  half the capacity: the lag goes back to zero
    kill      half the capacity; the worker is killed in the middle and a successor goes on

Pure: seconds and counts in, phases out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

PhaseName = Literal["measure", "steady", "burst", "recovery", "kill"]

STEADY_SHARE = 0.5
"""Rate of the steady phase, as a share of the capacity. At more, the latency is the queue's and not
the worker's."""
BURST_SHARE = 2.0
"""Rate of the burst, as a share of the capacity."""
STEADY_SECONDS = 15.0
BURST_SECONDS = 4.0
"""Each second of burst takes two of recovery."""
LEAD_SECONDS = 4.0
"""How long the last phase lasts before the kill: the worker must be killed in mid-stream."""
RESTARTS = 1.3
"""How long it goes on after the kill, in start-ups of a worker: one without a worker, and a part of
one in which the successor is seen to catch up."""
AFTER_SECONDS = 16.0
"""The longest that it goes on after the kill: where a start takes longer, the successor has enough
to catch up with."""
FEWEST, MOST = 2_000, 100_000
"""Messages in all, where the user has not named a number. Fewer prove little; on a fast machine
more take longer to count than to label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the stream."""

    name: PhaseName
    rate: float
    """Messages sent in a second."""
    messages: int | None
    """How many are sent; None: until Ctrl-C."""
    kill_after: int | None = None
    """The worker is killed once so many of them are sent; None: it is not killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The stream that the user asked for."""

    messages: int | None
    """How many messages in all; None: as many as fill every phase."""
    rate: float | None
    """Messages sent in a second; None: half of the capacity."""
    burst: bool
    kill: bool
    forever: bool
    """Until Ctrl-C."""

    @property
    def needs_capacity(self) -> bool:
        """Whether a rate follows from the worker's capacity."""
        return self.rate is None or self.burst


def plan(
    wishes: Wishes, *, capacity: float | None, start_seconds: float, measured: int = 0
) -> list[Phase]:
    """The phases after the measurement.

    Args:
        wishes: What the user asked for.
        capacity: Outputs a second at full load; None where no rate follows from it.
        start_seconds: How long the worker took to start.
        measured: Messages that the measurement has sent: they count among the user's.

    Raises:
        ValueError: A rate follows from the capacity, and there is none.
    """
    phases = _timed(wishes, capacity, start_seconds)
    if not wishes.forever:
        return _counted(phases, _total(wishes, phases, measured) - measured)
    if len(phases) == 1:
        phases = []
    rate = _steady_rate(wishes, capacity)
    return [*_whole(phases), Phase(name="steady", rate=rate, messages=None)]


def names(wishes: Wishes) -> list[PhaseName]:
    """Names of the phases in order, from the measurement on."""
    every: dict[PhaseName, bool] = {
        "measure": wishes.needs_capacity,
        "steady": True,
        "burst": wishes.burst,
        "recovery": wishes.burst,
        "kill": wishes.kill,
    }
    return [name for name, played in every.items() if played]


def _timed(wishes: Wishes, capacity: float | None, start_seconds: float) -> list[_Timed]:
    """The phases, each as long as shows best what it is for."""
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
    """The phases with this number of messages in all: each longer or shorter by the same factor."""
    share = total / sum(phase.messages for phase in phases)
    counts = [floor(phase.messages * share) for phase in phases]
    counts[0] += total - sum(counts)
    return [phase.counted(count) for phase, count in zip(phases, counts, strict=True) if count > 0]


def _whole(phases: list[_Timed]) -> list[Phase]:
    return [phase.counted(ceil(phase.messages)) for phase in phases]
