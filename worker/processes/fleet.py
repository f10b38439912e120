"""Which children run, and when it is over: a state machine without processes, sockets or sleep.

    start ──► running ──a child ends──► pause ──► start      the others go on
                 │
                 ├──asked────────────────────► draining ──► 0, or 1 if one failed or was late
                 ├──refused, none was ready──► draining ──► 2      a restart would not help
                 └──none gets ready any more─────────────► 1, or 2 if each was refused last

`Handle` is what it knows of a process; `process.py` has the real one.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from worker.errors import EXIT_DRAINED, EXIT_FAILED, EXIT_REFUSED
from worker.processes.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

log = structlog.get_logger(__name__)

MARGIN = 3.0
"""Seconds that a child may take beyond `drain.deadline` until it is killed: it notices the request
late, and ends by itself at its deadline. The chart leaves 10 before the pod is killed."""
DEAF = 30.0
"""Seconds without a good answer of /livez after which a child is killed: three failures of the
chart's liveness probe, which asks every 10 s."""
KILL_SECONDS = 1.0
"""Longest wait for the ends of killed children: a driver may hold one for longer."""
UNHEARD = 120.0
"""The same for a child whose HTTP server has never answered: the chart's startup probe."""
STOPPED_EARLY = (-signal.SIGTERM, -signal.SIGINT)
"""How a child ends that systemd, say, has signalled before it caught signals."""
STUCK = 60.0
"""Seconds without a turn after which the supervisor itself is not alive."""


