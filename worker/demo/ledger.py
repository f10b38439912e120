"""What became of every message, from the records of the three topics alone.

Pure: no Kafka, no clock.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.demo.matching import Input, Matching, Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.demo.matching import Position

RECENT = 1_000
"""Latencies that the live view looks back on. Fewer make its p99 jump; more make it late."""
SHOWN = 64
"""Outputs kept for the live view: more than the lines of a tall terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An output as the live view shows it: a label with its score, or a dead letter's reason."""

    name: str
    score: float | None
    text: str


@dataclass(slots=True)
class PhaseAccount:
    """What became of the messages that were sent in one phase. Owned by the ledger."""

    inputs: int = 0
    settled: int = 0
    first_sent_ms: int | None = None
    last_sent_ms: int | None = None
    latencies: Counter[int] = field(default_factory=Counter)
    """How often each latency occurs, in ms."""
    peak_lag: int = 0
    """Most messages that waited for an output while the phase lasted."""

    def sent_rate(self) -> float | None:
        """Messages a second from the first sent to the last; None of fewer than two."""
        if self.first_sent_ms is None or self.last_sent_ms is None or self.inputs <= 1:
            return None
        return (self.inputs - 1) * 1_000 / max(1, self.last_sent_ms - self.first_sent_ms)

    def quantile(self, share: float) -> float | None:
        """The latency, in ms, that so large a share of the phase's outputs did not exceed."""
        return counted_quantile(self.latencies, share)

    def sent(self, time_ms: int) -> None:
        """Counts a message that was sent in the phase."""
        self.inputs += 1
        first, last = self.first_sent_ms, self.last_sent_ms
        self.first_sent_ms = time_ms if first is None else min(first, time_ms)
        self.last_sent_ms = time_ms if last is None else max(last, time_ms)


class Labels:
    """The labels that messages got, and how many held-out sentences got the right one.

    Owned by the ledger.

    Args:
        answers: The held-out sentences: a message's id to its label.
    """

    def __init__(self, answers: Mapping[str, str]) -> None:
        self._answers = answers
        self._right: dict[str, bool] = {}
        self._known: dict[str, None] = {}
        self._counts: Counter[str] = Counter()

    def add(self, label: str, *, identity: object, known: Iterable[str]) -> None:
        """Counts a label.

        Args:
            label: The label that a message got.
            identity: The message's id.
            known: All labels of the checkpoint.
        """
        self._counts[label] += 1
        self._known.update(dict.fromkeys(known))
        if isinstance(identity, str) and identity in self._answers:
            self._right[identity] = self._answers[identity] == label

    def mix(self) -> dict[str, int]:
        """How often each label was given, in the checkpoint's order; 0 where it never was."""
        return {label: self._counts[label] for label in self._known}

    def graded(self) -> tuple[int, int] | None:
        """Right answers and held-out sentences; None where the checkpoint has other labels."""
        if not self._right or not set(self._answers.values()) <= set(self._known):
            return None
        return sum(self._right.values()), len(self._right)


class Ledger:
    """Counts inputs, labels, dead letters, losses, doubles and latencies.

    Owned by the thread that reads the topics.

    Args:
        answers: The held-out sentences: a message's id to its label.
    """

    def __init__(self, *, answers: Mapping[str, str]) -> None:
        self._matching = Matching(self._matched)
        self.labels = Labels(answers)
        self.inputs = 0
        self.labelled = 0
        self.dead = 0
        self.reasons: Counter[str] = Counter()
        """Dead letters by reason."""
        self.recent: deque[int] = deque(maxlen=RECENT)
        """The last latencies, in ms."""
        self.shown: deque[Shown] = deque(maxlen=SHOWN)
        """The last outputs, oldest first."""
        self.phases: dict[str, PhaseAccount] = {}
        """By phase, in the order in which they began."""
        self._last_output_ms: int | None = None

    def read_input(self, at: Position, *, time_ms: int, phase: str = "", text: str = "") -> None:
        """Counts a record of the input topic, in its partition's order.

        Args:
            at: Where it is.
            time_ms: When it was sent, by the sender's clock.
            phase: The phase in which it was sent.
            text: What to show of it.
        """
        self.inputs += 1
        self.phases.setdefault(phase, PhaseAccount()).sent(time_ms)
        self._matching.add_input(at, Input(time_ms=time_ms, phase=phase, text=text))

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
        """Counts a record of the output topic.

        Args:
            at: Where its input is.
            time_ms: When it was read, by the sender's clock.
            identity: The message's id.
            label: The label that it got.
            score: The label's score, 0 to 1.
            known: All labels of the checkpoint.
        """
        if self._is_first(at, Output(time_ms=time_ms, name=label, score=score)):
            self.labelled += 1
            self.labels.add(label, identity=identity, known=known)

    def read_dead_letter(self, at: Position, *, time_ms: int, reason: str) -> None:
        """Counts a record of the dead-letter topic."""
        if self._is_first(at, Output(time_ms=time_ms, name=reason, score=None)):
            self.dead += 1
            self.reasons[reason] += 1

    @property
    def waiting(self) -> int:
        """Inputs without any output: after the worker's end, those that are lost."""
        return self._matching.waiting

    @property
    def doubled(self) -> int:
        """Outputs of an input that had one before."""
        return self._matching.doubled

    @property
    def unmatched(self) -> int:
        """Records that the ledger remembers one by one: those with only one of the two sides."""
        return len(self._matching)

    @property
    def settled(self) -> int:
        """Inputs that have an output. Any thread may ask."""
        return self.labelled + self.dead

    def note_lag(self, phase: str) -> None:
        """Notes how many messages wait now, for the peak of a phase that has begun."""
        if account := self.phases.get(phase):
            account.peak_lag = max(account.peak_lag, self.waiting)

    def throughput(self) -> float | None:
        """Outputs a second, from the first message sent to the last output read."""
        sent = [a.first_sent_ms for a in self.phases.values() if a.first_sent_ms is not None]
        if not sent or self._last_output_ms is None:
            return None
        return self.settled * 1_000 / max(1, self._last_output_ms - min(sent))

    def _is_first(self, at: Position, output: Output) -> bool:
        self._last_output_ms = max(output.time_ms, self._last_output_ms or output.time_ms)
        return self._matching.add_output(at, output)

    def _matched(self, sent: Input, output: Output) -> None:
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
