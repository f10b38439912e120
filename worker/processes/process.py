"""A child as a process: spawned, listened to, probed."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from worker.processes.lifeline import SupervisorEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.settings import Settings

COMMAND = (sys.executable, "-m", "worker.processes.child")
"""Starts a child; the descriptor of its lifeline is appended."""
PROBE_SECONDS = 1.0
"""Pause between two probes of a child: how late /readyz shows what has changed."""
LIVE_SECONDS = 10.0
"""Longest wait for an answer of /livez, as in the chart: loading a library can delay it."""
READY_SECONDS = 5.0


class Process:
    """A child process, a `Handle` of the fleet; its probes run on a thread of their own.

    It is spawned, never forked: nothing of the supervisor's memory, and no thread, is copied, and
    CUDA is first touched in the child.

    Args:
        command: Starts it.
        number: Which child it is, from 1 on.
        settings: The child's.
        clock: Monotonic seconds.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        number: int,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._over = threading.Event()
        self._lifeline = SupervisorEnd(settings, number)
        self.started = clock()
        self.port: int | None = None
        self.error: str | None = None
        self.heard: float | None = None
        """This and the next are written by the thread of the probes."""
        self.problem: str | None = "it is starting"
        probes = threading.Thread(target=self._probe, name=f"probe-{number}", daemon=True)
        try:
            self._popen = _spawned(command, self._lifeline.theirs.fileno())
        except OSError:
            self._lifeline.close()
            raise
        self._lifeline.handed_over()
        self.pid = self._popen.pid
        try:
            probes.start()
        except RuntimeError as error:  # too many threads
            self.kill()
            self.wait(READY_SECONDS)
            self._lifeline.close()
            raise OSError(str(error)) from error

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs. Reads what it has said."""
        code = self._popen.poll()
        self._lifeline.read()
        self.port, self.error = self._lifeline.port, self._lifeline.error
        if code is not None:
            self._over.set()
            self._lifeline.close()
        return code

    def drain(self) -> None:
        """Asks it to finish and to end."""
        self._lifeline.drain()

    def hurry(self) -> None:
        """Asks it to end at once, after `drain`."""
        self._lifeline.hurry()

    def kill(self) -> None:
        """Kills it; does not wait for its end."""
        self._over.set()
        self._popen.kill()

    def wait(self, seconds: float) -> None:
        """Waits for its end, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)

    def _probe(self) -> None:
        while not self._over.wait(PROBE_SECONDS if self.port else PROBE_SECONDS / 4):
            if self.port is not None:
                self._ask(self.port)

    def _ask(self, port: int) -> None:
        status, said = get(port, "/livez", seconds=LIVE_SECONDS)
        if status == http.client.OK:
            self.heard = self._clock()
            status, said = get(port, "/readyz", seconds=READY_SECONDS)
        problem = said.strip() or "it does not answer"
        self.problem = None if status == http.client.OK else problem


def get(port: int, path: str, *, seconds: float, accept: str = "*/*") -> tuple[int, str]:
    """Status and body of a child's answer; 0 and nothing where there is none in time."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    failures = OSError, http.client.HTTPException, ValueError
    with contextlib.suppress(*failures), contextlib.closing(link):
        link.request("GET", path, headers={"Accept": accept})
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    return 0, ""


def _spawned(command: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*command, str(descriptor)],
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        # The same modules as here: `-m` alone would look in the working directory first.
        env={**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": _path()},
        # Ctrl-C on a terminal is the supervisor's to hear, which asks the children once.
        process_group=0,
    )


def _path() -> str:
    return os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
