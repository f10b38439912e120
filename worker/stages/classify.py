"""The classify thread: runs staged micro-batches through the model, `depth` of them at a time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

import structlog

from worker import awake
from worker.messages import Abort, Barrier, Finished, Outcomes, Staged
from worker.stages.inbox import next_of
from worker.stages.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from worker.messages import ToAssemble, ToClassify, ToPublish
    from worker.metrics import Metrics
    from worker.stages.inference import Inference, Launched
    from worker.stages.shutdown import Shutdown

log = structlog.get_logger(__name__)


class ClassifyStage:
    """Launches and finishes batches in their order.

    Args:
        inbox: Staged batches.
        inference: Runs them.
        depth: How many may be launched before the first one is finished.
        assemble: Takes a `Finished` for every batch.
        publish: Takes the outcomes.
        shutdown: Says by when a drain hands back what is not launched.
        metrics: Counts the model's time.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        inbox: SimpleQueue[ToClassify],
        inference: Inference,
        depth: int,
        assemble: Callable[[ToAssemble], None],
        publish: Callable[[ToPublish], None],
        shutdown: Shutdown,
        metrics: Metrics,
        clock: Callable[[], float] = awake.now,
    ) -> None:
        self._inbox = inbox
        self._inference = inference
        self._depth = depth
        self._assemble = assemble
        self._publish = publish
        self._shutdown = shutdown
        self._metrics = metrics
        self._clock = clock
        self._pace = Pace()
        self._launched: deque[Launched] = deque()

    def run(self) -> None:
        """Runs until the barrier, or an abort.

        Raises:
            Fatal: The model fails for a known-good text as well.
        """
        barrier = False
        while not barrier or self._launched:
            while not barrier and len(self._launched) < self._depth:
                message = next_of(self._inbox, 0.0 if self._launched else None)
                match message:
                    case None:
                        break
                    case Staged():
                        self._launch(message)
                    case Barrier():
                        barrier = True
                    case Abort():
                        return
                    case _:
                        assert_never(message)
            if self._launched:
                self._finish(self._launched.popleft())
        self._publish(Barrier())

    def _launch(self, staged: Staged) -> None:
        now = self._clock()
        if self._shutdown.stopping and not self._pace.fits(
            len(self._launched) + 1, now=now, until=self._shutdown.hand_back_at
        ):
            log.info("records_handed_back", records=len(staged.batch.items))
            self._assemble(Finished(staged.batch, out_of_memory=False, seconds=None))
            return
        if not self._launched:
            self._pace.begins(now)
        self._launched.append(self._inference.launch(staged))

    def _finish(self, launched: Launched) -> None:
        outcomes = self._inference.finish(launched)
        seconds = self._pace.ended(self._clock())
        self._metrics.model_ran(seconds)
        self._assemble(Finished(launched.batch, self._inference.ran_out, seconds))
        self._publish(Outcomes(outcomes))
