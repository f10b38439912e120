"""The poll thread: owns the consumer, from joining the group to leaving it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker import awake
from worker.messages import Drain

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.endpoints import Health
    from worker.messages import ToAssemble
    from worker.stages.intake import Intake, RecordSource
    from worker.stages.shutdown import Shutdown
    from worker.watchdog import Watchdog

WAIT_SECONDS = 0.1
"""Longest wait for a producer before looking again whether the worker stops."""


class PollStage:
    """Joins the group when outputs can be written, runs turns, and leaves when all is settled.

    Args:
        intake: What a turn does.
        make_source: Makes the consumer, on this thread; raises `Transient` while no broker answers.
        assemble: Takes the `Drain`.
        shutdown: Says when to stop.
        health: Gets the times of the last turn and of the last progress.
        watchdog: Guards the turns, and counts the model's calls.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        make_source: Callable[[], RecordSource],
        assemble: Callable[[ToAssemble], None],
        shutdown: Shutdown,
        health: Health,
        watchdog: Watchdog,
    ) -> None:
        self._intake = intake
        self._make_source = make_source
        self._assemble = assemble
        self._shutdown = shutdown
        self._health = health
        self._watchdog = watchdog
        self._model_calls = 0

    def run(self) -> None:
        """Runs until a drain is over, or an abort.

        Raises:
            Fatal: The source cannot be read any more.
            Transient: The broker did not take the last commit.
        """
        # There is a producer before the group is joined: a worker that cannot write holds no
        # partitions.
        reports, shutdown = self._intake.reports, self._shutdown
        while not (reports.writable or shutdown.stopping):
            reports.take(timeout=WAIT_SECONDS)
            self._health.loop_turned = awake.now()
        source = shutdown.reached(self._new_source)
        if source is None:
            self._assemble(Drain(shutdown.hand_back_at))
            return
        try:
            while not shutdown.stopping:
                self._turn(source, reading=True)
            while self._intake.behind and not (shutdown.handing_back() or shutdown.aborting()):
                self._turn(source, reading=False)
            self._intake.hand_back()
            self._assemble(Drain(shutdown.hand_back_at))
            while not (reports.drained or shutdown.aborting()):
                self._turn(source, reading=False)
            if not shutdown.aborting():
                self._intake.commit_last(source, timeout=shutdown.left())
        finally:
            drained = reports.drained and not shutdown.aborting()
            source.close(timeout=shutdown.left() if shutdown.stopping else 1.0, leave=drained)

    def _new_source(self) -> RecordSource:
        self._health.loop_turned = awake.now()  # waiting for a broker is no hang
        return self._make_source()

    def _turn(self, source: RecordSource, *, reading: bool) -> None:
        health, watchdog = self._health, self._watchdog
        health.loop_turned = now = awake.now()
        calls, self._model_calls = self._model_calls, watchdog.model.returned
        moved = self._intake.take_moved() or calls != self._model_calls
        if moved or health.moved is None or health.broker_silent():
            health.moved = now
        with watchdog.poll:
            self._intake.turn(source, reading=reading)
