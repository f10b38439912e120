"""Moves dead letters in transactions: one puts a letter back, or appends it again, and settles it.

A dead-letter topic has one transactional id and one group. A redrive makes its producer first,
which fences an earlier redrive and ends that one's last transaction, and only then reads the
group's offsets: so the offsets are final, and nobody else can move them while the producer lives.
Whenever it has to make another producer, it checks whether the offsets were moved all the same.

This is why offsets are committed here without the group metadata of a member (the group is empty,
and the broker accepts that): the producer is the proof. Membership would prove nothing more, and a
redrive that is run again after a kill would have to wait for the session of the one before.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, assert_never

from worker.errors import Fatal, Transient
from worker.kafka.produce.refusals import size_of
from worker.kafka.produce.span import Aborted, Committed, Fenced, OutputRefused, Spans, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from worker.errors import Refusal
    from worker.kafka.consume.reader import BoundedReader
    from worker.kafka.produce.span import Answer
    from worker.kafka.produce.writer import Writer
    from worker.redrive.decisions import Move

PAUSE_SECONDS = 0.1
"""Seconds between attempts."""


class Mover:
    """Sends moves and commits how far they have come. Owned by the main thread.

    Args:
        writer: Gives producers under the redrive's transactional id.
        reader: Says what the group has committed.
        topic: The dead-letter topic, whose offsets are committed.
        group_id: The group.
        instead: Makes the move to send instead of one that its topic refuses.
        on_trouble: Called, with the error's name, for every transaction that failed.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        reader: BoundedReader,
        topic: str,
        group_id: str,
        instead: Callable[[Move, Refusal], Move],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._spans = Spans(writer=writer, topic=topic)
        self._reader = reader
        self._topic = topic
        self._owner = _GroupWithoutMembers(group_id)
        self._committed: dict[int, int] = {}
        self._instead = instead
        self._on_trouble = on_trouble

    def begin(self, committed: Mapping[int, int]) -> None:
        """Takes the group's committed offsets, by partition: nobody else may move them now."""
        self._committed = dict(committed)

    def renew(self) -> None:
        """Commits the group's offsets again, so that the cluster does not delete them.

        Raises:
            Fatal, Transient: As for `move`.
        """
        if self._committed:
            deque(self._transactions([], {}), maxlen=0)

    def move(self, moves: Iterable[Move], reached: Mapping[int, int]) -> Iterator[list[Move]]:
        """Moves all moves; yields those of each transaction once it is committed.

        Args:
            moves: In each partition's order.
            reached: The offset to commit for each partition when all are moved.

        Raises:
            Fatal: Fenced, the outage limit has passed, or nothing can be written.
            Transient: The redrive is to stop while the broker is away.
        """
        further = {n: at for n, at in reached.items() if at > self._committed.get(n, 0)}
        if further:
            yield from self._transactions(list(moves), further)

    def close(self) -> None:
        """Ends the producer; an open transaction is left to the broker, or the next redrive."""
        self._writer.discard(timeout=1.0, force=True)

    def _transactions(self, left: list[Move], reached: dict[int, int]) -> Iterator[list[Move]]:
        while True:
            self._leave_what_is_certain(left)
            piece = left[: self._spans.take(size_of(move) for move in left)]
            last = len(piece) == len(left)
            upto = reached if last else reached_by(piece)
            # All, not only those that move: the cluster deletes offsets that nobody renews.
            answer = self._spans.send(piece, self._committed | upto, self._owner)
            if not self._happened(answer, left, upto):
                continue
            self._writer.outage.succeeded()
            self._committed |= upto
            yield piece
            left = left[len(piece) :]
            if last:
                return

    def _leave_what_is_certain(self, moves: list[Move]) -> None:
        """Puts back nothing that the input topic is certain to refuse by now."""
        for at, move in enumerate(moves):
            certain = self._writer.forecast.refusal(move) if move.fate == "again" else None
            if certain is not None:
                moves[at] = self._instead(move, certain)

    def _happened(self, answer: Answer, moves: list[Move], reached: dict[int, int]) -> bool:
        """Whether the transaction was committed; if it failed, there is a new producer then."""
        match answer:
            case Committed():
                return True
            case Fenced(error, _):
                raise Fatal(self._taken_over(type(error).__name__)) from error
            case OutputRefused(_, refused):
                for at, refusal in refused.items():
                    moves[at] = self._instead(moves[at], refusal)
                return self._moved_to({})
            case Aborted(error):
                self._on_trouble(type(error).__name__)
                return self._moved_to({})
            case Unknown(error):
                self._on_trouble(type(error).__name__)
                return self._moved_to(reached)
            case _:
                assert_never(answer)

    def _moved_to(self, reached: dict[int, int]) -> bool:
        """Whether the group's offsets moved to what was to be committed.

        Raises:
            Fatal: They moved elsewhere: another redrive has taken over.
        """
        self._writer.outage.check()
        time.sleep(PAUSE_SECONDS)
        self._writer.ready()  # the old transaction ends: committed or aborted
        committed = self._settled()
        if committed == self._committed:
            return False
        if reached and committed == self._committed | reached:
            return True
        raise Fatal(self._taken_over("offsets moved"))

    def _settled(self) -> dict[int, int]:
        while True:
            try:
                return self._reader.committed()
            except Transient:
                self._writer.outage.check()
                time.sleep(PAUSE_SECONDS)

    def _taken_over(self, how: str) -> str:
        return (
            f"another redrive of {self._topic} has taken over, or this one stood still for too "
            f"long ({how}): nothing is lost, nothing was put back twice; let the other one end, "
            "or run it again"
        )


class _GroupWithoutMembers:
    """The `OffsetOwner` of a redrive: commits offsets of a group that nobody is a member of."""

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id

    def transaction(self) -> AbstractContextManager[None]:
        return nullcontext()

    def proof(self) -> str:
        return self._group_id

    def replaced_itself(self) -> bool:
        return False


def reached_by(moves: Iterable[Move]) -> dict[int, int]:
    """The offset that each partition reaches with these moves."""
    return {move.letter.lease.partition: move.letter.offset + 1 for move in moves}
