"""How far behind the worker is, and whether it stands still. Owned by the poll thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from worker import awake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.messages import EndOffsets
    from worker.metrics import Metrics
    from worker.records import Lease
    from worker.stages.accounts import Account, Accounts

STALL_SECONDS = 60.0
"""Seconds without a record, though the partitions have some and reading is not paused, after which
the consumer is replaced: kafka-python can leave a fetch pending for ever. Longer than a consumer
waits for its predecessor's open transaction."""


class Positions(Protocol):
    """The consumer, as far as lag needs it."""

    def position(self, lease: Lease) -> int | None:
        """Offset of the next record under the lease; None while it is not known."""


class _Wait:
    """Since when one lease waits."""

    def __init__(self, now: float) -> None:
        self.flowed = now
        """When it last had records in flight, or none to wait for."""
        self.lagging: float | None = None
        """Since when it is behind without any record in flight."""


class Lag:
    """Measures lag and progress of every partition.

    Args:
        accounts: What is in flight and settled.
        metrics: Shows them.
        clock: Monotonic seconds.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        accounts: Accounts,
        metrics: Metrics,
        clock: Callable[[], float] = awake.now,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._clock = clock
        self._wall = wall
        self._ends: EndOffsets | None = None
        self._waits: dict[Lease, _Wait] = {}
        # Kept beyond a lease: a partition that stalled, was lost and came back is still stalled.
        self._progressed: dict[int, float] = {}
        self._held_back = float("-inf")

    def end_offsets(self, ends: EndOffsets) -> None:
        """The cluster answered where each partition ends."""
        self._ends = ends

    def follow(self, *, held: Iterable[Lease], ended: Iterable[Lease]) -> None:
        """Leases ended; others are new."""
        for lease in ended:
            self._waits.pop(lease, None)
            self._metrics.partition_gone(lease)
        now, wall = self._clock(), self._wall()
        for lease in held:
            self._waits.setdefault(lease, _Wait(now))
            self._progressed.setdefault(lease.partition, wall)

    def accepted(self, leases: Iterable[Lease]) -> None:
        """Records of these leases were read."""
        now = self._clock()
        for lease in leases:
            wait = self._waits[lease]
            wait.flowed, wait.lagging = now, None

    def settled(self, lease: Lease) -> None:
        """Records of this lease were settled."""
        self._progressed[lease.partition] = self._wall()

    def held_back(self) -> None:
        """Reading is paused, or has just begun anew: it is no stall if no record comes."""
        self._held_back = self._clock()

    def measure(self, source: Positions) -> bool:
        """Updates the gauges; returns whether records wait but none has come for too long."""
        now = self._clock()
        # While the broker is away nobody knows whether something waits.
        asked = self._ends.at if self._ends else 0.0
        behind = self._accounts.in_flight
        stalled = False
        self._metrics.in_flight(behind)
        for lease, account in self._accounts:
            wait = self._waits[lease]
            lag = self._lag(lease, account, source, now)
            behind += lag
            if not lag or account.in_flight:
                wait.flowed = now
            progressed = self._progressed[lease.partition]
            if not lag and not account.in_flight:
                progressed = self._progressed[lease.partition] = max(progressed, asked)
            self._metrics.partition_progress(lease.partition, at=progressed)
            stalled |= now - max(wait.flowed, self._held_back) > STALL_SECONDS
        if behind == 0 and asked:
            self._metrics.nothing_waits(now=max([asked, *self._progressed.values()]))
        return stalled

    def _lag(self, lease: Lease, account: Account, source: Positions, now: float) -> int:
        """Records between what is settled and the end, as far as it is known."""
        position = account.reached or source.position(lease)
        if position is None:
            return 1  # at least: the position is not known yet
        end = self._ends.offsets.get(lease.partition) if self._ends else None
        if end is None or (account.in_flight and not account.reached):
            return 0
        lag = max(account.in_flight, end - position)  # the end is some seconds old
        seconds = self._age(account, self._waits[lease], lag, now)
        self._metrics.partition_lag(lease.partition, records=lag, seconds=seconds)
        return lag

    def _age(self, account: Account, wait: _Wait, lag: int, now: float) -> float:
        """Seconds that the oldest record without an output has waited."""
        if lag == 0:
            wait.lagging = None
            return 0.0
        timestamp = account.oldest()
        if timestamp is not None and timestamp >= 0:
            return self._wall() - timestamp / 1_000
        # Nothing of it has been read yet, so its timestamp is not known.
        if wait.lagging is None:
            wait.lagging = now
        return now - wait.lagging
