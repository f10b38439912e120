"""What the demo does to its worker, and how soon it is made good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Outage:
    """One kill of the worker. Times are seconds since the kill; None: not yet."""

    sent: int
    """Messages sent before it."""
    waiting: int
    """Those of them that had no output at that moment."""
    ready: float | None = None
    """The successor has its partitions and labels."""
    back: float | None = None
    """Its first output was read."""
    caught_up: float | None = None
    """Nothing waits any more."""

    def sentence(self) -> str:
        """What happened, for the summary."""
        kill = f"once, with -9, after {self.sent:,} messages, {self.waiting:,} of them unlabelled"
        if self.back is None:
            return f"{kill}; its successor has labelled none yet"
        back = f"{kill}; its successor labelled after {self.back:.1f} s"
        if self.caught_up is None:
            return back
        return f"{back} and had caught up after {self.caught_up:.1f} s"
