"""What a failure means for the stream.

    WorkerError
    ├── Rejected        this record cannot be labelled: a dead letter, its batch goes on
    ├── Transient       try again later: the broker is away
    └── Fatal           end the process with 1; what was not acknowledged is read again
        ├── DeviceLost  the same, at once: the GPU computes nothing more for this process
        └── Refused     end it with 2: a person has to change something before a restart helps

The message of every one of them is a single line that says what is wrong and what to do.
"""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal[
    "invalid_utf8",
    "invalid_json",
    "not_an_object",
    "nested_too_deep",
    "missing_text",
    "text_not_string",
    "invalid_unicode",
    "empty_text",
    "input_too_large",
    "model_failed",
    "output_too_large",
    "output_refused",
]
"""Why a record became a dead letter: a closed set, part of the wire contract."""

REASONS: tuple[Reason, ...] = get_args(Reason)

Refusal = Literal["too_large", "timestamp", "keyless", "invalid"]
"""Why a broker refuses a record for good. `invalid` may be any other of them: brokers that name
several records say no more."""

EXIT_DRAINED = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


class WorkerError(Exception):
    """Root of the errors that this program raises itself."""


class Rejected(WorkerError):
    """One record cannot be labelled, for a reason of the wire contract."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


class Transient(WorkerError):
    """The broker is away, or not yet ready: the same call may succeed later."""


class Fatal(WorkerError):
    """The process cannot go on; a restart may help."""

    exit_code = EXIT_FAILED


class DeviceLost(Fatal):
    """The GPU computes nothing more for this process: every call of the model would fail.

    Args:
        why: What CUDA or the driver says, in one line.
    """

    kind = "device"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the GPU is lost to this process: {why}: look for an XID in the kernel log (dmesg); "
            "what was not committed is read again after a restart"
        )


class Refused(Fatal):
    """Settings, checkpoint or topics are unusable: a restart does not help."""

    exit_code = EXIT_REFUSED
