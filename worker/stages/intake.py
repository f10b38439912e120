"""Records in, offsets back: the poll loop. Owned by the poll thread.

It bounds everything: what is read but not settled never exceeds the limits, so no queue behind it
can grow with the backlog or while the broker is away. At the limit the partitions are paused and
polling goes on, so that a slow model never costs the group membership.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

import structlog

from worker.errors import Transient
from worker.records import Document, Lease, Record, Rejection, Tombstone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from queue import SimpleQueue

    from worker.decode import Decoder
    from worker.metrics import Metrics
    from worker.records import Progress
    from worker.stages.gate import Gate

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.05
"""Longest wait for records: how late a commit or a stop may be noticed."""
PAUSED_SECONDS = 0.005
"""Pause between polls while paused: how late freed room is noticed. A poll then costs 64 us."""
MEASURE_SECONDS = 0.5
"""Pause between updates of the lag gauges: well below any scrape interval."""
STALL_SECONDS = 60.0
"""Without a record for so long, though the partitions have some and nothing holds intake back,
the consumer is replaced: kafka-python can leave a fetch pending for ever. Longer than a consumer
waits for a predecessor's open transaction."""
MOST_AT_ONCE = 1_000
"""Records of one poll: at about 10 us each the loop turns often enough for its other duties."""
RESUME_SHARE = 0.75
"""Share of the limit at which intake goes on: fewer, larger polls instead of many small ones."""


