"""How many outputs a second the worker makes on this machine: the rates of a stream follow from it.

Pure: seconds and counts are arguments.
"""

from __future__ import annotations

from math import ceil, floor

ROUGH_SECONDS, MEASURE_SECONDS = 2.0, 4.0
"""Two rounds of measuring. The first warms the worker up and finds how many messages keep it busy;
only the second counts."""
PATIENCE_SECONDS = 10.0
"""The longest that a round sends, for a machine that takes seconds for a batch."""
MEASURE_OUTPUTS = 64
"""Fewest outputs of a round."""
WINDOW = 64
"""Fewest messages on their way in a round."""
WINDOW_SECONDS = 1.5
"""Messages for so many seconds of labelling should be on their way. With fewer the worker lacks
inputs while its outputs are committed and read; with more the round takes long to end."""
MEASURE_SHARE = 0.1
"""Share of the messages, where the user has named a number, that a round may use."""


class Capacity:
    """One round: outputs a second of a worker that never lacks an input. Owned by the main thread.

    Outputs come in clumps: a worker with a backlog labels it sorted by length, and releases the
    outputs in order. So a round lasts from a moment when nothing waits to the next such moment.

    Args:
        now: When the first message is sent, in seconds.
        seconds: How long to send.
        expected: Outputs a second that an earlier round has found.
        messages: How many messages the stream will have; None: any number.
    """

    def __init__(
        self, *, now: float, seconds: float, expected: float = 0.0, messages: int | None = None
    ) -> None:
        self._began = self._now = now
        self._seconds = seconds
        self._expected = expected
        self._settled = 0
        self.most = None if messages is None else max(1, floor(messages * MEASURE_SHARE))
        """Messages that the round may send; None: any number."""

    def saw(self, settled: int, *, now: float) -> None:
        """Notes how many outputs of the round have been read by now."""
        self._settled, self._now = settled, now

    def enough(self) -> bool:
        """Whether the round needs no more messages."""
        if self.most is not None and self._settled >= self.most:
            return True
        seconds = self._now - self._began
        return seconds >= PATIENCE_SECONDS or (
            seconds >= self._seconds and self._settled >= MEASURE_OUTPUTS
        )

    def window(self) -> int:
        """How many messages should be on their way."""
        return max(WINDOW, ceil(WINDOW_SECONDS * max(self._expected, self.rate())))

    def rate(self) -> float:
        """Outputs a second so far; once nothing waits, the round's result."""
        return self._settled / max(1e-3, self._now - self._began)