class Handle(Protocol):
    """A child process. Owned by the fleet."""

    port: int | None
    """Of its HTTP server, once it answers."""
    started: float
    heard: float | None
    """When /livez was last answered well; None until it is for the first time."""
    problem: str | None
    """Why it is not ready."""
    error: str | None
    """What it last logged as an error."""

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs. Reads what it has said."""

    def drain(self) -> None:
        """Asks it to finish and to end."""

    def hurry(self) -> None:
        """Asks it to end at once, after `drain`."""

    def kill(self) -> None:
        """Kills it; does not wait for its end."""

    def wait(self, seconds: float) -> None:
        """Waits for its end, at most so long."""


@dataclass(slots=True)
class _Child:
    number: int
    start_at: float
    handle: Handle | None = None
    restarts: Restarts = field(default_factory=Restarts)
    killed: bool = False
    refused: bool = False
    """Whether its last end was a refusal."""
    worked: bool = False
    """Whether it was ready once."""


class Fleet:
    """The children. Owned by the main thread, except where a method says otherwise.

    Args:
        count: How many children.
        spawn: Starts the child of a number.
        clock: Monotonic seconds.
        drain_deadline: Seconds that a drain may take.
        restarted: Called with the number of a child that is started again.
    """

    def __init__(
        self,
        *,
        count: int,
        spawn: Callable[[int], Handle],
        clock: Callable[[], float],
        drain_deadline: float,
        restarted: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._spawn = spawn
        self._clock = clock
        self._drain_deadline = drain_deadline
        self._restarted = restarted
        self._turned = clock()
        self._children = [_Child(number, self._turned) for number in range(1, count + 1)]
        self._code: int | None = None  # of the drain that is under way
        self._deadline = 0.0
        self._hurried = False
        self._why = ""  # the last end that nobody asked for

    def turn(self, *, asked: bool, hurried: bool) -> int | None:
        """One turn of the loop, to come several times a second; the exit code when all is over.

        Args:
            asked: Whether there was a signal.
            hurried: Whether there was a second one.
        """
        now = self._turned = self._clock()
        if asked and self._code is None:
            log.info("drain_started")
            self._drain(now, EXIT_DRAINED)
        if hurried and self._code is not None and not self._hurried:
            self._hurried = True
            for handle in self._handles():
                handle.hurry()
        for child in self._children:
            self._tend(child, now)
        if self._code is not None:
            return self._over(now)
        if all(child.restarts.hopeless for child in self._children):
            log.error(f"no process becomes ready; the last one: {self._why}")  # noqa: G004
            refused = all(child.refused for child in self._children)
            return EXIT_REFUSED if refused else EXIT_FAILED
        return None

    def kill(self) -> None:
        """Leaves no child."""
        left = list(self._handles())
        for handle in left:
            handle.kill()
        end = self._clock() + KILL_SECONDS
        for handle in left:
            handle.wait(max(0.0, end - self._clock()))

    def ports(self) -> dict[int, int | None]:
        """The port of every child, by its number; None for one that does not answer. Any thread."""
        return {
            child.number: handle.port if (handle := child.handle) is not None else None
            for child in self._children
        }

    def live(self) -> str | None:
        """None, or why a restart of the supervisor would help. Any thread."""
        since = self._clock() - self._turned
        return f"the supervisor's loop has not turned for {since:.0f} s" if since > STUCK else None

    def ready(self) -> str | None:
        """None, or the first child that cannot label records now, and why. Any thread."""
        if self._code is not None:
            return "the worker is draining"
        for child in self._children:
            handle = child.handle
            problem = "it is started again soon" if handle is None else handle.problem
            if problem is not None:
                return f"process {child.number}: {problem}"
        return None

    def _handles(self) -> Iterator[Handle]:
        return (child.handle for child in self._children if child.handle is not None)

    def _tend(self, child: _Child, now: float) -> None:
        handle = child.handle
        if handle is None:
            if self._code is None and now >= child.start_at:
                self._start(child, now)
            return
        code = handle.ended()
        if code is not None:
            child.handle = None
            # Any other end logs no reason: the last error is another's story.
            error = handle.error if code in (EXIT_FAILED, EXIT_REFUSED) else None
            early = self._code is not None and handle.port is None and code in STOPPED_EARLY
            self._ended(child, EXIT_DRAINED if early else code, now, error=error)
            return
        if handle.problem is None:
            child.worked = True
            child.restarts.ready(now)
        silent = self._silent(handle, now)
        if silent and self._code is None and not child.killed:
            child.killed = True
            log.error("process_hangs", process=child.number, seconds=silent, problem=handle.problem)
            handle.kill()

    def _start(self, child: _Child, now: float) -> None:
        try:
            child.handle, child.killed = self._spawn(child.number), False
        except OSError as error:  # no memory, or too many processes: the others go on
            self._ended(child, EXIT_FAILED, now, error=f"it cannot be started: {error}")

    @staticmethod
    def _silent(handle: Handle, now: float) -> int:
        """Seconds without a good answer of /livez, where they are too many; else 0."""
        if handle.heard is None:
            since, patience = now - handle.started, UNHEARD
        else:
            since, patience = now - handle.heard, DEAF
        return round(since) if since > patience else 0

    def _ended(self, child: _Child, code: int, now: float, *, error: str | None) -> None:
        if self._code is not None:
            if code != EXIT_DRAINED and self._code == EXIT_DRAINED:
                self._code = EXIT_FAILED
            log.info("process_ended", process=child.number, exit=_named(code))
            return
        child.refused = code == EXIT_REFUSED
        # What worked before works for the others, and may for this one: a device whose memory is
        # taken, or that is just being reset.
        if child.refused and not any(each.worked for each in self._children):
            self._why = f"process {child.number} was refused: {error or 'its lines say why'}"
            log.error("process_refused", process=child.number)
            self._drain(now, EXIT_REFUSED)
        else:
            self._why = error or f"it ended with {_named(code)}"
            pause = child.restarts.ended(now)
            child.start_at = now + pause
            log.warning(
                "process_ended",
                process=child.number,
                exit=_named(code),
                error=error,
                starts_again_in=pause,
            )
            self._restarted(child.number)

    def _drain(self, now: float, code: int) -> None:
        self._code = code
        self._deadline = now + self._drain_deadline + MARGIN
        for handle in self._handles():
            handle.drain()

    def _over(self, now: float) -> int | None:
        left: Sequence[Handle] = list(self._handles())
        if left and now < self._deadline:
            return None
        if left:
            log.error("processes_killed", processes=len(left), deadline=self._drain_deadline)
            self.kill()
        if self._code == EXIT_REFUSED:
            log.error(self._why)
            return EXIT_REFUSED
        code = EXIT_FAILED if left else self._code
        if code == EXIT_DRAINED:
            log.info("drained")
        else:
            log.error("not every process has drained: its own lines say why")
        return code


def _named(code: int) -> str:
    try:
        return str(code) if code >= 0 else signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return str(code)
