"""The kill of the worker, and how soon its successor has caught up. Pure: times are arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Outage:
    """One kill of the worker. Owned by the main thread.

    `ready`, `back` and `caught_up` are seconds since the kill; None: not yet.
    """

    sent: int
    """Messages sent before the kill."""
    waiting: int
    """Those of them that had no output at that moment."""
    at: float = 0.0
    """When it was, in seconds, by the clock of `now` below."""
    settled: int = 0
    """Outputs read before the successor was ready: the last ones of the dead worker come late."""
    ready: float | None = None
    """When the successor was ready to label."""
    back: float | None = None
    """When its first output was read."""
    caught_up: float | None = None
    """When no message waited any more."""

    @property
    def down(self) -> bool:
        """Whether the successor has given no output yet."""
        return self.back is None

    @property
    def over(self) -> bool:
        """Whether the successor has caught up."""
        return self.caught_up is not None

    def follow(self, now: float, *, ready: bool, settled: int, waiting: int) -> str:
        """Notes what has happened since the last call.

        Args:
            now: In seconds.
            ready: Whether the successor labels.
            settled: Outputs read so far.
            waiting: Messages without an output.

        Returns:
            It in words; an empty string where nothing has happened.
        """
        seconds = now - self.at
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

    def doing(self, now: float) -> str:
        """What happens now, in words short enough for a narrow terminal."""
        if self.caught_up is not None:
            return f"caught up {self.caught_up:.0f} s after the kill"
        if self.back is not None:
            return f"successor catches up, back after {self.back:.0f} s"
        if self.ready is not None:
            return f"killed with -9: successor ready after {self.ready:.0f} s"
        return f"killed with -9: successor starting {now - self.at:.0f} s"

    def sentence(self) -> str:
        """What has happened, for the summary."""
        kill = f"once, with -9, after {self.sent:,} messages, {self.waiting:,} of them unlabelled"
        if self.back is None:
            return f"{kill}; its successor has labelled none yet"
        back = f"{kill}; its successor labelled after {self.back:.1f} s"
        if self.caught_up is None:
            return back
        return f"{back} and had caught up after {self.caught_up:.1f} s"
