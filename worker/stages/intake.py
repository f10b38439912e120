"""One turn of the poll loop: records read and sent on, offsets committed. Owned by the poll thread.

At the limit of what may be in flight the partitions are paused and polling goes on, so that a slow
model never costs the group membership.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, assert_never

import structlog

from worker.errors import Transient
from worker.messages import Drained, EndOffsets, Progress, Rewind, Writable
from worker.stages.inbox import next_of
from worker.stages.interval import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from queue import SimpleQueue

    from worker.messages import ToPoll
    from worker.metrics import Metrics
    from worker.records import Lease, Record
    from worker.stages.accounts import Accounts, Room
    from worker.stages.commit import Committer
    from worker.stages.dispatch import Dispatch
    from worker.stages.inflow import Inflow
    from worker.stages.lag import Lag

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
"""Longest wait for records: how late a commit or a stop may be noticed."""
PAUSED_SECONDS = 0.005
"""Pause between polls while paused: how late freed room is noticed. A poll then costs 64 us."""
MEASURE_SECONDS = 0.5
"""Pause between updates of the lag gauges: well below any scrape interval."""
MOST_AT_ONCE = 1_000
"""Records of one poll: at about 10 us each the loop turns often enough for its other duties. Where
they take longer, `portion.py` limits the time to unpack them, and `dispatch.py` that to decode."""


class RecordSource(Protocol):
    """What gives records and takes offsets: one member of the consumer group."""

    @property
    def leases(self) -> list[Lease]:
        """The leases held now."""

    def poll(self, *, timeout: float, max_records: int, max_bytes: int) -> list[Record]:
        """Records in each partition's order; waits up to `timeout` seconds for the first.

        They have up to `max_bytes` bytes, with the last one perhaps more.

        Raises:
            Fatal: The source cannot be read any more.
            Transient: The broker is away.
        """

    def take_ended(self) -> list[Lease]:
        """Leases that ended since the last call."""

    def take_events(self) -> list[str]:
        """Rebalances since the last call: `assigned`, `revoked`, `lost`."""

    def pause(self) -> None:
        """Stops fetching; polling goes on, so membership is kept."""

    def resume(self) -> None:
        """Fetches again."""

    def position(self, lease: Lease) -> int | None:
        """Offset of the next record under the lease; None while it is not known."""

    def commit(self, offsets: dict[Lease, int]) -> bool:
        """Starts a commit and returns at once; returns false while none can be started."""

    def commit_now(self, offsets: dict[Lease, int], *, timeout: float) -> None:
        """Commits and waits up to `timeout` seconds.

        Raises:
            Transient: The broker did not take it.
        """

    def rebuild(self, reason: str) -> None:
        """Replaces the consumer by a new one; what is in flight is read again.

        Raises:
            Transient: No broker answers.
        """

    def rewind(self) -> None:
        """Goes back to what the group has committed; what is in flight is void, and read again."""

    def close(self, *, timeout: float, leave: bool) -> None:
        """Closes within about `timeout` seconds; with `leave`, gives its partitions up at once."""


class Reports:
    """Takes in what the other threads send to the poll thread.

    Args:
        inbox: Where they send it.
        accounts, lag: Take what concerns them.
    """

    def __init__(self, *, inbox: SimpleQueue[ToPoll], accounts: Accounts, lag: Lag) -> None:
        self._inbox = inbox
        self._accounts = accounts
        self._lag = lag
        self.writable = False
        """Whether there is a producer."""
        self.drained = False
        """Whether everything that was read before a drain is settled."""
        self._rewind = False
        self._moved = False

    def take(self, timeout: float = 0.0) -> None:
        """Takes in the messages that have come; waits up to `timeout` seconds for the first."""
        message = next_of(self._inbox, timeout)
        while message is not None:
            match message:
                case Progress():
                    if self._accounts.settle(message):
                        self._lag.settled(message.lease)
                        self._moved = True
                case EndOffsets():
                    self._lag.end_offsets(message)
                case Rewind():
                    self._rewind = True
                case Writable():
                    self.writable = True
                case Drained():
                    self.drained = True
                case _:
                    assert_never(message)
            message = next_of(self._inbox, 0.0)

    def take_rewind(self) -> bool:
        """Whether a rewind was asked for since the last call."""
        asked, self._rewind = self._rewind, False
        return asked

    def take_moved(self) -> bool:
        """Whether anything was settled since the last call."""
        moved, self._moved = self._moved, False
        return moved


class Intake:
    """Polls, dispatches, commits and measures, in turns.

    Args:
        reports: What the other threads have sent.
        accounts: What is in flight.
        inflow: How much may be read.
        dispatch: Takes the records.
        committer: Commits what is settled.
        commit_interval: Seconds from one commit's begin to the next one's, at least. What settles
            after a pause is committed at once: a crash repeats less.
        lag: Measures how far behind the worker is.
        metrics: Counts rebalances.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        reports: Reports,
        accounts: Accounts,
        inflow: Inflow,
        dispatch: Dispatch,
        committer: Committer,
        commit_interval: float,
        lag: Lag,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reports = reports
        self._accounts = accounts
        self._inflow = inflow
        self._dispatch = dispatch
        self._committer = committer
        self._lag = lag
        self._metrics = metrics
        self._commits = Interval(commit_interval, clock)
        self._past_markers = False
        self._measures = Interval(MEASURE_SECONDS, clock)

    def take_moved(self) -> bool:
        """Whether anything was settled since the last call, or nothing is in flight."""
        moved = self.reports.take_moved()
        return moved or self._accounts.in_flight == 0

    def turn(self, source: RecordSource, *, reading: bool = True) -> None:
        """One turn of the loop.

        Args:
            source: The consumer.
            reading: False while draining: nothing more is read, membership is kept.

        Raises:
            Fatal: The source cannot be read any more.
        """
        self.reports.take()
        if self.reports.take_rewind():
            source.rewind()
            self._follow_assignment(source)
        measures = self._measures.due()
        self._commit(source, past_markers=measures)
        room = self._inflow.regulate(source, reading=reading and not self._dispatch.behind)
        records = self._polled(source, room)
        self._follow_assignment(source)
        if records:
            self._hand_on(records)
        self._dispatch.decode()
        if self._inflow.paused:
            self._lag.held_back()
        if measures and self._lag.measure(source):
            self._rebuild(source)

    @property
    def behind(self) -> bool:
        """Whether records that were read wait to be decoded."""
        return self._dispatch.behind

    def hand_back(self) -> None:
        """Forgets the records that wait to be decoded: they are neither labelled nor committed."""
        self._dispatch.hand_back()

    def before_revocation(self, leases: Iterable[Lease]) -> dict[Lease, int]:
        """Offsets that the consumer has to commit before these leases end.

        Called on the client's IO thread while the poll thread waits in `poll`.
        """
        self.reports.take()
        return self._committer.before_revocation(leases)

    def commit_last(self, source: RecordSource, *, timeout: float) -> None:
        """Commits all that is settled and waits, at most `timeout` seconds.

        Raises:
            Transient: The broker did not take it.
        """
        self.reports.take()
        offsets = self._committer.last(source)
        if offsets:
            source.commit_now(offsets, timeout=timeout)

    def _commit(self, source: RecordSource, *, past_markers: bool) -> None:
        self._past_markers = self._past_markers or past_markers
        if self._commits.over:
            if self._committer.commit(source, past_markers=self._past_markers):
                self._commits.begin()
            self._past_markers = False

    def _polled(self, source: RecordSource, room: Room) -> list[Record]:
        try:
            if not room.records:
                # Fetched records stay in the client; poll() keeps the membership alive.
                records = source.poll(timeout=0, max_records=1, max_bytes=1)
                if not self._dispatch.behind:
                    time.sleep(PAUSED_SECONDS)
                return records
            most = min(room.records, MOST_AT_ONCE)
            return source.poll(timeout=POLL_SECONDS, max_records=most, max_bytes=room.bytes)
        except Transient as error:
            log.warning("poll_failed", error=str(error))
            return []

    def _hand_on(self, records: list[Record]) -> None:
        self._inflow.took(len(records))
        self._accounts.accept(records)
        self._lag.accepted({record.lease for record in records})
        self._dispatch.accept(records)

    def _follow_assignment(self, source: RecordSource) -> None:
        events = source.take_events()
        ended = source.take_ended()
        if not events and not ended:
            return
        held = source.leases
        for event in events:
            self._metrics.rebalanced(event)
        self._accounts.follow(held=held, ended=ended)
        self._lag.follow(held=held, ended=ended)
        self._metrics.assigned(len(held))
        if ended:
            self._dispatch.ended(ended)

    def _rebuild(self, source: RecordSource) -> None:
        self._lag.held_back()  # no new attempt at once if no broker answers
        try:
            source.rebuild("records wait and none comes")
        except Transient as error:
            log.warning("rebuild_failed", error=str(error))
