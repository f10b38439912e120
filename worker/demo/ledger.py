"""What became of every message, from the records of the three topics alone.

Pure: no Kafka, no clock. What it remembers is bounded by what is on its way, not by what went by.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RECENT = 1_000
"""Latencies that the live view looks back on. Fewer make its p99 jump; more make it late."""
SHOWN = 64
"""Outputs kept for the live view: more than the lines of a tall terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where an input record is."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An output as the live view shows it: a label with its score, or a dead letter's reason."""

    name: str
    score: float | None
    text: str


@dataclass(slots=True)
class PhaseAccount:
    """What became of the messages that were sent in one phase."""

    inputs: int = 0
    settled: int = 0
    first_sent_ms: int | None = None
    last_sent_ms: int | None = None
    latencies: Counter[int] = field(default_factory=Counter)
    """How often each latency occurs, in ms."""
    peak_lag: int = 0
    """Most messages that waited for an output while the phase lasted."""

    def sent_rate(self) -> float | None:
        """Messages a second from the first sent to the last."""
        if self.first_sent_ms is None or self.last_sent_ms is None or self.inputs <= 1:
            return None
        return (self.inputs - 1) * 1_000 / max(1, self.last_sent_ms - self.first_sent_ms)

    def quantile(self, share: float) -> float | None:
        """Latency, in ms, that so large a share of the phase's outputs did not exceed."""
        return counted_quantile(self.latencies, share)

    def sent(self, time_ms: int) -> None:
        """One more message was sent in it."""
        self.inputs += 1
        first, last = self.first_sent_ms, self.last_sent_ms
        self.first_sent_ms = time_ms if first is None else min(first, time_ms)
        self.last_sent_ms = time_ms if last is None else max(last, time_ms)


@dataclass(frozen=True, slots=True)
class _Input:
    time_ms: int
    text: str
    phase: str


@dataclass(frozen=True, slots=True)
class _Output:
    time_ms: int
    name: str
    score: float | None


@dataclass(slots=True)
class _Partition:
    """One input partition; by offset what has only one of its two sides."""

    end: int = 0
    """The offset after the last input that was read."""
    waiting: dict[int, _Input] = field(default_factory=dict)
    """Inputs without an output."""
    early: dict[int, _Output] = field(default_factory=dict)
    """Outputs that were read before their input."""


class Ledger:
    """Matches outputs to inputs by partition and offset. Owned by the thread that reads.

    Args:
        answers: The held-out sentences: a message's id to its label.
    """

    def __init__(self, *, answers: Mapping[str, str]) -> None:
        self._answers = answers
        self._partitions: dict[int, _Partition] = {}
        self._graded: dict[str, bool] = {}
        self._known_labels: dict[str, None] = {}
        self.inputs = 0
        self.labelled = 0
        self.dead = 0
        self.labels: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.doubled = 0
        self.recent: deque[int] = deque(maxlen=RECENT)
        """The last latencies, in ms."""
        self.shown: deque[Shown] = deque(maxlen=SHOWN)
        """The last outputs, oldest first."""
        self.phases: dict[str, PhaseAccount] = {}
        """By phase, in the order in which they began."""
        self._last_output_ms: int | None = None

    def read_input(self, at: Position, *, time_ms: int, phase: str = "", text: str = "") -> None:
        """A record of the input topic, in its partition's order.

        Args:
            at: Where it is.
            time_ms: When it was sent, by the sender's clock.
            phase: The phase in which it was sent.
            text: What to show of it.
        """
        partition = self._partitions.setdefault(at.partition, _Partition())
        partition.end = at.offset + 1
        self.inputs += 1
        self.phases.setdefault(phase, PhaseAccount()).sent(time_ms)
        sent = _Input(time_ms, text, phase)
        output = partition.early.pop(at.offset, None)
        if output is None:
            partition.waiting[at.offset] = sent
        else:
            self._matched(sent, output)

    def read_label(
        self,
        at: Position,
        *,
        time_ms: int,
        identity: object,
        label: str,
        score: float,
        known: Iterable[str],
    ) -> None:
        """A record of the output topic.

        Args:
            at: Where its input is.
            time_ms: When it was read, by the sender's clock.
            identity: The message's id.
            label: The label that it was given.
            score: The label's score.
            known: All labels of the checkpoint.
        """
        if self._is_first(at, _Output(time_ms, label, score)):
            self.labelled += 1
            self.labels[label] += 1
            self._known_labels.update(dict.fromkeys(known))
            if isinstance(identity, str) and identity in self._answers:
                self._graded[identity] = self._answers[identity] == label

    def read_dead_letter(self, at: Position, *, time_ms: int, reason: str) -> None:
        """A record of the dead-letter topic."""
        if self._is_first(at, _Output(time_ms, reason, None)):
            self.dead += 1
            self.reasons[reason] += 1

    @property
    def waiting(self) -> int:
        """Inputs without any output: after the worker's end, those that are lost."""
        return sum(len(partition.waiting) for partition in self._partitions.values())

    def mix(self) -> dict[str, int]:
        """Labels given, in the checkpoint's order, those never given too."""
        return {label: self.labels[label] for label in self._known_labels}

    @property
    def settled(self) -> int:
        """Inputs that have an output. Any thread may ask."""
        return self.labelled + self.dead

    def lag_seen(self, phase: str) -> None:
        """Notes how many messages wait now, for the peak of a phase that has begun."""
        if account := self.phases.get(phase):
            account.peak_lag = max(account.peak_lag, self.waiting)

    def graded(self) -> tuple[int, int] | None:
        """Right answers and held-out sentences; None where the checkpoint has other labels."""
        if not self._graded or not set(self._answers.values()) <= set(self._known_labels):
            return None
        return sum(self._graded.values()), len(self._graded)

    def throughput(self) -> float | None:
        """Outputs a second, from the first message sent to the last output read."""
        sent = [a.first_sent_ms for a in self.phases.values() if a.first_sent_ms is not None]
        if not sent or self._last_output_ms is None:
            return None
        return self.settled * 1_000 / max(1, self._last_output_ms - min(sent))

    def _is_first(self, at: Position, output: _Output) -> bool:
        """Whether its input had no output before this one."""
        self._last_output_ms = max(output.time_ms, self._last_output_ms or output.time_ms)
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

    def _matched(self, sent: _Input, output: _Output) -> None:
        latency_ms = max(0, output.time_ms - sent.time_ms)
        account = self.phases[sent.phase]
        account.settled += 1
        account.latencies[latency_ms] += 1
        self.recent.append(latency_ms)
        self.shown.append(Shown(name=output.name, score=output.score, text=sent.text))


def counted_quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The nearest-rank quantile of values that are given with how often each occurs."""
    rank = share * sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= rank:
            return float(value)
    return None
