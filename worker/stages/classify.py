"""The classify thread: runs staged micro-batches through the model, `depth` of them at a time."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, assert_never

from worker.messages import Abort, Barrier, Finished, Outcomes, Staged
from worker.stages.inbox import next_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from worker.messages import ToAssemble, ToClassify, ToPublish
    from worker.metrics import Metrics
    from worker.stages.inference import Inference, Launched


class ClassifyStage:
    """Launches and finishes batches in their order.

    Args:
        inbox: Staged batches.
        inference: Runs them.
        depth: How many may be launched before the first one is finished.
        assemble: Takes a `Finished` for every batch.
        publish: Takes the outcomes.
        metrics: Counts the model's time.
    """

    def __init__(
        self,
        *,
        inbox: SimpleQueue[ToClassify],
        inference: Inference,
        depth: int,
        assemble: Callable[[ToAssemble], None],
        publish: Callable[[ToPublish], None],
        metrics: Metrics,
    ) -> None:
        self._inbox = inbox
        self._inference = inference
        self._depth = depth
        self._assemble = assemble
        self._publish = publish
        self._metrics = metrics
        self._launched: deque[Launched] = deque()
        self._free_since = 0.0

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
        if not self._launched:
            self._free_since = time.perf_counter()
        self._launched.append(self._inference.launch(staged))

    def _finish(self, launched: Launched) -> None:
        outcomes = self._inference.finish(launched)
        now = time.perf_counter()
        self._metrics.model_ran(now - self._free_since)
        self._free_since = now
        self._assemble(Finished(launched.batch, self._inference.ran_out))
        self._publish(Outcomes(outcomes))
