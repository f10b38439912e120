"""The device on which the model runs, and in which precision."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from worker.errors import Refused
from worker.given.library import unseen_gpu

BFLOAT16_CAPABILITY = (8, 0)
"""First CUDA compute capability with native bfloat16 (Ampere)."""


def choose_device(asked: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        Refused: CUDA was asked for and there is no such GPU: it never falls back silently.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise Refused(
                f"model.device: {asked} was asked for, but torch {torch.__version__} sees no GPU: "
                f"{unseen_gpu(torch.version.cuda, image='worker')}, or set auto or cpu"
            )
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise Refused(f"model.device: {asked} was asked for, but the number of GPUs is {count}")
    return device


def prepare_cuda() -> None:
    """Settles which of CUDA's kernels may run."""
    # cuDNN's attention, which torch prefers on Hopper from 2.10 on, makes a plan for every new
    # (rows, length), which takes up to 0.4 s; padded batches have new shapes all the time.
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)


def choose_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The precision for a name; for `auto`, the fastest that the device computes natively.

    `emotion-train` has the same rule in `train/recipe.py`; `tests/unit/model/test_agreement.py`
    compares.
    """
    if asked != "auto":
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def usable_cpus() -> int:
    """Processors that this process may use: its affinity, limited by the quota of cgroup v2.

    torch counts those of the host: in a pod with a limit its threads would wait for one another.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limit = max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return count or 1
    return min(count or 1, limit)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself: emulated, it is 3 to 5 times slower."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
