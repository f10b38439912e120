"""The device thread: asks the GPU's driver, and ends the worker when the GPU is lost.

A thread of its own, as a driver in trouble may not answer for as long as it likes: then the metrics
of the GPU stand still, and all else goes on. A call of the model that hangs meanwhile is the
watchdog's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import DeviceLost

if TYPE_CHECKING:
    from worker.gpu import Gpu
    from worker.metrics import Metrics
    from worker.stages.shutdown import Shutdown

LOOK_SECONDS = 2.0
"""Pause between looks. A lost GPU is noticed so much later where no batch runs; a look takes less
than a millisecond where the driver is well."""


class DeviceStage:
    """Looks at the GPU again and again.

    Args:
        gpu: The GPU.
        shutdown: Says when to stop.
        metrics: Show what the driver says.
    """

    def __init__(self, *, gpu: Gpu, shutdown: Shutdown, metrics: Metrics) -> None:
        self._gpu = gpu
        self._shutdown = shutdown
        self._metrics = metrics

    def run(self) -> None:
        """Runs until the worker stops; ends at once where the driver cannot be asked.

        Raises:
            DeviceLost: The GPU computes nothing more.
        """
        while self._gpu.look is not None and not self._shutdown.stopping:
            try:
                reading = self._gpu.look()
            except DeviceLost as error:
                self._metrics.inference_failed(error.kind)
                raise
            self._metrics.device_read(self._gpu.uuid, reading)
            self._shutdown.wait(LOOK_SECONDS)


def device_stage(gpu: Gpu | None, *, shutdown: Shutdown, metrics: Metrics) -> DeviceStage | None:
    """The stage; None where there is no GPU, or nothing can ask it."""
    if gpu is None or gpu.look is None:
        return None
    return DeviceStage(gpu=gpu, shutdown=shutdown, metrics=metrics)
