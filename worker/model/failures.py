"""Why a call of the model failed."""

from __future__ import annotations

import torch


class InferenceError(Exception):
    """A call of the model failed. `kind` is `oom`, `device` or `other`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def explained(error: Exception) -> InferenceError:
    """The error by its kind, in one line. Drops the traceback of the error that it is given."""
    # Its frames hold the failed call's activations: while the error is handled, and the halves
    # of its batch run, that memory would stay taken.
    error.__traceback__ = None
    if isinstance(error, torch.OutOfMemoryError):
        return InferenceError("oom", "out of device memory")
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    device = "CUDA" in text or isinstance(error, torch.AcceleratorError)
    return InferenceError("device" if device else "other", text)