class RecordSource(Protocol):
    """What gives records and takes offsets."""

    @property
    def leases(self) -> list[Lease]: ...

    def poll(self, *, timeout: float, max_records: int) -> list[Record]: ...

    def take_ended(self) -> list[Lease]: ...

    def take_events(self) -> list[str]: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def position(self, lease: Lease) -> int | None: ...

    def commit(self, offsets: dict[Lease, int]) -> bool: ...

    def commit_now(self, offsets: dict[Lease, int], *, timeout: float) -> None: ...

    def rebuild(self, reason: str) -> None: ...

    def rewind(self) -> None: ...

    def close(self, *, timeout: float, leave: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be in flight, and how often offsets are committed."""

    records: int
    bytes: int
    commit_interval: float


class _Account:
    """What one lease has accepted and settled."""

    def __init__(self) -> None:
        self.accepted = self.settled = 0
        self.accepted_bytes = self.settled_bytes = 0
        self.reached = 0
        """Offset that is safe to commit; 0 before any is known. Never goes back."""
        self.committed: int | None = None
        self.lagging_since: float | None = None
        self.moved = time.monotonic()
        """When it last had records in flight, or none to wait for."""
        self._marks: deque[tuple[int, int]] = deque()

    def accept(self, records: list[Record]) -> None:
        """Takes in records of one poll; the first stands for all of them when ages are told."""
        if self.accepted == self.settled:
            self._marks.clear()
        self.accepted += len(records)
        self.accepted_bytes += sum(record.size for record in records)
        self._marks.append((records[0].offset, records[0].timestamp))
        self.moved = time.monotonic()
        self.lagging_since = None

    def settle(self, progress: Progress) -> None:
        """Takes in what is settled by now."""
        self.settled = progress.records
        self.settled_bytes = progress.bytes
        self.reached = max(self.reached, progress.committable)
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= progress.committable:
            marks.popleft()

    def oldest(self) -> int | None:
        """Timestamp in ms of about the oldest record in flight; None where there is none."""
        return self._marks[0][1] if self.accepted > self.settled else None


class Intake:
    """Polls, decodes, hands on, and commits.

    Args:
        decoder: Makes documents of records.
        limits: What may be in flight.
        progress: Where the publish stage tells what is settled.
        accept: Called with every batch of records, in order, before anything else sees them.
        documents: Takes what goes to the model.
        done: Takes what needs no model: tombstones and rejections.
        ended: Takes leases whose records are void.
        positions: Takes offsets to commit past which there are no records, where offsets are
            committed by transactions; None where this commits them itself.
        gate: Holds records back while most of the input is bad.
        metrics: Told of everything.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        limits: Limits,
        progress: SimpleQueue[Progress],
        accept: Callable[[list[Record]], None],
        documents: Callable[[list[Document]], None],
        done: Callable[[list[Tombstone | Rejection]], None],
        ended: Callable[[list[Lease]], None],
        positions: Callable[[dict[Lease, int]], None] | None,
        gate: Gate,
        metrics: Metrics,
    ) -> None:
        self._decoder = decoder
        self._limits = limits
        self._progress = progress
        self._accept = accept
        self._documents = documents
        self._done = done
        self._ended = ended
        self._positions = positions
        self._gate = gate
        self._rewind_asked = threading.Event()
        self._metrics = metrics
        self._accounts: dict[Lease, _Account] = {}
        self._ends: dict[int, int] = {}
        self._ends_told = 0.0
        # Kept beyond a lease: a partition that stalls, is lost and comes back has stalled since.
        self._progressed: dict[int, float] = {}
        self._paused = False
        self._settled_something = False
        self._paused_at = 0.0
        self._next_commit = 0.0
        self._next_measure = 0.0

    @property
    def in_flight(self) -> int:
        """Records read but not settled."""
        return sum(account.accepted - account.settled for account in self._accounts.values())

    def take_moved(self) -> bool:
        """Whether anything was settled since the last call, or nothing is in flight."""
        moved, self._settled_something = self._settled_something, False
        return moved or self.in_flight == 0

    def turn(self, source: RecordSource, *, reading: bool = True) -> None:
        """One turn of the loop.

        Args:
            source: The consumer.
            reading: False while draining: nothing more is taken in, membership is kept.

        Raises:
            Fatal: The source cannot be read any more.
        """
        self.take_progress()
        if self._rewind_asked.is_set():
            self._rewind_asked.clear()  # first: it may be asked again meanwhile
            source.rewind()
            self._follow_assignment(source)
        room = self._room() if reading else 0
        room = self._gate.room(in_flight=self.in_flight, most=room)
        self._set_paused(source, paused=room == 0)
        timeout = PAUSED_SECONDS if self._paused else POLL_SECONDS
        try:
            if self._paused:
                # Fetched records stay in the client; poll() keeps the membership alive.
                records = source.poll(timeout=0, max_records=1)
                time.sleep(timeout)
            else:
                records = source.poll(timeout=timeout, max_records=min(room, MOST_AT_ONCE))
        except Transient as error:
            log.warning("poll_failed", error=str(error))
            records = []
        self._follow_assignment(source)
        now = time.monotonic()
        if records:
            self._gate.took(len(records))
            self._hand_on(records)
        if self._paused:
            self._paused_at = now
        measures = now >= self._next_measure
        if now >= self._next_commit or measures:
            self._next_commit = now + self._limits.commit_interval
            self._commit(source, past_markers=measures)
        if measures:
            self._next_measure = now + MEASURE_SECONDS
            if self._measure(source, now):
                self._rebuild(source)

    def take_progress(self) -> None:
        """Takes in what the publish stage settled."""
        while not self._progress.empty():
            progress = self._progress.get()
            account = self._accounts.get(progress.lease)
            if account is not None:
                account.settle(progress)
                self._progressed[progress.lease.partition] = time.time()
                if self._positions is not None:
                    account.committed = account.reached  # by the same transaction
                self._settled_something = True

    def settled(self, leases: Iterable[Lease]) -> dict[Lease, int]:
        """For leases that are about to end: the offset that is safe to commit.

        Told also where a commit of it is under way: that one may still fail.

        Called on the client's IO thread while the poll thread waits in ``poll``.
        """
        self.take_progress()
        accounts = {lease: self._accounts[lease] for lease in leases if lease in self._accounts}
        return {lease: account.reached for lease, account in accounts.items() if account.reached}

    def commit_last(self, source: RecordSource, *, timeout: float) -> None:
        """Commits all that is settled and waits, at most ``timeout`` seconds.

        Raises:
            Transient: The broker did not take it.
        """
        self.take_progress()
        if self._positions is not None:
            return
        for account in self._accounts.values():
            account.committed = None  # a commit that is under way may still fail
        offsets = self._committable(source, past_markers=True)
        if offsets:
            source.commit_now(offsets, timeout=timeout)

    def commit_ended(self, outcome: str) -> None:
        """A commit ended ``ok`` or ``failed``; after a failure the next one carries all again."""
        self._metrics.committed(outcome)
        if outcome == "failed" and self._positions is None:
            for account in self._accounts.values():
                account.committed = None

    def ask_rewind(self) -> None:
        """What was read but not committed is to be read again. Any thread."""
        self._rewind_asked.set()

    def ends(self, offsets: dict[int, int]) -> None:
        """The cluster said where each partition ends. Any thread."""
        self._ends = offsets
        self._ends_told = time.time()

    def _room(self) -> int:
        accounts = self._accounts.values()
        records = self.in_flight
        held = sum(account.accepted_bytes - account.settled_bytes for account in accounts)
        share = RESUME_SHARE if self._paused else 1.0
        if records >= self._limits.records * share or held >= self._limits.bytes * share:
            return 0
        return self._limits.records - records

    def _set_paused(self, source: RecordSource, *, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        self._metrics.paused(paused=paused)
        if paused:
            source.pause()
        else:
            source.resume()

    def _follow_assignment(self, source: RecordSource) -> None:
        events = source.take_events()
        ended = source.take_ended()
        if not events and not ended:
            return
        for event in events:
            self._metrics.rebalanced(event)
        for lease in ended:
            self._accounts.pop(lease, None)
            self._metrics.partition_gone(lease)
        for lease in source.leases:
            self._accounts.setdefault(lease, _Account())
            self._progressed.setdefault(lease.partition, time.time())
        self._metrics.assigned(len(source.leases))
        if ended:
            self._ended(ended)

    def _hand_on(self, records: list[Record]) -> None:
        begin = time.perf_counter()
        for lease, batch in groupby(records, key=attrgetter("lease")):
            self._accounts[lease].accept(list(batch))
        self._accept(records)
        documents: list[Document] = []
        done: list[Tombstone | Rejection] = []
        reasons: Counter[str] = Counter()
        for record in records:
            decoded = self._decoder.decode(record)
            if isinstance(decoded, Document):
                documents.append(decoded)
                continue
            done.append(decoded)
            if isinstance(decoded, Rejection):
                reasons[decoded.reason] += 1
        if done:
            self._done(done)
        if documents:
            self._documents(documents)
        if reasons:
            log.warning("records_rejected", **reasons)
        self._metrics.records_consumed(len(records))
        self._metrics.stage_ran("decode", time.perf_counter() - begin)

    def _commit(self, source: RecordSource, *, past_markers: bool) -> None:
        offsets = self._committable(source, past_markers=past_markers)
        if offsets and self._started_commit(source, offsets):
            for lease, offset in offsets.items():
                self._accounts[lease].committed = offset

    def _started_commit(self, source: RecordSource, offsets: dict[Lease, int]) -> bool:
        if self._positions is None:
            return source.commit(offsets)
        # Never beside a transaction: it could commit older offsets after this newer one.
        self._positions(offsets)
        return True

    def _committable(self, source: RecordSource, *, past_markers: bool) -> dict[Lease, int]:
        offsets = {}
        for lease, account in self._accounts.items():
            if past_markers and account.accepted == account.settled:
                # All is settled: the position, which alone moves past transaction markers and
                # compaction holes. Else an idle topic shows a lag for ever. Never back again.
                account.reached = max(account.reached, source.position(lease) or 0)
            if account.reached and account.reached != account.committed:
                offsets[lease] = account.reached
        return offsets

    def _rebuild(self, source: RecordSource) -> None:
        self._paused_at = time.monotonic()  # not again at once, should no broker answer
        try:
            source.rebuild("records wait and none comes")
        except Transient as error:
            log.warning("rebuild_failed", error=str(error))

    def _measure(self, source: RecordSource, now: float) -> bool:
        """Updates the gauges; whether records wait somewhere and none has come for too long."""
        told = self._ends_told  # while the broker is away nobody knows whether something waits
        behind = self.in_flight
        stuck = False
        self._metrics.in_flight(behind)
        for lease, account in self._accounts.items():
            position = account.reached or source.position(lease)
            in_flight = account.accepted - account.settled
            end = self._ends.get(lease.partition)
            lag = 0
            if position is None:
                lag = 1  # at least: nobody knows yet where it begins
            elif end is not None and (account.reached or not in_flight):
                lag = max(in_flight, end - position)  # the end is of some seconds ago
                self._metrics.partition_lag(
                    lease.partition, records=lag, seconds=_age(account, lag, now)
                )
            behind += lag
            if not lag or in_flight:
                account.moved = now
            progressed = self._progressed[lease.partition]
            if not lag and not in_flight:
                progressed = self._progressed[lease.partition] = max(progressed, told)
            self._metrics.partition_progress(lease.partition, at=progressed)
            stuck |= now - max(account.moved, self._paused_at) > STALL_SECONDS
        if behind == 0 and told:
            self._metrics.nothing_waits(now=max([told, *self._progressed.values()]))
        return stuck


def _age(account: _Account, lag: int, now: float) -> float:
    """Seconds that the oldest record without an output has waited."""
    if lag == 0:
        account.lagging_since = None
        return 0.0
    timestamp = account.oldest()
    if timestamp is not None and timestamp >= 0:
        return time.time() - timestamp / 1_000
    # Nothing of it has been read yet, so its timestamp is not known.
    if account.lagging_since is None:
        account.lagging_since = now
    return now - account.lagging_since
