"""Programs that end when this process does, even after a SIGKILL.

Between this process and the program stands a small Python process, the keeper. It is the program's
parent, so it can kill the program as soon as its own parent is gone. A pipe would not do: a forked
child can hold its other end open. Linux's PR_SET_PDEATHSIG would not do either: it is bound to the
thread that forked, and exists on Linux alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

KILLED_SECONDS = 5.0
"""For the system to clear up after SIGKILL."""

# The program is not our own child: its process id comes on standard output, and what it prints
# goes to standard error, which is the log. A doomed directory is removed where nobody else can.
_KEEPER = """
import os, shutil, subprocess, sys, threading, time
parent, doomed, *command = sys.argv[1:]
program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, stderr=2)
print(program.pid, flush=True)
def orphaned():
    return os.getppid() != int(parent)
def guard():
    while not orphaned():
        time.sleep(0.25)
    program.kill()
threading.Thread(target=guard, daemon=True).start()
code = program.wait()
if orphaned() and doomed:
    shutil.rmtree(doomed, ignore_errors=True)
sys.exit(code if code >= 0 else 128 - code)
"""


class KeptProgram:
    """A program and its keeper, in a session of their own: a terminal's Ctrl-C reaches neither.

    Owned by the thread that starts it.

    Args:
        command: The program and its arguments.
        log: Gets what the program prints.
        directory: Its working directory.
        environment: Its environment; None: this process's.
        doomed: A directory that the keeper removes where this process is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: BinaryIO,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        doomed: Path | None = None,
    ) -> None:
        parent, removed = str(os.getpid()), str(doomed or "")
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, parent, removed, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None  # noqa: S101 - stdout=PIPE, for mypy
        try:
            with self._keeper.stdout as stdout:
                self.pid = int(stdout.readline() or 0)
                """The program's process id; 0 where it could not be started."""
        except BaseException:  # a signal: nobody has this object yet, to end it
            self.kill_all()
            raise

    def code(self) -> int | None:
        """The program's exit code, 128 + N where signal N ended it; None while it runs."""
        return self._keeper.poll()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the program, if it still runs."""
        if self.pid and self.code() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Waits so long at most; returns whether the program is gone and reaped."""
        try:
            self._keeper.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill_all(self) -> None:
        """Sends SIGKILL to the program and to all that it started; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._keeper.pid, signal.SIGKILL)
        self.wait(KILLED_SECONDS)
