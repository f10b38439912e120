"""What is known of the GPU that a model runs on: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

THROTTLES = (
    "power_cap",
    "power_brake",
    "thermal_software",
    "thermal_hardware",
    "hardware_slowdown",
)
"""Why a GPU's clock may be held down: a closed set.

`power_cap` is normal under load: the card keeps to its power limit. `power_brake` comes from the
machine's power supply. `hardware_slowdown` stands beside `power_brake` and `thermal_hardware`, or
alone for a peak of power.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a GPU's driver said at one moment. None, or no reason: it does not say."""

    memory_used: int | None = None
    """Bytes in use on the card, by every process; of a MIG instance, those of the instance."""
    memory_capacity: int | None = None
    """Bytes that there are."""
    utilization: float | None = None
    """Share of the driver's last sample (a second at most) in which any kernel ran, 0 to 1."""
    temperature: float | None = None
    """Degrees Celsius."""
    power: float | None = None
    """Watts that the card draws."""
    throttled: Mapping[str, bool] = field(default_factory=dict)
    """Which of `THROTTLES` hold the clock down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU, and how to ask its driver."""

    uuid: str
    """The driver's name for it, with `GPU-` or `MIG-`: the same in every process and container."""
    name: str
    capability: str
    """CUDA's compute capability, as `9.0`."""
    cuda: str
    """Version of CUDA that torch was built with."""
    driver: str | None = None
    """Version of the driver; None where nothing can ask it."""
    look: Callable[[], Reading] | None = None
    """Asks the driver; raises `DeviceLost` where it says so. The device thread's. None where
    nothing can ask it."""

    def __str__(self) -> str:
        driver = f"driver {self.driver}" if self.driver else "driver unknown: no NVML"
        return f"{self.name}, {driver}, CUDA {self.cuda}"
