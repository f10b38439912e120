"""One redrive, from finding out what there is to do to the last dead letter."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from worker.errors import Refused, Transient
from worker.kafka.consume.reader import BoundedReader
from worker.kafka.produce.outage import Outage
from worker.kafka.produce.transaction import transactional_writer
from worker.redrive.backlog import Backlog
from worker.redrive.mover import PAUSE_SECONDS, Mover

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic, TopicDesk
    from worker.kafka.produce.writer import Writer
    from worker.redrive.decisions import Chooser, Move

START_SECONDS = 45.0
"""Longest wait for a cluster that is not ready yet, or for offsets that another client's
transaction holds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a redrive is to do."""

    input_topic: Topic
    """Where dead letters are put back."""
    dlq_topic: Topic
    """Where dead letters are read, and where those that are left are appended again."""
    group_id: str
    """The group whose offsets say what is settled; also the transactional id."""
    chooser: Chooser
    """Decides what becomes of each."""
    limit: int | None
    """How many are put back at most; None for all."""
    from_oldest: bool
    """Start at the oldest where the group has no offset, even if the cluster may have lost it."""
    compression: str
    """Codec of batches, or `none`."""
    fetch_max_bytes: int
    """Most bytes of one fetch."""
    outage_limit: float
    """Seconds without any progress after which `Fatal` is raised."""


class Redrive:
    """Moves the dead letters that exist at its start. One thread at a time calls it.

    Args:
        connection: How to reach the cluster.
        desk: Answers about the topics.
        task: What to do.
        stopping: Whether to end before the next transaction.
        on_moved: Called with what a transaction moved, once it is committed.
        on_trouble: Called with the error's name for every transaction that failed.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        desk: TopicDesk,
        task: Task,
        stopping: Callable[[], bool],
        on_moved: Callable[[list[Move]], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._desk = desk
        self._task = task
        self._stopping = stopping
        self._on_moved = on_moved
        self._on_trouble = on_trouble
        self._put_back = 0
        self._mover: Mover | None = None
        self._reader = BoundedReader(
            connection=connection,
            topic=task.dlq_topic,
            group_id=task.group_id,
            fetch_max_bytes=task.fetch_max_bytes,
            outage_limit=task.outage_limit,
        )
        self._backlog = Backlog(
            reader=self._reader,
            chooser=task.chooser,
            input_topic=task.input_topic,
            dlq_topic=task.dlq_topic,
        )

    @property
    def left(self) -> int:
        """Offsets of the dead-letter topic that are still to be read or moved."""
        return self._backlog.left

    @property
    def done(self) -> bool:
        """Whether nothing is left of what there was at the start."""
        return self._backlog.done

    @property
    def limit_reached(self) -> bool:
        """Whether it ends because no more are to be put back."""
        return self._task.limit is not None and self._put_back >= self._task.limit

    def open(self, *, preview: bool) -> None:
        """Fences any other redrive, unless this is a preview, and finds out what there is to do.

        Raises:
            Transient: No broker answers.
            Fatal: The cluster refuses the identity.
            Refused: The group's offsets are not of this topic, or may have been deleted.
        """
        task = self._task
        if not preview:
            self._mover = self._made(self._patiently(self._new_writer))
        committed = self._patiently(self._reader.committed)
        if self._mover is not None:
            self._mover.begin(committed)
        topic, partitions = task.dlq_topic.name, task.dlq_topic.partitions
        ends = self._desk.end_offsets(topic, partitions)
        self._require_within(committed, ends)
        oldest = self._desk.start_offsets(topic, partitions)
        unknown = {n for n in ends if n not in committed and oldest[n] < ends[n]}
        if unknown and not task.from_oldest:
            self._require_young(unknown)
        starts = {n: max(committed.get(n, 0), oldest[n]) for n in ends}
        self._reader.begin(starts=starts, ends=ends)

    def preview(self) -> None:
        """Gives `on_moved` what `run` would move, and moves nothing.

        Raises:
            Fatal: The dead letters cannot be read.
        """
        while self._goes_on():
            moves, _ = self._backlog.next_span(self._room())
            self._count(moves)

    def run(self) -> None:
        """Moves all dead letters, up to the limit, or until the redrive is to stop.

        Raises:
            Fatal: Fenced, the outage limit has passed, or nothing can be read or written.
            Transient: The redrive is to stop while the broker is away.
        """
        mover = self._mover
        if mover is None:
            raise RuntimeError("a preview writes nothing")
        if self.done:
            mover.renew()
        while self._goes_on():
            moves, reached = self._backlog.next_span(self._room())
            if not moves and not self._backlog.all_read:
                continue  # nothing but markers yet: their offsets go with the next span
            for moved in mover.move(moves, reached):
                self._count(moved)

    def close(self) -> None:
        """Ends the clients; an open transaction is left to the broker, or to the next redrive."""
        self._reader.close()
        if self._mover is not None:
            self._mover.close()

    def _goes_on(self) -> bool:
        return not (self.done or self.limit_reached or self._stopping())

    def _room(self) -> int | None:
        return None if self._task.limit is None else self._task.limit - self._put_back

    def _count(self, moves: list[Move]) -> None:
        self._put_back += sum(move.fate == "again" for move in moves)
        self._on_moved(moves)

    def _require_within(self, committed: dict[int, int], ends: dict[int, int]) -> None:
        """Refuses offsets beyond the end: they are those of another topic of the same name.

        Raises:
            Refused: There are such offsets.
        """
        group, topic = self._task.group_id, self._task.dlq_topic.name
        beyond = [number for number, offset in committed.items() if offset > ends.get(number, 0)]
        if beyond:
            raise Refused(
                f"group {group} is past the end of {topic} (partition {beyond[0]}): was "
                "the topic deleted and made again? If so, this puts back all that is in it: "
                "kafka-consumer-groups.sh --bootstrap-server "
                f"{shlex.quote(self._connection.bootstrap_servers)} --reset-offsets "
                f"--to-earliest --group {group} --topic {topic} --execute"
            )

    def _require_young(self, unknown: set[int]) -> None:
        """Refuses partitions whose offset the cluster may have deleted.

        It deletes only offsets older than its retention of them, so dead letters that are younger
        cannot have been settled before.

        Raises:
            Refused: A partition has older dead letters.
        """
        dlq = self._task.dlq_topic
        kept = self._desk.offsets_kept()
        old = unknown & self._desk.begins_before(dlq.name, dlq.partitions, kept)
        if old:
            raise Refused(
                f"group {self._task.group_id} has no offset for partition {min(old)} of "
                f"{dlq.name}, whose dead letters are older than the cluster remembers "
                f"offsets ({kept / 86_400:.1f} days, offsets.retention.minutes): add --from-oldest "
                "if none of them was put back yet; with --since and the time of the last redrive "
                "if some were"
            )

    def _made(self, writer: Writer) -> Mover:
        return Mover(
            writer=writer,
            reader=self._reader,
            topic=self._task.dlq_topic.name,
            group_id=self._task.group_id,
            instead=self._backlog.instead,
            on_trouble=self._on_trouble,
        )

    def _new_writer(self) -> Writer:
        task = self._task
        return transactional_writer(
            connection=self._connection,
            topics={topic.name: topic for topic in (task.input_topic, task.dlq_topic)},
            compression=task.compression,
            outage=Outage(limit=task.outage_limit, stopping=self._stopping),
            transactional_id=task.group_id,
        )

    def _patiently(self, ask: Callable[[], T]) -> T:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return ask()
            except Transient:
                if self._stopping() or time.monotonic() > end:
                    raise
                time.sleep(PAUSE_SECONDS)
