"""The device on which the model runs, in which precision, and what is known of it."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
import torch

from worker.errors import Refused
from worker.given.library import unseen_gpu
from worker.gpu import Gpu
from worker.model import nvml

log = structlog.get_logger(__name__)

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


def choose_dtype(asked: str, device: torch.device) -> torch.dtype:
    """The precision for a name; for `auto`, the fastest that the device computes natively.

    `emotion-train` has the same rule in `train/machine.py`; `tests/unit/model/test_agreement.py`
    compares.
    """
    if asked != "auto":
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def settle_arithmetic(device: torch.device) -> None:
    """Sets how a GPU computes where libraries leave a choice, so that no default decides it.

    A product in float32 is one: TF32, with 10 bits of a mantissa in place of 23, is off. What stays
    in float32 does so because its scores are to be exact (the head, `model.dtype: float32`, or a
    model that bears no reduced precision); who wants the speed has bfloat16. Nor are sums of
    float16 products kept in float16. And no algorithm is chosen by a race, or two starts of one
    worker might compute with different ones.

    cuDNN's attention, which torch prefers on Hopper from 2.10 on, makes a plan for each new (rows,
    length), in up to 0.4 s, and padded batches have new ones all the time: it is off.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(enabled=False)
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False


def give_back(device: torch.device) -> None:
    """Gives back the memory of a GPU that trials needed, and forgets how much it was."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def gpu_of(device: torch.device) -> Gpu | None:
    """The GPU that a device is; None of a CPU. Logs what is known of it."""
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    seen = nvml.find(str(found.uuid))
    gpu = Gpu(
        uuid=seen.uuid if seen else f"GPU-{found.uuid}",
        name=found.name,
        capability=f"{found.major}.{found.minor}",
        cuda=torch.version.cuda or "none",
        driver=seen.driver if seen else None,
        look=seen.look if seen else None,
    )
    log.info(
        "gpu",
        device=str(device),
        gpu=gpu.name,
        uuid=gpu.uuid,
        capability=gpu.capability,
        memory=found.total_memory,
        driver=gpu.driver,
        cuda=gpu.cuda,
        cudnn=torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        torch=torch.__version__,
        tf32=torch.backends.cuda.matmul.allow_tf32,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return gpu


def memory_of(device: torch.device) -> dict[str, int]:
    """Bytes of device memory that this process has, by kind; empty on a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "peak": torch.cuda.max_memory_allocated(device),
    }


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
