"""How much may be read now. Owned by the poll thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from worker.stages.accounts import NO_ROOM, Room

if TYPE_CHECKING:
    from worker.metrics import Metrics
    from worker.stages.accounts import Accounts
    from worker.stages.gate import Gate


class Tap(Protocol):
    """The consumer, as far as it can be paused."""

    def pause(self) -> None:
        """Stops fetching; polling goes on, so membership is kept."""

    def resume(self) -> None:
        """Fetches again."""


class Inflow:
    """Pauses reading at the limits, and while most of the input is bad.

    Args:
        accounts: Say how much room is left.
        gate: Holds records back while most of the input is bad.
        metrics: Shows whether reading is paused.
    """

    def __init__(self, *, accounts: Accounts, gate: Gate, metrics: Metrics) -> None:
        self._accounts = accounts
        self._gate = gate
        self._metrics = metrics
        self.paused = False

    def regulate(self, source: Tap, *, reading: bool) -> Room:
        """Pauses or resumes the consumer; returns how much may be read now.

        Args:
            source: The consumer.
            reading: False while draining, or while records wait to be decoded: nothing is read.
        """
        room = self._accounts.room(paused=self.paused) if reading else NO_ROOM
        records = self._gate.room(in_flight=self._accounts.in_flight, most=room.records)
        if self.paused != (records == 0):
            self.paused = records == 0
            self._metrics.paused(paused=self.paused)
            if self.paused:
                source.pause()
            else:
                source.resume()
        return room._replace(records=records)

    def took(self, records: int) -> None:
        """Records were read."""
        self._gate.took(records)
