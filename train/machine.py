"""What a command computes on: device and precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.errors import Refused
from train.given.library import unseen_gpu
from train.settings import Device, Precision

Resolved = Literal["float32", "bfloat16", "float16"]

BFLOAT16_CAPABILITY = (8, 0)
"""First CUDA compute capability with native bfloat16 (Ampere)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a command computes on."""

    device: Literal["cpu", "cuda"]
    name: str
    """The processor's, as its maker calls it."""
    precision: Resolved


def choose(device: Device, precision: Precision) -> Machine:
    """The device and the precision to use, from what the user asked for.

    Raises:
        Refused: `cuda` is asked for and there is no GPU, or float16 on a CPU, where a training
            cannot scale its gradients.
    """
    import torch  # noqa: PLC0415 - seconds that `--help` must not take

    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise Refused(
            f"--device cuda: torch {torch.__version__} sees no GPU: "
            f"{unseen_gpu(torch.version.cuda, image='trainer')}, or take auto or cpu"
        )
    if device == "cpu" or not cuda:
        if precision == "float16":
            raise Refused("--precision float16: needs CUDA; on a CPU choose float32 or bfloat16")
        native: Resolved = "bfloat16" if cpu_has_bfloat16() else "float32"
        resolved = native if precision == "auto" else precision
        return Machine(device="cpu", name=_cpu_name(), precision=resolved)
    if precision == "auto":
        recent = torch.cuda.get_device_capability() >= BFLOAT16_CAPABILITY
        return Machine(
            device="cuda",
            name=torch.cuda.get_device_name(),
            precision="bfloat16" if recent else "float16",
        )
    return Machine(device="cuda", name=torch.cuda.get_device_name(), precision=precision)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself. Emulated, it is 3 to 5 times slower than float32.

    torch is asked, since its kernels decide: `/proc/cpuinfo` may name what they do not use.
    """
    import torch  # noqa: PLC0415 - seconds that `--help` must not take

    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "CPU"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or "CPU"
