"""What the live view shows at one moment, as values. Times are in seconds, latencies in ms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.demo.ledger import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Messages since the stream began."""

    sent: int = 0
    total: int | None = None
    """How many will be sent; None where it is not known, or there is no end."""
    labelled: int = 0
    dead: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    """How often each label was given, in the checkpoint's order."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Dead letters by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """The last seconds. None: there is nothing to take it from."""

    rate: float = 0.0
    """Outputs a second."""
    lag: int = 0
    """Messages on the input topic without an output, now."""
    p50: float | None = None
    p99: float | None = None
    batch: float | None = None
    """Mean number of records in a micro-batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens now."""

    phases: Sequence[str] = ()
    """The names of all phases, in order."""
    phase: str = ""
    """The present one."""
    doing: str = "starting"
    """In words."""
    down: bool = False
    """There is no worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment of the past, for the charts."""

    rate: float
    """Outputs a second."""
    lag: int
    phase: str
    down: bool = False
    """There was no worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All that the view shows."""

    elapsed: float
    counts: Counts = field(default_factory=Counts)
    recent: Recent = field(default_factory=Recent)
    story: Story = field(default_factory=Story)
    past: Sequence[Sample] = ()
    """Oldest first, equally spaced."""
    shown: Sequence[Shown] = ()
    """The last outputs, oldest first."""
    model: str = ""
    """The model's name, version, device and precision."""
    topics: tuple[str, str] = ("tweets", "emotions")
    """Names of the input and the output topic."""
