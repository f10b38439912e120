"""Which output belongs to which input, by the input's partition and offset.

Pure: no Kafka, no clock. What it remembers is bounded by what is on its way, not by what went by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where an input record is."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A message that was sent."""

    time_ms: int
    """When, by the sender's clock."""
    phase: str = ""
    """In which phase of the stream."""
    text: str = ""
    """What the live view shows of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A label, or a dead letter's reason."""

    time_ms: int
    """When it was read, by the sender's clock."""
    name: str
    score: float | None
    """Of the label; None of a dead letter."""


@dataclass(slots=True)
class _Partition:
    """One input partition; by offset what has only one of its two sides."""

    end: int = 0
    """The offset after the last input that was read."""
    waiting: dict[int, Input] = field(default_factory=dict)
    """Inputs without an output."""
    early: dict[int, Output] = field(default_factory=dict)
    """Outputs that were read before their input."""


class Matching:
    """Pairs each input with its first output, in whatever order the topics are read.

    Owned by the ledger.

    Args:
        matched: Is called with each pair, once both sides were read.
    """

    def __init__(self, matched: Callable[[Input, Output], None]) -> None:
        self._matched = matched
        self._partitions: dict[int, _Partition] = {}
        self.doubled = 0
        """Outputs of an input that had one before."""

    @property
    def waiting(self) -> int:
        """Inputs without any output: after the worker's end, those that are lost."""
        return sum(len(partition.waiting) for partition in self._partitions.values())

    def __len__(self) -> int:
        """Records that have only one of the two sides."""
        return self.waiting + sum(len(each.early) for each in self._partitions.values())

    def add_input(self, at: Position, sent: Input) -> None:
        """Takes a record of the input topic, in its partition's order."""
        partition = self._partitions.setdefault(at.partition, _Partition())
        partition.end = at.offset + 1
        output = partition.early.pop(at.offset, None)
        if output is None:
            partition.waiting[at.offset] = sent
        else:
            self._matched(sent, output)

    def add_output(self, at: Position, output: Output) -> bool:
        """Takes an output; returns whether its input had none before it.

        Args:
            at: Where its input is.
            output: What came of it.
        """
        partition = self._partitions.setdefault(at.partition, _Partition())
        if at.offset >= partition.end and at.offset not in partition.early:
            partition.early[at.offset] = output
            return True
        sent = partition.waiting.pop(at.offset, None)
        if sent is None:
            self.doubled += 1
            return False
        self._matched(sent, output)
        return True
