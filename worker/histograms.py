"""A Prometheus histogram that takes many values at once.

The library's own takes one value a call, which is most of what a settled record costs. This one
counts a whole array, and is collected by the library as any other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric


class BulkHistogram(Collector):
    """A histogram, perhaps with one label. Any thread may call its methods.

    Args:
        name: Of the metric.
        text: Its help.
        buckets: Upper bounds, rising, without the infinite one.
        registry: Collects it.
        label: Name of the label; None for a histogram of a single series.
    """

    def __init__(
        self,
        name: str,
        text: str,
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        label: str | None = None,
    ) -> None:
        self._name, self._text = name, text
        self.labelnames = () if label is None else (label,)
        self._bounds = np.array(buckets)
        self._names = [*map(floatToGoString, buckets), "+Inf"]
        self._lock = threading.Lock()
        self._series: list[str] = []
        self._counts = np.zeros((0, len(self._names)), dtype=np.int64)
        self._sums = np.zeros(0)
        if label is None:
            self.add_series("")
        registry.register(self)

    def add_series(self, value: str) -> None:
        """Begins the series of a value of the label, where there is none."""
        with self._lock:
            if value not in self._series:
                self._series.append(value)
                self._counts = np.pad(self._counts, ((0, 1), (0, 0)))
                self._sums = np.append(self._sums, 0.0)

    def observe(self, values: np.ndarray, series: np.ndarray | int = 0) -> None:
        """Counts values.

        Args:
            values: float64, shape (n,).
            series: The number of each value's series, int64, shape (n,), in the order in which they
                were begun; or one for all.
        """
        width = len(self._names)
        at = np.searchsorted(self._bounds, values) + np.asarray(series) * width
        with self._lock:
            self._counts += np.bincount(at, minlength=self._counts.size).reshape(self._counts.shape)
            if isinstance(series, int):
                self._sums[series] += values.sum()
            else:
                self._sums += np.bincount(series, weights=values, minlength=len(self._sums))

    def describe(self) -> Iterator[Metric]:
        """The metric without its series."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """The metric as it is now."""
        family = self._family()
        with self._lock:
            counts, sums = self._counts.cumsum(axis=1).tolist(), self._sums.tolist()
            series = list(self._series)
        for value, row, total in zip(series, counts, sums, strict=True):
            family.add_metric(
                [value] if self.labelnames else [], list(zip(self._names, row, strict=True)), total
            )
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self.labelnames)
