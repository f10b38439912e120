"""Whether the stream can go on: no signal, everything runs, and outputs keep coming."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.demo.ledger import Ledger
    from worker.demo.sender import Sender
    from worker.demo.stop import Stop
    from worker.demo.supervisor import Supervisor

STALL_SECONDS = 60.0
"""Without any output for so long while messages wait, the worker is stuck."""


class Guard:
    """Raises where the stream cannot go on. Owned by the main thread.

    Args:
        stop: The user's wish to end.
        check_broker: Raises where the demo's own broker has ended.
        sender: Sends the messages.
        supervisor: The worker.
        ledger: What became of the messages.
        now: In seconds.
    """

    def __init__(
        self,
        *,
        stop: Stop,
        check_broker: Callable[[], None],
        sender: Sender,
        supervisor: Supervisor,
        ledger: Ledger,
        now: float,
    ) -> None:
        self._stop = stop
        self._check_broker = check_broker
        self._sender = sender
        self._supervisor = supervisor
        self._ledger = ledger
        self._moved = now
        self._settled = 0

    def check(self, now: float) -> None:
        """Checks everything; must be called often, since it is what notices.

        Raises:
            Interrupted: A signal came.
            Refused: The worker refuses its settings, its checkpoint or its topics.
            Fatal: The worker ended or is stuck, the broker ended, or a message cannot be sent.
        """
        self._stop.check()
        self._check_broker()
        self._sender.check()
        self._supervisor.check()
        self._check_moving(now)

    def _check_moving(self, now: float) -> None:
        settled, waiting = self._ledger.settled, self._ledger.waiting
        if settled != self._settled or not waiting or not self._supervisor.ready:
            self._settled, self._moved = settled, now
        stalled = now - self._moved
        if stalled > STALL_SECONDS:
            raise Fatal(
                f"no output for {stalled:.0f} s while {waiting:,} messages wait "
                f"(the worker's log: {self._supervisor.log})"
            )
