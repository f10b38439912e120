"""Why a call of the model failed.

A CUDA error either ends the process's context, and then every later call fails with it, or it is
about one call. Which of the two, its code says; where that is not certain, the device is asked.
"""

from __future__ import annotations

import torch

from worker.errors import DeviceLost

NO_MEMORY = 2
"""CUDA's code for a lack of memory."""

ENDS_THE_CONTEXT = frozenset({214, 220, 226, 700, 702, 710, *range(714, 720), 721})
"""CUDA's codes after which the process has to be started again: uncorrectable errors of memory and
NVLink, illegal addresses and instructions, failed launches and assertions."""

SHORT_OF_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "out of memory")
"""What CUDA's libraries say for want of memory, as a plain `RuntimeError`."""


class InferenceError(Exception):
    """A call of the model failed. `kind` is `oom` or `other`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def explained(error: Exception, device: torch.device) -> InferenceError | DeviceLost:
    """The error by its kind, in one line. Drops the traceback of the error that it is given.

    Args:
        error: What a call on the device raised.
        device: The device. A GPU may be asked to compute something; that waits for what it runs.
    """
    # Its frames hold the failed call's activations: while the error is handled, and the halves
    # of its batch run, that memory would stay taken.
    error.__traceback__ = None
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    code = getattr(error, "error_code", None)
    if isinstance(error, torch.OutOfMemoryError) or code == NO_MEMORY:
        return InferenceError("oom", "out of device memory")
    if device.type != "cuda":
        return InferenceError("other", text)
    if code in ENDS_THE_CONTEXT:
        return DeviceLost(text)
    if any(words in text for words in SHORT_OF_MEMORY):
        return InferenceError("oom", text)
    return InferenceError("other", text) if _computes(device) else DeviceLost(text)


def _computes(device: torch.device) -> bool:
    """Whether the device still computes for this process, by the smallest operation there is."""
    try:
        torch.ones(1, device=device)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return True  # a context that has ended would not have looked for memory
    except Exception:  # noqa: BLE001 - whatever it is, the device does not compute
        return False
    return True
