"""A replica of the worker as a cluster runs it: one identity, restarted whenever it ends."""

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from tests.support.worker_process import WorkerProcess

_BACK_OFF = 0.5  # seconds; doubled with every end that came soon, up to the next
_MOST_BACK_OFF = 8.0
_SOON = 30.0
CRASH_LOOP = 5  # unexpected ends in a row, each soon after its start


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """An end that nobody asked for."""

    replica: str
    code: int
    after: float
    last_line: str

    def __str__(self) -> str:
        return f"{self.replica} ended with {self.code} after {self.after:.0f} s: {self.last_line}"


class Replica:
    """A worker process and what its supervisor knows of it. Owned by the conductor."""

    def __init__(self, worker: WorkerProcess, name: str) -> None:
        self.worker = worker
        self.name = name
        self.ready = False
        """It has been ready since its last start."""
        self.exits: list[Exit] = []
        self.left: tuple[int, float] | None = None
        """Exit code and seconds of the drain, once it has left."""
        self._started = 0.0
        self._start_at = 0.0
        self._in_a_row = 0
        self._killed = False
        self._wake_at: float | None = None
        self._asleep: psutil.Process
        self._leaving_since: float | None = None
        self._look_at = 0.0
        self._start()

    @property
    def suspended(self) -> bool:
        return self._wake_at is not None

    @property
    def leaving(self) -> bool:
        return self._leaving_since is not None

    @property
    def hittable(self) -> bool:
        """It is at work, so that a fault hits something."""
        return self.ready and not self.suspended and not self.leaving

    @property
    def crash_looping(self) -> bool:
        return self._in_a_row >= CRASH_LOOP

    def kill(self) -> None:
        self._killed = True
        self.ready = False
        self.worker.kill()

    def kill_child(self, rng: random.Random) -> int:
        """One of several processes: its number of all, from 0 on. Its supervisor goes on."""
        children = self.worker.children()
        victim = rng.randrange(len(children))
        children[victim].kill()
        self.ready = False
        return victim

    def suspend(self, seconds: float, rng: random.Random) -> None:
        """It, or one of its several processes."""
        every = [*self.worker.children(), psutil.Process(self.worker.process.pid)]
        self._asleep = rng.choice(every)
        self._asleep.suspend()
        self._wake_at = time.monotonic() + seconds

    def leave(self) -> None:
        self.worker.process.send_signal(signal.SIGTERM)
        self._leaving_since = time.monotonic()

    def tend(self) -> None:
        """What a supervisor does now and then: wakes, looks, starts again."""
        now = time.monotonic()
        if self._wake_at is not None and now > self._wake_at:
            with contextlib.suppress(psutil.NoSuchProcess):  # it was killed in its sleep
                self._asleep.resume()
            self._wake_at = None
        code = self.worker.process.poll()
        if code is None:
            self._look(now)
        elif self._leaving_since is not None:
            self.left = self.left or (code, now - self._leaving_since)
        elif self._start_at == 0.0:
            self._ended(code, now)
        elif now > self._start_at:
            self._start()

    def events(self) -> Iterator[dict[str, Any]]:
        yield from self.worker.events()

    def _look(self, now: float) -> None:
        if self.ready or self.suspended or now < self._look_at:
            return
        self._look_at = now + 0.25
        self.ready = self.worker.get("/readyz")[0] == 200

    def _ended(self, code: int, now: float) -> None:
        lasted = now - self._started
        self.ready = False
        self._wake_at = None
        if self._killed:
            self._in_a_row = 0
        else:
            lines = self.worker.log().splitlines() or [""]
            self.exits.append(Exit(replica=self.name, code=code, after=lasted, last_line=lines[-1]))
            self._in_a_row = self._in_a_row + 1 if lasted < _SOON else 1
        self._killed = False
        self._start_at = now + min(_MOST_BACK_OFF, _BACK_OFF * 2 ** max(self._in_a_row - 1, 0))

    def _start(self) -> None:
        self.worker.start(ready=False)
        self.ready = False
        self._started, self._start_at = time.monotonic(), 0.0
