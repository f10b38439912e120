"""Whether the input is too bad to go on: a circuit breaker over what became of the last records.

Without it, after a producer changed its format, the whole topic would move into the dead-letter
topic. Pure: no Kafka, no clock, no lock; time is an argument. Owned by the poll thread.

    closed ──more than the threshold of the last records bad──► open: nothing is read
       ▲                                                         │          ▲
       │                                                   after a pause    │
       └────mostly good, or nothing there────  probe  ◄──────────┘          │
                                                 └──mostly bad: pause doubled┘
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.errors import Reason

PROBE_RECORDS = 100
"""Records of a probe: the dead letters that bad input costs at each attempt."""
PROBE_SECONDS = 5.0
"""Seconds after which a probe is judged by fewer: a quiet topic may take a day for a hundred."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds. A longer pause notices good input later; a shorter one costs more dead letters."""

State = Literal["closed", "open", "probe"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When the breaker opens."""

    threshold: float
    """Share of dead letters above which it opens; at 1 it never does."""
    window: int
    """Number of last records over which the share is measured."""
    minimum: int
    """Number of records that are needed before it may open."""


class Breaker:
    """Counts what became of records and says how many more may be read.

    Args:
        tolerance: When it opens.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._verdicts: deque[Reason | None] = deque(maxlen=tolerance.window)
        self._bad: Counter[Reason] = Counter()
        self.state: State = "closed"
        self.pause = 0.0
        """Seconds of the last pause; 0 while the input has been good for a whole window."""
        self._until = 0.0
        self._taken = 0

    @property
    def seen(self) -> int:
        """Number of records over which the share is measured now."""
        return len(self._verdicts)

    @property
    def reasons(self) -> dict[Reason, int]:
        """Dead letters among those records, by reason."""
        return dict(self._bad)

    def judge(self, verdicts: Iterable[Reason | None], now: float) -> None:
        """Takes in why records became dead letters, None for those that did not, as they settle."""
        if self.state == "open":
            return  # they were in flight when it opened
        for verdict in verdicts:
            self._remember(verdict)
            if self.state == "closed":
                self._judge_window(now)

    def room(self, *, in_flight: int, now: float) -> int | None:
        """How many more records may be read; None for any number.

        Args:
            in_flight: Records read whose outputs are not settled. A probe begins and ends without
                any, so that it is judged by its own records.
            now: Seconds of any monotonic clock.
        """
        if self.state == "open" and now >= self._until and in_flight == 0:
            self._probe(now)
        elif self.state == "probe" and in_flight == 0 and self._probed(now):
            self._judge_probe(now)
        if self.state == "closed":
            return None
        # A probe may read more: a new partition gives records before it can be paused.
        return max(0, PROBE_RECORDS - self._taken) if self.state == "probe" else 0

    def took(self, records: int) -> None:
        """Records were read."""
        self._taken += records

    def _remember(self, verdict: Reason | None) -> None:
        if len(self._verdicts) == self._tolerance.window:
            oldest = self._verdicts[0]
            if oldest is not None:
                self._bad[oldest] -= 1
                self._bad += Counter()  # forgets reasons with none left
        self._verdicts.append(verdict)
        if verdict is not None:
            self._bad[verdict] += 1

    def _mostly_bad(self) -> bool:
        return self._bad.total() > self._tolerance.threshold * len(self._verdicts)

    def _judge_window(self, now: float) -> None:
        if len(self._verdicts) >= self._tolerance.minimum and self._mostly_bad():
            self._open(now)
        elif len(self._verdicts) == self._tolerance.window:
            self.pause = 0.0

    def _open(self, now: float) -> None:
        self.state = "open"
        self.pause = min(LONGEST_PAUSE, 2 * self.pause) if self.pause else FIRST_PAUSE
        self._until = now + self.pause

    def _probe(self, now: float) -> None:
        self.state = "probe"
        self._taken = 0
        self._until = now + PROBE_SECONDS
        self._forget()

    def _probed(self, now: float) -> bool:
        return self._taken >= PROBE_RECORDS or now >= self._until

    def _judge_probe(self, now: float) -> None:
        if self._mostly_bad():
            self._open(now)
        else:
            self.state = "closed"
            self._forget()

    def _forget(self) -> None:
        self._verdicts.clear()
        self._bad.clear()
