"""Reads the dead letters of one redrive, and decides what becomes of each.

From the group's committed offset up to the end of the topic when the redrive started.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from worker.errors import Fatal
from worker.kafka.produce.refusals import foretold
from worker.redrive.decisions import refused, without_time
from worker.redrive.mover import reached_by

if TYPE_CHECKING:
    from worker.errors import Refusal
    from worker.kafka.cluster.topics import Topic
    from worker.kafka.consume.reader import BoundedReader
    from worker.records import Record
    from worker.redrive.decisions import Chooser, Move

SPAN_RECORDS = 500
"""Dead letters in one transaction: 60 ms of work on two busy cores, 8,000 a second. A kill undoes
that much and no more; a stop waits for it."""
SPAN_BYTES = 8_388_608
"""Bytes in one transaction: far below what a slow broker takes within a transaction's 13 s."""
POLL_SECONDS = 0.2


class Backlog:
    """Reads dead letters and decides what becomes of each. Owned by the main thread.

    Args:
        reader: Reads the dead-letter topic.
        chooser: Decides what becomes of each.
        input_topic, dlq_topic: Where dead letters go.
    """

    def __init__(
        self, *, reader: BoundedReader, chooser: Chooser, input_topic: Topic, dlq_topic: Topic
    ) -> None:
        self._reader = reader
        self._chooser = chooser
        self._topics = {topic.name: topic for topic in (input_topic, dlq_topic)}
        self._dlq = dlq_topic.name
        self._read: deque[Record] = deque()

    @property
    def left(self) -> int:
        """Offsets of the dead-letter topic that are still to be read or moved."""
        return self._reader.left + len(self._read)

    @property
    def all_read(self) -> bool:
        """Whether the end was reached; dead letters that were read may still wait here."""
        return self._reader.done

    @property
    def done(self) -> bool:
        """Whether nothing is left of what there was at the start."""
        return self._reader.done and not self._read

    def next_span(self, room: int | None) -> tuple[list[Move], dict[int, int]]:
        """What goes into one transaction.

        Args:
            room: How many may be put back at most; None for any number.

        Returns:
            Moves, and the offset that each partition reaches with them.
        """
        if not self._read:
            records = self._reader.poll(
                timeout=POLL_SECONDS, max_records=SPAN_RECORDS, max_bytes=SPAN_BYTES
            )
            self._read.extend(records)
        moves: list[Move] = []
        size = again = 0
        while self._read and size < SPAN_BYTES and again != room:
            letter = self._read.popleft()
            moves.append(self._decided(letter))
            size += letter.size
            again += moves[-1].fate == "again"
        reached = reached_by(moves)
        if not self._read:
            # Past markers, but never back while a position is not known for a moment.
            for number, position in self._reader.positions.items():
                reached[number] = max(position, reached.get(number, 0))
        return moves, reached

    def instead(self, move: Move, refusal: Refusal) -> Move:
        """The move to make instead of one that its topic refuses.

        Raises:
            Fatal: The dead-letter topic does not take back what it has given.
        """
        if refusal in ("timestamp", "invalid") and move.timestamp is not None:
            return without_time(move)
        if move.fate == "again":
            return refused(move)
        letter = move.letter
        raise Fatal(
            f"{self._dlq} does not take back its own record of partition "
            f"{letter.lease.partition} offset {letter.offset} ({refusal}): is its "
            "max.message.bytes lower than it was? Nothing is lost: the record is still there"
        )

    def _decided(self, letter: Record) -> Move:
        move = self._chooser.choose(letter)
        certain = foretold(self._topics[move.topic], move)
        return move if certain is None else self.instead(move, certain)
