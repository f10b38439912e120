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

    def told(self) -> str:
        """The line of the summary."""
        kill = f"with -9 after {self.sent:,} messages, {self.waiting:,} of them without a label"
        if self.back is None:
            return f"{kill}; no successor has labelled yet"
        back = f"{kill}; the successor went on after {self.back:.1f} s"
        if self.caught_up is None:
            return back
        return f"{back}, nothing waited after {self.caught_up:.1f} s"
