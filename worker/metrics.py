"""Every instrument, as event methods: the only file that knows what is counted how.

Base units, the prefix `worker_`, no unbounded label. Every known label set starts at zero: a
counter that appears at 1 hides its first event from `increase()`.
"""

from __future__ import annotations

import collections
import platform
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from worker.errors import REASONS
from worker.histograms import BulkHistogram
from worker.records import ABSTAIN_REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from worker.gpu import Gpu, Reading
    from worker.records import Encoded, Lease, MicroBatch, Output

_POWERS_OF_TWO = tuple(float(2**power) for power in range(17))
_WAITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_STAGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SCORES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

DRIFT_WINDOW = 1_000
"""Last predictions over which drift is measured. Fewer are noise: the share of a label among 1,000
varies by 0.015."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Upper bounds of the latencies' buckets, in seconds, rising."""

    processing: tuple[float, ...] = (
        *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
        *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    )
    record: tuple[float, ...] = (
        *(0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
        *(5.0, 15.0, 60.0, 300.0, 900.0),
    )


class Metrics:
    """The instruments of one worker. Any thread may call its methods.

    Args:
        input_topic, output_topic, dlq_topic: The worker's topics.
        version: The program's version.
        registry: Takes the instruments.
        buckets: Of the latencies.
    """

    def __init__(
        self,
        *,
        input_topic: str,
        output_topic: str,
        dlq_topic: str,
        version: str,
        registry: CollectorRegistry,
        buckets: Buckets | None = None,
    ) -> None:
        buckets = buckets or Buckets()
        self._topic = input_topic
        self._shares: Mapping[str, float] = {}
        self._labels: dict[str, int] = {}
        self._recent = np.zeros(0, dtype=np.int64)
        self._lock = threading.Lock()  # for these two

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"worker_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"worker_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(
                f"worker_{name}", text, labels, registry=registry, buckets=tuple(buckets)
            )

        def by_record(
            name: str, text: str, buckets: Sequence[float], label: str | None = None
        ) -> BulkHistogram:
            return BulkHistogram(
                f"worker_{name}", text, buckets=buckets, label=label, registry=registry
            )

        self._consumed = counter("records_consumed_total", "Records read from the topic.", "topic")
        self._produced = counter(
            "records_produced_total", "Records produced and acknowledged by the broker.", "topic"
        )
        self._processed = counter(
            "records_processed_total",
            "Input records whose output is acknowledged.",
            "topic",
            "outcome",
        )
        self._dead = counter("dead_letters_total", "Dead letters produced.", "reason")
        self._commits = counter("commits_total", "Offset commits by outcome.", "outcome")
        self._expired = counter(
            "records_expired_total", "Records that retention deleted before the worker read them.",
            "topic",
        )  # fmt: skip
        self._rebalances = counter("rebalances_total", "Rebalance events by kind.", "event")
        self._produce_errors = counter("produce_errors_total", "Failed sends by error.", "code")
        self._lag = gauge(
            "consumer_lag_records", "Records between the settled offset and the partition's end.",
            "topic", "partition",
        )  # fmt: skip
        self._lag_seconds = gauge(
            "consumer_lag_seconds", "Age of a partition's oldest record that has no output yet.",
            "topic", "partition",
        )  # fmt: skip
        self._partitions = gauge("topic_partitions", "Partitions of the topic.", "topic")
        self._assigned = gauge("assigned_partitions", "Partitions this worker owns.")
        self._paused = gauge("consumer_paused", "1 while no more records are read.")
        self._in_flight = gauge("in_flight_records", "Records read but not settled.")
        self._progress = gauge(
            "last_progress_timestamp_seconds",
            "Unix time when this worker last settled a record, or last knew that none was waiting. "
            "0 before the first time.",
        )
        self._partition_progress = gauge(
            "partition_progress_timestamp_seconds",
            "Unix time when this worker last settled a record of the partition, or last knew that "
            "none was waiting. Until then: when the partition was assigned.",
            "topic", "partition",
        )  # fmt: skip
        self._reachable = gauge(
            "broker_reachable", "1 while the cluster answers the worker's questions."
        )
        self._batch_records = histogram(
            "batch_records", "Records in a micro-batch.", _POWERS_OF_TWO
        )
        self._batch_tokens = histogram(
            "batch_tokens", "Tokens in a micro-batch, padding included.", _POWERS_OF_TWO
        )
        self._flushes = counter(
            "batch_flush_total", "Micro-batches, by what made them due.", "reason"
        )
        self._batch_wait = histogram(
            "batch_wait_seconds",
            "Time that a batch's oldest record has waited since it was read.",
            _WAITS,
        )
        self._stages = histogram(
            "stage_duration_seconds", "Duration of one call of a stage.", _STAGES, "stage"
        )
        self._latency = by_record(
            "record_latency_seconds",
            "Time from a record's timestamp to its acknowledged output.",
            buckets.record,
        )
        self._skew = counter(
            "clock_skew_records_total", "Records whose timestamp was in the future."
        )
        self._processing = by_record(
            "processing_latency_seconds",
            "Time from the read of a record to its acknowledged output.",
            buckets.processing,
        )
        self._tokens = counter("tokens_total", "Tokens given to the model.", "kind")
        self._truncated = counter(
            "truncated_records_total", "Texts cut to the model's maximum length."
        )
        self._inference_errors = counter(
            "inference_errors_total", "Failed model calls. device: the GPU was lost.", "kind"
        )
        self._predictions = counter("predictions_total", "Predictions by label.", "label")
        self._abstained = counter(
            "abstained_total",
            "Labels on which the worker abstained, by reason. Absent if model.abstain is off.",
            "reason",
        )
        self._scores = by_record(
            "prediction_score", "Score of the predicted label.", _SCORES, "label"
        )
        self._drift = gauge(
            "prediction_drift",
            "Total variation distance (0 to 1) between the labels of the last 1000 predictions and "
            "those of the training data.",
        )
        self._busy = counter("model_busy_seconds_total", "Time the model was running.")
        self._memory = gauge("device_memory_bytes", "GPU memory of this process.", "kind")
        self._of_the_gpu(gauge)
        self._breaker = gauge(
            "breaker_open",
            "1 while only probes are read, because most of the last records became dead letters.",
        )
        self._hanging = gauge(
            "hanging_transactions",
            "Partitions whose read_committed readers wait for a transaction that does not end.",
        )
        self._model = Info(
            "worker_model", "The checkpoint in use, and what it runs on.", registry=registry
        )
        Info("worker_build", "Versions of the worker and of Python.", registry=registry).info(
            {"version": version, "python": platform.python_version()}
        )
        self._start_at_zero(input_topic, output_topic, dlq_topic)

    def _of_the_gpu(self, gauge: Callable[..., Gauge]) -> None:
        """What its driver says of it."""
        # By the card, so that there is no series where nobody knows: a gauge without a label is 0.
        self._memory_used = gauge(
            "device_memory_used_bytes",
            "GPU memory in use by all processes, on the card or the MIG instance.",
            "uuid",
        )
        self._memory_capacity = gauge(
            "device_memory_capacity_bytes", "Memory of the card or the MIG instance.", "uuid"
        )
        self._utilization = gauge(
            "device_utilization_ratio",
            "Share of the last moment in which a kernel of any process ran on the GPU.",
            "uuid",
        )
        self._temperature = gauge("device_temperature_celsius", "Temperature of the GPU.", "uuid")
        self._power = gauge("device_power_watts", "Power that the card draws.", "uuid")
        self._throttled = gauge(
            "device_throttled", "1 while the GPU's clock is held down for this reason.",
            "uuid", "reason",
        )  # fmt: skip

    def _start_at_zero(self, input_topic: str, output_topic: str, dlq_topic: str) -> None:
        self._consumed.labels(input_topic)
        self._expired.labels(input_topic)
        for topic in (output_topic, dlq_topic):
            self._produced.labels(topic)
        for outcome in ("labelled", "tombstone", "dead_letter"):
            self._processed.labels(input_topic, outcome)
        for reason in REASONS:
            self._dead.labels(reason)
        for outcome in ("ok", "failed"):
            self._commits.labels(outcome)
        for event in ("assigned", "revoked", "lost"):
            self._rebalances.labels(event)
        for cause in ("full", "idle", "age", "drain"):
            self._flushes.labels(cause)
        for stage in ("decode", "tokenize", "stage", "model", "publish"):
            self._stages.labels(stage)
        for kind in ("real", "padding"):
            self._tokens.labels(kind)
        for kind in ("oom", "device", "other"):
            self._inference_errors.labels(kind)
        self._partitions.labels(input_topic)

    def model_loaded(
        self,
        *,
        name: str,
        version: str,
        labels: tuple[str, ...],
        device: str,
        dtype: str,
        rows: str,
        shares: Mapping[str, float] | None,
        abstains: bool = False,
        gpu: Gpu | None = None,
    ) -> None:
        """The model is ready.

        Args:
            name: The checkpoint's.
            version: Likewise.
            labels: In the order of the scores.
            device: Where it runs.
            dtype: In which precision.
            rows: `packed` or `padded`.
            shares: Each label's share of the training data, if known.
            abstains: Whether the worker says where it does not know.
            gpu: What is known of the GPU that it runs on.
        """
        told = {"name": name, "version": version, "device": device, "dtype": dtype, "rows": rows}
        if gpu is not None:
            told |= {"device_name": gpu.name, "driver": gpu.driver or "", "cuda": gpu.cuda}
        self._model.info(told)
        self._shares = shares or {}
        for label in labels:
            self._number(label)
        for reason in ABSTAIN_REASONS if abstains else ():
            self._abstained.labels(reason)

    def records_consumed(self, count: int) -> None:
        """Records came from the input topic."""
        self._consumed.labels(self._topic).inc(count)

    def in_flight(self, records: int) -> None:
        """How many records are read but not settled."""
        self._in_flight.set(records)

    def nothing_waits(self, *, now: float) -> None:
        """At Unix time `now` every known record had its output."""
        self._progress.set(now)

    def paused(self, *, paused: bool) -> None:
        """Reading was paused, or resumed."""
        self._paused.set(paused)

    def stage_ran(self, stage: str, seconds: float) -> None:
        """One call of a stage took this long, in seconds."""
        self._stages.labels(stage).observe(seconds)

    def tokenized(self, items: Iterable[Encoded]) -> None:
        """Texts were tokenized."""
        cut = sum([item.truncated for item in items])
        if cut:
            self._truncated.inc(cut)

    def batch_taken(self, batch: MicroBatch, *, tokens: int, now: float) -> None:
        """A micro-batch was formed.

        Args:
            batch: It.
            tokens: For how many tokens the model computes, padding included.
            now: Seconds of `awake.now`.
        """
        real = sum([len(item.tokens) for item in batch.items])
        self._flushes.labels(batch.flushed).inc()
        self._batch_records.observe(len(batch.items))
        self._batch_tokens.observe(tokens)
        self._tokens.labels("real").inc(real)
        self._tokens.labels("padding").inc(tokens - real)
        oldest = min([item.document.record.fetched for item in batch.items])
        self._batch_wait.observe(max(0.0, now - oldest))

    def model_ran(self, seconds: float) -> None:
        """The model ran a batch for this long, in seconds."""
        self._busy.inc(seconds)
        self._stages.labels("model").observe(seconds)

    def inference_failed(self, kind: str) -> None:
        """A model call failed."""
        self._inference_errors.labels(kind).inc()

    def device_memory(self, kinds: Mapping[str, int]) -> None:
        """Bytes of GPU memory by kind."""
        for kind, size in kinds.items():
            self._memory.labels(kind).set(size)

    def device_read(self, uuid: str, reading: Reading) -> None:
        """What the GPU's driver says now. What it does not say has no series."""
        for instrument, value in (
            (self._memory_used, reading.memory_used),
            (self._memory_capacity, reading.memory_capacity),
            (self._utilization, reading.utilization),
            (self._temperature, reading.temperature),
            (self._power, reading.power),
        ):
            if value is None:
                instrument.clear()
            else:
                instrument.labels(uuid).set(value)
        if not reading.throttled:
            self._throttled.clear()
        for reason, holds in reading.throttled.items():
            self._throttled.labels(uuid, reason).set(holds)

    def send_failed(self, error: str) -> None:
        """A send failed, with the error's name."""
        self._produce_errors.labels(error).inc()

    def outputs_acknowledged(self, outputs: list[Output], *, now: float, wall: float) -> None:
        """The broker acknowledged these outputs; `now` is of `awake.now`, `wall` is Unix time."""
        self._progress.set(wall)
        # To find a series costs as much as to count: once for each series, not for each output.
        counted = collections.Counter
        for topic, count in counted([output.topic for output in outputs]).items():
            self._produced.labels(topic).inc(count)
        for kind, count in counted([output.kind for output in outputs]).items():
            self._processed.labels(self._topic, kind).inc(count)
        for reason, count in counted([o.reason for o in outputs if o.reason is not None]).items():
            self._dead.labels(reason).inc(count)
        for why, count in counted([o.abstained for o in outputs if o.abstained]).items():
            self._abstained.labels(why).inc(count)
        self._processing.observe(now - np.array([output.record.fetched for output in outputs]))
        self._observe_latency(wall, np.array([output.record.timestamp for output in outputs]))
        labelled = [(o.label, o.score) for o in outputs if o.label is not None]
        if labelled:
            with self._lock:
                self._labelled(labelled)

    def committed(self, outcome: str) -> None:
        """A commit ended `ok` or `failed`."""
        self._commits.labels(outcome).inc()

    def records_expired(self, count: int) -> None:
        """Retention deleted records before they were read: they have no output."""
        self._expired.labels(self._topic).inc(count)

    def rebalanced(self, event: str) -> None:
        """Partitions were `assigned`, `revoked` or `lost`."""
        self._rebalances.labels(event).inc()

    def assigned(self, count: int) -> None:
        """How many partitions this worker owns."""
        self._assigned.set(count)

    def partition_gone(self, lease: Lease) -> None:
        """The worker no longer owns the partition: its series are removed."""
        for series in (self._lag, self._lag_seconds, self._partition_progress):
            series.remove(self._topic, str(lease.partition))

    def partition_lag(self, partition: int, *, records: int, seconds: float) -> None:
        """How far a partition is behind."""
        self._lag.labels(self._topic, str(partition)).set(records)
        self._lag_seconds.labels(self._topic, str(partition)).set(max(0.0, seconds))

    def partition_progress(self, partition: int, *, at: float) -> None:
        """At Unix time `at` a record of the partition was last settled, or none was waiting."""
        self._partition_progress.labels(self._topic, str(partition)).set(at)

    def topic_partitions(self, count: int) -> None:
        """How many partitions the input topic has."""
        self._partitions.labels(self._topic).set(count)

    def broker_reachable(self, *, reachable: bool) -> None:
        """Whether the cluster answered when it was last asked."""
        self._reachable.set(reachable)

    def breaker_open(self, *, is_open: bool) -> None:
        """The breaker opened because most of the input is bad, or closed."""
        self._breaker.set(is_open)

    def hanging_transactions(self, count: int) -> None:
        """In how many partitions a transaction hangs."""
        self._hanging.set(count)

    def _labelled(self, predictions: list[tuple[str, float | None]]) -> None:
        numbers = np.array([self._number(label) for label, _ in predictions])
        for label, count in collections.Counter([label for label, _ in predictions]).items():
            self._predictions.labels(label).inc(count)
        self._scores.observe(np.array([score for _, score in predictions], dtype=float), numbers)
        self._recent = np.concatenate([self._recent, numbers])[-DRIFT_WINDOW:]
        self._measure_drift()

    def _number(self, label: str) -> int:
        """Of the label, in the order in which they were met."""
        number = self._labels.get(label)
        if number is None:
            number = self._labels[label] = len(self._labels)
            self._predictions.labels(label)
            self._scores.add_series(label)
        return number

    def _observe_latency(self, wall: float, timestamps_ms: np.ndarray) -> None:
        latencies = wall - timestamps_ms[timestamps_ms >= 0] / 1_000
        early = int((latencies < 0).sum())
        if early:
            self._skew.inc(early)
        self._latency.observe(np.maximum(latencies, 0.0))

    def _measure_drift(self) -> None:
        """Total variation distance between the recent and the trained label mix."""
        if not self._shares or len(self._recent) < DRIFT_WINDOW:
            return
        counts = np.bincount(self._recent, minlength=len(self._labels)).tolist()
        seen = dict(zip(self._labels, counts, strict=True))
        away = (abs(seen.get(of, 0) / DRIFT_WINDOW - share) for of, share in self._shares.items())
        self._drift.set(sum(away) / 2)
