"""One broker of the embedded cluster: its ports and its process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.demo.keeper import KeptProgram

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO


@dataclass(slots=True, kw_only=True)
class Node:
    """One broker. Owned by its `EmbeddedKafka`."""

    number: int
    """From 1; Kafka's `node.id`."""
    port: int = 0
    controller_port: int = 0
    suspended: bool = False
    """It got SIGSTOP."""
    _program: KeptProgram | None = field(default=None, init=False)

    @property
    def running(self) -> bool:
        """Whether its process is there, a suspended one too."""
        return self._program is not None and self._program.code() is None

    @property
    def pid(self) -> int:
        """Java's process id; 0 where it was not started, or is reaped."""
        return self._program.pid if self._program else 0

    def launch(
        self, command: Sequence[str], *, log: BinaryIO, directory: Path, doomed: Path | None
    ) -> None:
        """Starts it; returns before it serves.

        Args:
            command: Java with its arguments.
            log: Gets what it prints.
            directory: Its working directory, where a crash of the virtual machine leaves its
                report.
            doomed: A directory to be removed where this process is killed.
        """
        self._program = KeptProgram(command, log=log, directory=directory, doomed=doomed)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to Java, if it runs."""
        if self._program is not None:
            self._program.signal(number)

    def reap(self, seconds: float) -> bool:
        """Waits so long at most until Java is gone and reaped; returns whether it is.

        Before that its ports are not free.
        """
        if self._program is not None:
            if not self._program.wait(seconds):
                return False
            self._program, self.suspended = None, False
        return True
