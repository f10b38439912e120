"""A GPU as its driver sees it, by NVML: the package `nvidia-ml-py`, the extra `gpu`.

NVML only observes. Without the package or the library there is nothing to see, a figure that the
driver does not give is left out, and whatever fails is logged: but for a GPU that is lost nothing
here ends the worker. Calls may wait for the driver for as long as they like, so they are made by a
thread of its own (`stages/device.py`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from worker.errors import DeviceLost
from worker.gpu import Reading
from worker.logs import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

T = TypeVar("T")

CRITICAL_XIDS = {
    46: "it stopped processing",
    48: "uncorrectable error of its memory",
    62: "its micro-controller halted",
    79: "it has fallen off the bus",
    95: "uncontained error of its memory",
    110: "security fault",
    119: "its system processor does not answer",
    120: "its system processor failed",
    140: "unrecovered error of its memory",
    143: "it cannot be initialized",
    158: "fatal timeout",
}
"""XIDs after which no process can use the GPU until it is reset or replaced, by NVIDIA's catalog:
https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html

Others are logged only. An application causes 13, 31, 43, 45, 69, 94 and 109, and it may be another
one on the same GPU: if it is this one, CUDA says so. NVLink's (74, 144 to 150) are of links that a
worker on one GPU does not use."""

THROTTLE_BITS = {
    "power_cap": 0x4,
    "hardware_slowdown": 0x8,
    "thermal_software": 0x20,
    "thermal_hardware": 0x40,
    "power_brake": 0x80,
}
"""Bits of NVML's `nvmlClocksEventReasons`. Those of an idle GPU and of clocks that somebody set are
left out: nothing is wrong then."""

MOST_EVENTS = 100
"""XIDs that are read at once. A GPU that is failing may report thousands; they are in the kernel
log, and the next look reads on."""

ANY_INSTANCE = 0xFFFFFFFF
"""In place of a MIG instance: the event is of the whole GPU."""


class Nvml:
    """One GPU, or one MIG instance of it. The device thread's, once it is made.

    Args:
        library: The module `pynvml`, initialized.
        uuid: As torch gives it, without a prefix: numbers differ where CUDA_VISIBLE_DEVICES or
            MIG hide some GPUs.

    Raises:
        NVMLError: The driver does not know the GPU, or does not answer.
    """

    def __init__(self, library: Any, uuid: str) -> None:
        self._nvml = library
        self.uuid, self._handle = self._found(uuid)
        self.driver: str = library.nvmlSystemGetDriverVersion()
        # Of a MIG instance NVML tells the memory. All else is the card's, and it gives no
        # utilization of either.
        self._instance: int | None = None
        self._card = self._handle
        if self.uuid.startswith("MIG-"):
            self._instance = library.nvmlDeviceGetGpuInstanceId(self._handle)
            with contextlib.suppress(library.NVMLError):  # a container may not have the card
                self._card = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._handle)
        self._failing = Lasting(log, "nvml_fails")
        self._errors: list[str] = []
        self._events = self._registered()

    def look(self) -> Reading:
        """What the driver says now.

        Raises:
            DeviceLost: The GPU is lost, or an XID says that it is of no use any more.
        """
        nvml, self._errors = self._nvml, []
        self._look_for_xids()
        memory = self._asked(lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle))
        rates = None
        if self._instance is None:
            rates = self._asked(lambda: nvml.nvmlDeviceGetUtilizationRates(self._handle))
        sensor = nvml.NVML_TEMPERATURE_GPU
        temperature = self._asked(lambda: nvml.nvmlDeviceGetTemperature(self._card, sensor))
        milliwatts = self._asked(lambda: nvml.nvmlDeviceGetPowerUsage(self._card))
        bits = self._asked(self._throttle_bits)
        if self._errors:
            self._failing.still(self._errors[0])
        else:
            self._failing.over()
        return Reading(
            memory_used=None if memory is None else int(memory.used),
            memory_capacity=None if memory is None else int(memory.total),
            utilization=None if rates is None else rates.gpu / 100,
            temperature=None if temperature is None else float(temperature),
            power=None if milliwatts is None else milliwatts / 1_000,
            throttled={}
            if bits is None
            else {reason: bool(bits & bit) for reason, bit in THROTTLE_BITS.items()},
        )

    def _found(self, uuid: str) -> tuple[str, Any]:
        """The GPU or the MIG instance with this UUID: its whole name, and NVML's handle."""
        nvml, name = self._nvml, f"GPU-{uuid}"
        try:
            return name, nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError:
            name = f"MIG-{uuid}"
            return name, nvml.nvmlDeviceGetHandleByUUID(name)

    def _registered(self) -> Any:
        """NVML's set of events, to which the GPU's XIDs come; None where there are none."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(self._card, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError as error:
            log.info("xids_unseen", error=str(error))
            return None
        return events

    def _look_for_xids(self) -> None:
        for _ in range(MOST_EVENTS if self._events is not None else 0):
            event = self._asked(self._next_event)
            if event is None:
                return
            if self._instance is not None and event.gpuInstanceId not in (
                self._instance,
                ANY_INSTANCE,
            ):
                continue
            xid = int(event.eventData)
            if xid in CRITICAL_XIDS:
                raise DeviceLost(f"XID {xid} ({CRITICAL_XIDS[xid]})")
            log.warning("xid", xid=xid, gpu=self.uuid)

    def _next_event(self) -> Any:
        """The next event that has come; None where none has."""
        try:
            return self._nvml.nvmlEventSetWait_v2(self._events, 0)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_TIMEOUT:
                return None
            raise

    def _throttle_bits(self) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self._card))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._card))  # before R535

    def _asked(self, question: Callable[[], T]) -> T | None:
        """The answer; None where there is none.

        Raises:
            DeviceLost: The GPU is lost, or has to be reset.
        """
        nvml = self._nvml
        try:
            return question()
        except Exception as error:  # what only observes ends nothing
            code = getattr(error, "value", None)
            if code in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                raise DeviceLost(f"NVML says: {error}") from error
            if code != nvml.NVML_ERROR_NOT_SUPPORTED:
                self._errors.append(f"{type(error).__name__}: {error}")
            return None


def find(uuid: str) -> Nvml | None:
    """The GPU with this UUID; None, and a line in the log, where NVML cannot be asked about it."""
    try:
        import pynvml  # noqa: PLC0415 - optional, and of no use without a GPU

        pynvml.nvmlInit()
        return Nvml(pynvml, uuid)
    except ImportError:
        log.info("nvml_absent", error="nvidia-ml-py is not installed")
    except Exception as error:  # noqa: BLE001 - what only observes ends nothing
        log.info("nvml_absent", error=f"{type(error).__name__}: {error}")
    return None
