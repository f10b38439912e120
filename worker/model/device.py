"""Where the model runs and in which precision."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from worker.errors import Refused

BFLOAT16_CAPABILITY = (8, 0)
"""First CUDA compute capability with native bfloat16 (Ampere)."""


def choose_device(asked: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        Refused: CUDA was asked for and is not there: never a silent fallback.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise Refused(
                f"model.device: {asked} was asked for, but torch {torch.__version__} sees no GPU: "
                "check the driver and the container's GPU request, or set auto or cpu"
            )
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise Refused(f"model.device: {asked} was asked for, but there are {count} GPUs")
    return device


def choose_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The precision for ``auto`` or a name: what the device computes natively."""
    if asked != "auto":
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def usable_cpus() -> int:
    """Processors this process may use: affinity, cut by the container's quota (cgroup v2).

    torch counts the host's; in a pod with a limit its threads would then wait for one another.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limit = max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return count or 1
    return min(count or 1, limit)


def _cpu_has_bfloat16() -> bool:
    """Elsewhere bfloat16 is emulated, 3 to 5 times slower than float32."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
