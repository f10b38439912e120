"""What the threads send each other: small frozen values, distinguished by their types.

    poll   ──Documents, Ended, Drain──────────────────────► assemble
    poll   ──Accepted, Outcomes, Ended, Positions─────────► publish
    assemble ──Staged, Barrier────────────────────────────► classify
    assemble ──Outcomes───────────────────────────────────► publish
    classify ──Finished───────────────────────────────────► assemble
    classify ──Outcomes, Barrier──────────────────────────► publish
    publish  ──Writable, Progress, Rewind, Drained────────► poll
    watch    ──EndOffsets─────────────────────────────────► poll
    main     ──Abort──────────────────────────────────────► assemble, classify, publish

Each of these threads has one inbox, typed by the union of the messages that it gets; its loop
matches on the type, and the type checker proves that no message is forgotten. The inboxes are not
bounded: the poll thread reads no more than its limits allow, and counts a record as in flight until
its output is settled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.records import Document, Lease, MicroBatch, Outcome, Record


@dataclass(frozen=True, slots=True)
class Accepted:
    """Records were read, in this order. It comes before any other message about them."""

    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Documents:
    """Texts to classify."""

    documents: Sequence[Document]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of records."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Ended:
    """Leases ended: what is in flight under them is void."""

    leases: frozenset[Lease]


@dataclass(frozen=True, slots=True)
class Positions:
    """Offsets to commit that no output carries: past transaction markers or compaction holes."""

    offsets: Mapping[Lease, int]


@dataclass(frozen=True, slots=True)
class Staged:
    """A micro-batch that is padded and ready to launch; or the error of its padding."""

    batch: MicroBatch
    buffers: Any
    """What the classifier made of its rows."""
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The model finished a micro-batch, or a drain had no time left for it."""

    batch: MicroBatch
    out_of_memory: bool
    seconds: float | None
    """What the batch took; None if it was not run, and its records are handed back."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Nothing more is read."""

    hand_back_at: float
    """Seconds of `awake.now` by which records are labelled. What cannot be by then is handed back:
    neither labelled nor committed."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """The last message of a drain: it follows the last record from stage to stage."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop now."""


@dataclass(frozen=True, slots=True)
class Writable:
    """There is a producer: records may be read."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a lease is settled."""

    lease: Lease
    committable: int
    """Offset that is safe to commit."""
    records: int
    """Records settled since the lease began."""
    bytes: int
    """Bytes of those records."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """It is unknown what was committed: go back to the group's committed offsets."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Every output before the barrier is settled; what was handed back has none."""


@dataclass(frozen=True, slots=True)
class EndOffsets:
    """Where each partition of the input topic ends."""

    offsets: Mapping[int, int]
    at: float
    """Unix time of the answer."""


ToPoll: TypeAlias = Writable | Progress | Rewind | Drained | EndOffsets
ToAssemble: TypeAlias = Documents | Ended | Finished | Drain | Abort
ToClassify: TypeAlias = Staged | Barrier | Abort
ToPublish: TypeAlias = Accepted | Outcomes | Ended | Positions | Barrier | Abort
