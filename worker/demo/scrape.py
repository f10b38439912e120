"""What the demo asks its worker over HTTP: /readyz, and of /metrics what the live view shows."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

TIMEOUT = 2.0
"""Seconds for the worker to answer; the live view stands still meanwhile."""
WINDOW = 8
"""Scrapes over which the batch size is a mean: at two a second, the last four seconds."""
_SAMPLE = re.compile(r"^(worker_\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One scrape."""

    lag: int
    """Records on the input topic without an output, when the worker last looked."""
    batches: float
    """Micro-batches since the worker's start."""
    batched: float
    """Records in them."""
    model: str
    """The model's name, version, device and precision."""


def parse(exposition: str) -> Reading:
    """Reads a page in the Prometheus text format."""
    totals: dict[str, float] = {}
    model = {}
    for line in exposition.splitlines():
        if sample := _SAMPLE.match(line):
            name, labels, value = sample.groups()
            totals[name] = totals.get(name, 0.0) + float(value)
            if name == "worker_model_info":
                model = dict(_LABEL.findall(labels or ""))
    parts = ("name", "version", "device", "dtype")
    return Reading(
        lag=int(totals.get("worker_consumer_lag_records", 0)),
        batches=totals.get("worker_batch_records_count", 0.0),
        batched=totals.get("worker_batch_records_sum", 0.0),
        model=" ".join(model[part] for part in parts if part in model),
    )


class Scraper:
    """Asks one worker over HTTP. Owned by the main thread.

    Args:
        port: The port of loopback on which it listens.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._past: deque[Reading] = deque(maxlen=WINDOW)

    def ready(self) -> bool:
        """Whether the worker says that it labels."""
        return self._get("/readyz") is not None

    def scrape(self) -> None:
        """Takes a reading; without an answer the last one stays."""
        page = self._get("/metrics")
        if page is not None:
            self._past.append(parse(page))

    @property
    def last(self) -> Reading | None:
        """The last reading; None before the first."""
        return self._past[-1] if self._past else None

    def batch_size(self) -> float | None:
        """Mean number of records in recent micro-batches; None where there were none."""
        if not self._past:
            return None
        first, last = self._past[0], self._past[-1]
        batches = last.batches - first.batches
        return (last.batched - first.batched) / batches if batches > 0 else None

    def _get(self, path: str) -> str | None:
        # Not urllib: it would send even this to the proxy that a user's environment names.
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()
        return body if answer.status == HTTPStatus.OK else None
