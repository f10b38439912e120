"""The values that flow through the worker, in the order they come to exist.

All of them are immutable and carry the record they came from, so that any stage can say which
record it speaks of, and none needs to ask another.

    Record ──decode──► Document ──tokenize──► Encoded ──batch──► MicroBatch ──model──► Outcome
              │                                                                          │
              ├──► Tombstone ─────────────────────────────────────────────► encode ◄─────┘
              └──► Rejection ─────────────────────────────────────────────►   │
                                                                              └──► Output
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.errors import Reason

HEADER_BYTES = 128
"""Bytes that a header takes in memory beside its name and value: a record of 1 MiB may have 350,000
headers of two empty strings."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in their order, duplicates kept. A value may be null."""


class Lease(NamedTuple):
    """One uninterrupted ownership of a partition.

    The epoch changes with every assignment and every rewind, so that what was read under an earlier
    one is never published or committed under a later one.
    """

    partition: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the broker gave it."""

    topic: str
    lease: Lease
    offset: int
    timestamp: int
    """Event time in ms since 1970; -1 where the producer set none."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    fetched: float
    """When the worker read it, in seconds of `awake.now`."""

    @property
    def size(self) -> int:
        """Bytes of key, value and headers: what it holds in memory while in flight."""
        size = len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += HEADER_BYTES + len(name) + len(value or b"")
        return size


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A record with a null value: forwarded as one, never classified."""

    record: Record


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that becomes a dead letter, and why."""

    record: Record
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """A record with a text to classify."""

    record: Record
    text: str
    id: Any
    """The JSON value at `input.id_field`, ready for orjson; None where there is none."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document with the token ids the model will see."""

    document: Document
    tokens: Sequence[int]
    """Token ids with the special tokens, cut to the model's maximum length."""
    truncated: bool
    """Whether the text had more tokens than the model takes."""


FlushReason = Literal["full", "idle", "age", "drain"]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Encoded documents that go through the model together."""

    items: tuple[Encoded, ...]
    flushed: FlushReason

    @property
    def padded_length(self) -> int:
        """Tokens of the longest document: every row is padded to it."""
        return max(len(item.tokens) for item in self.items)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The label of one document and the probability of every label.

    `scores` are softmax(logits / temperature), in the order of the checkpoint's labels.
    """

    label: str
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Classified:
    """A document and its label."""

    document: Document
    prediction: Prediction


Outcome = Classified | Rejection | Tombstone
"""What became of a record: exactly one output follows from each."""

OutcomeKind = Literal["labelled", "tombstone", "dead_letter"]


@dataclass(frozen=True, slots=True)
class Output:
    """A record to be produced. Exactly one per input record."""

    record: Record
    kind: OutcomeKind
    topic: str
    partition: int | None
    """Fixed partition, or None to let the key choose."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp: int | None
    """Event time in ms, or None for the present time."""
    label: str | None = None
    score: float | None = None
    reason: Reason | None = None
