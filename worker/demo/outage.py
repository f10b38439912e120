"""What the demo does to its worker, and how soon it is made good. Pure: times are arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Outage:
    """One kill of the worker. Times are seconds since the kill; None: not yet."""

    sent: int
    """Messages sent before it."""
    waiting: int
    """Those of them that had no output at that moment."""
    settled: int = 0
    """Outputs read before the successor was ready: the last ones of the dead worker come late."""
    ready: float | None = None
    """The successor labels."""
    back: float | None = None
    """Its first output was read."""
    caught_up: float | None = None
    """Nothing waits any more."""

    def follow(self, seconds: float, *, ready: bool, settled: int, waiting: int) -> str:
        """Notes what is new.

        Args:
            seconds: Since the kill.
            ready: Whether the successor labels.
            settled: Outputs read so far.
            waiting: Messages without an output.

        Returns:
            What is new, in words; nothing where nothing is.
        """
        new = ""
        if self.ready is None and ready:
            self.ready = seconds
        elif self.ready is None:
            self.settled = settled
        if self.ready is not None and self.back is None and (settled > self.settled or not waiting):
            self.back = seconds
            new = f"the successor labelled {seconds:.1f} s after the kill"
        if self.back is not None and self.caught_up is None and not waiting:
            self.caught_up = seconds
            new = f"the successor had caught up {seconds:.1f} s after the kill"
        return new

    def now(self, seconds: float) -> str:
        """What happens at the moment, in words short enough for a narrow terminal."""
        if self.caught_up is not None:
            return f"caught up {self.caught_up:.0f} s after the kill"
        if self.back is not None:
            return f"successor catches up, back after {self.back:.0f} s"
        if self.ready is not None:
            return f"killed with -9: successor ready after {self.ready:.0f} s"
        return f"killed with -9: successor starting {seconds:.0f} s"

    def sentence(self) -> str:
        """What happened, for the summary."""
        kill = f"once, with -9, after {self.sent:,} messages, {self.waiting:,} of them unlabelled"
        if self.back is None:
            return f"{kill}; its successor has labelled none yet"
        back = f"{kill}; its successor labelled after {self.back:.1f} s"
        if self.caught_up is None:
            return back
        return f"{back} and had caught up after {self.caught_up:.1f} s"
