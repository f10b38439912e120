"""How long the steps of a start take."""

from __future__ import annotations

import time


class Laps:
    """Wall and CPU seconds of consecutive steps. Owned by the thread that takes the steps.

    CPU seconds are those of the whole process: what another thread uses meanwhile counts too.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """Wall seconds of each step."""
        self.cpu_seconds: dict[str, float] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self, step: str) -> None:
        """Ends a step and begins the next."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds[step] = round(wall - self._wall, 3)
        self.cpu_seconds[step] = round(cpu - self._cpu, 3)
        self._wall, self._cpu = wall, cpu
