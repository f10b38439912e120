"""What every baseline is given, and the record that every baseline writes."""

import json
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any, Self

BATCH = 64
"""Texts in a batch. Twice as many are hardly faster on a CPU and wait twice as long."""
MAX_LENGTH = 128
"""Tokens after which a text is cut: the worker reads the same number from the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A baseline's settings, from the environment variables `CONTEST_*`."""

    bootstrap: str
    input_topic: str
    output_topic: str
    group: str
    checkpoint: str
    dtype: str = "float32"
    """Precision of the torch model: `float32` or `bfloat16`."""
    onnx_model: str = ""
    session_timeout_ms: int = 10_000

    @classmethod
    def from_environment(cls) -> Self:
        given = {
            name.removeprefix("CONTEST_").lower(): value
            for name, value in os.environ.items()
            if name.startswith("CONTEST_")
        }
        timeout = int(given.pop("session_timeout_ms", "10000"))
        return cls(**given, session_timeout_ms=timeout)

    def environment(self) -> dict[str, str]:
        """The variables that `from_environment` reads back."""
        return {
            f"CONTEST_{name.upper()}": str(getattr(self, name))
            for name in self.__dataclass_fields__
        }

    @property
    def heartbeat_interval_ms(self) -> int:
        return self.session_timeout_ms // 3


def answer(
    value: dict[str, Any], *, topic: str, partition: int, offset: int, label: str, score: float
) -> dict[str, Any]:
    """The output for one input: label, score, the input's id and where the input stands."""
    return {
        "label": label,
        "score": score,
        "id": value["id"],
        "source": {"topic": topic, "partition": partition, "offset": offset},
    }


def dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def until_terminated() -> threading.Event:
    """An event that SIGTERM and SIGINT set: the loop ends after the batch at hand."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
