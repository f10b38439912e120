"""The values that flow through the worker, in the order they come to exist.

All of them are immutable and carry the record they came from, so that any stage can say which
record it speaks of, and none needs to ask another. Those of a single record are named tuples: a
frozen dataclass takes three times as long to make.

    Record ──decode──► Document ──tokenize──► Encoded ──batch──► MicroBatch ──model──► Outcome
              │                                                                          │
              ├──► Tombstone ─────────────────────────────────────────────► encode ◄─────┘
              └──► Rejection ─────────────────────────────────────────────►   │
                                                                              └──► Output
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.errors import Reason

HEADER_BYTES = 128
"""Bytes that a header takes in memory beside its name and value: a record of 1 MiB may have 350,000
headers of two empty strings."""

SCORE_DECIMALS = 6
"""Of every probability that is published."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Record headers in their order, duplicates kept. A value may be null."""


class Lease(NamedTuple):
    """One uninterrupted ownership of a partition.

    The epoch changes with every assignment and every rewind, so that what was read under an earlier
    one is never published or committed under a later one.
    """

    partition: int
    epoch: int


class Record(NamedTuple):
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


class Tombstone(NamedTuple):
    """A record with a null value: forwarded as one, never classified."""

    record: Record


class Rejection(NamedTuple):
    """A record that becomes a dead letter, and why."""

    record: Record
    reason: Reason
    message: str


class Document(NamedTuple):
    """A record with a text to classify."""

    record: Record
    text: str
    id: Any
    """The JSON value at `input.id_field`, ready for orjson; None where there is none."""


class Encoded(NamedTuple):
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


AbstainReason = Literal["low_score", "out_of_domain"]
"""Why the worker says that it does not know a label: no label is likely, or the text is unlike what
the model was trained on."""
ABSTAIN_REASONS: tuple[AbstainReason, ...] = get_args(AbstainReason)


class Prediction(NamedTuple):
    """The label of one document and the probability of every label."""

    label: str
    score: float
    scores: Sequence[float]
    """softmax(logits / temperature) to `SCORE_DECIMALS`, in the order of the checkpoint's labels.
    Nobody changes it."""
    abstained: AbstainReason | None = None
    """Why the worker abstains; None: it does not."""


class Classified(NamedTuple):
    """A document and its label."""

    document: Document
    prediction: Prediction


Outcome = Classified | Rejection | Tombstone
"""What became of a record: exactly one output follows from each."""

OutcomeKind = Literal["labelled", "tombstone", "dead_letter"]


class Output(NamedTuple):
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
    outcome: Outcome | None = None
    """What it was made of; None for a dead letter."""
    label: str | None = None
    score: float | None = None
    abstained: AbstainReason | None = None
    reason: Reason | None = None
