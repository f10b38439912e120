"""A dead letter to what a redrive does with it: put back, or left in the dead-letter topic.

    foreign    it lacks the headers that this worker's dead letters have       left
    elsewhere  it came from another topic than the one to put back to          left
    unchosen   the options exclude its reason or its time                      left
    truncated  no broker took the whole record: only its beginning is here     left, and listed
    refused    the input topic refuses it                                      left, and listed
    again      everything else                                                 put back

Pure: no Kafka, no clock.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.records import Record

Fate = Literal["again", "unchosen", "truncated", "refused", "elsewhere", "foreign"]

REDRIVEN = "dlq.redriven"
"""Header of a record that was put back: how many times, in decimal."""
EXAMPLES = 5
"""Refused dead letters that a summary names."""

_REQUIRED = frozenset(
    {"dlq.reason", "dlq.message", "dlq.topic", "dlq.partition", "dlq.offset", "dlq.timestamp"}
)
_OURS = _REQUIRED | {"dlq.truncated"}
_FIRST = "dlq.reason"
_DECIMAL = re.compile(rb"-?[0-9]+")
_MOST_DIGITS = 19
"""Of an integer of 64 bits. No record is put back as often as a number of so many digits says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which dead letters the options select."""

    reasons: frozenset[str] = frozenset()
    """Empty for all."""
    since: int | None = None
    """Earliest time of the dead letter itself, in ms."""
    until: int | None = None
    """Time of the dead letter itself, in ms, before which it must be."""

    def takes(self, reason: str, timestamp: int) -> bool:
        """Whether the options select a dead letter of this reason and time."""
        return (
            (not self.reasons or reason in self.reasons)
            and (self.since is None or timestamp >= self.since)
            and (self.until is None or timestamp < self.until)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a dead letter's headers say of the original record."""

    reason: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    truncated: bool
    redriven: int
    """How many times the record had been put back."""
    headers: list[tuple[str, bytes]]
    """The record's own headers, without the count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A dead letter and the record that is produced for it."""

    letter: Record
    fate: Fate
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp: int | None
    origin: Origin | None = None
    """None if it is no dead letter of this worker."""


class Chooser:
    """Decides what becomes of dead letters.

    Args:
        input_topic: Where they are put back.
        partitions: How many it has.
        chosen: Which the options select.
    """

    def __init__(self, *, input_topic: str, partitions: int, chosen: Filter) -> None:
        self._input_topic = input_topic
        self._partitions = partitions
        self._chosen = chosen

    def choose(self, letter: Record) -> Move:
        """What becomes of one dead letter."""
        origin = origin_of(letter)
        if origin is None:
            return _leave(letter, "foreign", None)
        if origin.topic != self._input_topic:
            return _leave(letter, "elsewhere", origin)
        if not self._chosen.takes(origin.reason, letter.timestamp):
            return _leave(letter, "unchosen", origin)
        if origin.truncated:
            return _leave(letter, "truncated", origin)
        return Move(
            letter=letter,
            fate="again",
            topic=self._input_topic,
            # Not by the key: producers differ in how they choose a partition by it. Only if the
            # topic was created again with fewer partitions, there is no other way.
            partition=origin.partition if origin.partition < self._partitions else None,
            key=letter.key,
            value=letter.value,
            headers=[*origin.headers, (REDRIVEN, str(origin.redriven + 1).encode())],
            timestamp=origin.timestamp if origin.timestamp >= 0 else None,
            origin=origin,
        )


def origin_of(letter: Record) -> Origin | None:
    """What a dead letter's headers say of the original record; None if it is no dead letter.

    Ours stand behind the record's own, which may have the same names: a copied dead letter that
    was rejected again. So ours begin at the last `dlq.reason`; headers that others have added
    behind them since count as the record's own.
    """
    headers = [(name, b"" if value is None else value) for name, value in letter.headers]
    starts = [at for at, (name, _) in enumerate(headers) if name == _FIRST]
    if not starts:
        return None
    own, tail = headers[: starts[-1]], headers[starts[-1] :]
    ours = {name: value for name, value in reversed(tail) if name in _OURS}
    if not ours.keys() >= _REQUIRED:
        return None
    own += [(name, value) for name, value in tail if name not in _OURS]
    try:
        return Origin(
            reason=ours["dlq.reason"].decode(),
            topic=ours["dlq.topic"].decode(),
            partition=_natural(ours["dlq.partition"]),
            offset=_natural(ours["dlq.offset"]),
            timestamp=_integer(ours["dlq.timestamp"]),
            truncated="dlq.truncated" in ours,
            redriven=max((_count(value) for name, value in own if name == REDRIVEN), default=0),
            headers=[(name, value) for name, value in own if name != REDRIVEN],
        )
    except ValueError:  # of _integer() and decode()
        return None


def refused(move: Move) -> Move:
    """The move that leaves a dead letter which the input topic refuses."""
    return _leave(move.letter, "refused", move.origin)


def without_time(move: Move) -> Move:
    """The same move with the present time, for a topic that refuses the original one."""
    return replace(move, timestamp=None)


@dataclass(slots=True)
class Tally:
    """What has become of the dead letters so far."""

    again: Counter[str] = field(default_factory=Counter)
    """Put back, by reason."""
    left: Counter[Fate] = field(default_factory=Counter)
    """The others, by fate."""
    examples: dict[Fate, list[str]] = field(default_factory=dict)
    """Where the first of those that cannot be put back came from."""

    def add(self, moves: Iterable[Move]) -> None:
        """Counts."""
        for move in moves:
            if move.fate == "again" and move.origin is not None:
                self.again[move.origin.reason] += 1
                continue
            self.left[move.fate] += 1
            if move.origin is not None and move.fate in ("truncated", "refused"):
                named = self.examples.setdefault(move.fate, [])
                if len(named) < EXAMPLES:
                    origin = move.origin
                    named.append(f"{origin.topic}-{origin.partition} offset {origin.offset}")


def _leave(letter: Record, fate: Fate, origin: Origin | None) -> Move:
    return Move(
        letter=letter,
        fate=fate,
        topic=letter.topic,
        partition=letter.lease.partition,
        key=letter.key,
        value=letter.value,
        # The client refuses a null header value; this worker writes none.
        headers=[(name, b"" if value is None else value) for name, value in letter.headers],
        timestamp=letter.timestamp if letter.timestamp >= 0 else None,
        origin=origin,
    )


def _natural(text: bytes) -> int:
    number = _integer(text)
    if number < 0:
        raise ValueError(text)
    return number


def _integer(text: bytes) -> int:
    """An integer as a worker writes it, of 64 bits: `int` takes more, and at most 4,300 digits."""
    if len(text) > _MOST_DIGITS + 1 or not _DECIMAL.fullmatch(text):
        raise ValueError(text[:_MOST_DIGITS])
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number


def _count(text: bytes) -> int:
    """How many times a record was put back; 0 where the header is not from a redrive."""
    return int(text) if len(text) < _MOST_DIGITS and text.isdigit() else 0
