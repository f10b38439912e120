"""What is counted, by which names, and from when on."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.fakes import encoded, record
from worker.errors import REASONS
from worker.gpu import Gpu, Reading
from worker.metrics import DRIFT_WINDOW, Buckets, Metrics
from worker.records import ABSTAIN_REASONS, Lease, MicroBatch, Output
from worker.settings import MetricsSettings

LABELS = ("sadness", "joy", "love")
WALL = 1_700_000_000.0

NAMES = {
    "worker_abstained_total": "counter",
    "worker_assigned_partitions": "gauge",
    "worker_batch_flush_total": "counter",
    "worker_batch_records": "histogram",
    "worker_batch_tokens": "histogram",
    "worker_batch_wait_seconds": "histogram",
    "worker_breaker_open": "gauge",
    "worker_broker_reachable": "gauge",
    "worker_build_info": "info",
    "worker_clock_skew_records_total": "counter",
    "worker_commits_total": "counter",
    "worker_consumer_lag_records": "gauge",
    "worker_consumer_lag_seconds": "gauge",
    "worker_consumer_paused": "gauge",
    "worker_dead_letters_total": "counter",
    "worker_device_memory_bytes": "gauge",
    "worker_device_memory_capacity_bytes": "gauge",
    "worker_device_memory_used_bytes": "gauge",
    "worker_device_power_watts": "gauge",
    "worker_device_temperature_celsius": "gauge",
    "worker_device_throttled": "gauge",
    "worker_device_utilization_ratio": "gauge",
    "worker_hanging_transactions": "gauge",
    "worker_in_flight_records": "gauge",
    "worker_inference_errors_total": "counter",
    "worker_last_progress_timestamp_seconds": "gauge",
    "worker_model_busy_seconds_total": "counter",
    "worker_model_info": "info",
    "worker_partition_progress_timestamp_seconds": "gauge",
    "worker_prediction_drift": "gauge",
    "worker_prediction_score": "histogram",
    "worker_predictions_total": "counter",
    "worker_processing_latency_seconds": "histogram",
    "worker_produce_errors_total": "counter",
    "worker_rebalances_total": "counter",
    "worker_records_expired_total": "counter",
    "worker_record_latency_seconds": "histogram",
    "worker_records_consumed_total": "counter",
    "worker_records_processed_total": "counter",
    "worker_records_produced_total": "counter",
    "worker_stage_duration_seconds": "histogram",
    "worker_tokens_total": "counter",
    "worker_topic_partitions": "gauge",
    "worker_truncated_records_total": "counter",
}


def test_the_bounds_of_the_latencies_are_those_that_are_given_and_else_those_of_the_settings():
    assert Buckets() == Buckets(
        processing=MetricsSettings().processing_bounds, record=MetricsSettings().record_bounds
    )
    registry = CollectorRegistry()
    Metrics(
        input_topic="i", output_topic="o", dlq_topic="d", version="0", registry=registry,
        buckets=Buckets(processing=(0.5, 2.0), record=(1.0,)),
    )  # fmt: skip
    found = {
        (sample.name, sample.labels["le"])
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name.endswith("latency_seconds_bucket")
    }
    assert found == {
        *(("worker_processing_latency_seconds_bucket", le) for le in ("0.5", "2.0", "+Inf")),
        *(("worker_record_latency_seconds_bucket", le) for le in ("1.0", "+Inf")),
    }


class Counted:
    """Metrics of one test, and what a scrape of them shows."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            input_topic="tweets",
            output_topic="emotions",
            dlq_topic="tweets.dlq",
            version="0.1.0",
            registry=self.registry,
        )

    def load_model(self, shares=None, gpu=None, *, abstains=False):
        self.metrics.model_loaded(
            name="m", version="v", labels=LABELS, device="cpu", dtype="float32", rows="padded",
            shares=shares, abstains=abstains, gpu=gpu,
        )  # fmt: skip

    def value(self, name, /, **labels):
        return self.registry.get_sample_value(f"worker_{name}", labels)

    def series(self, name):
        """Label sets of every series with this name, as sets of values."""
        return {
            tuple(sample.labels.values())
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == f"worker_{name}"
        }


@pytest.fixture
def counted():
    return Counted()


def output(offset=0, *, kind="labelled", topic="emotions", timestamp=None, **kwargs):
    timestamp = WALL * 1_000 if timestamp is None else timestamp
    return Output(
        record=record(offset, timestamp=timestamp),
        kind=kind,
        topic=topic,
        partition=None,
        key=None,
        value=None,
        headers=[],
        timestamp=None,
        **kwargs,
    )


def labelled(label="joy", score=0.9, **kwargs):
    return output(label=label, score=score, **kwargs)


def acknowledge(counted, *outputs, now=0.0, wall=WALL):
    counted.metrics.outputs_acknowledged(list(outputs), now=now, wall=wall)


def test_the_names_and_kinds_are_these(counted):
    suffix = {"counter": "_total", "info": "_info"}
    found = {
        family.name + suffix.get(family.type, ""): family.type
        for family in counted.registry.collect()
    }
    assert found == NAMES


def test_every_name_has_the_prefix_a_base_unit_and_help(counted):
    for family in counted.registry.collect():
        assert family.name.startswith("worker_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_milliseconds", "_minutes", "_kb", "_mb"))


def test_a_scrape_can_be_parsed(counted):
    counted.load_model()
    text = generate_latest(counted.registry).decode()
    parsed = {family.name for family in text_string_to_metric_families(text)}
    assert {"worker_dead_letters", "worker_batch_records", "worker_model_info"} <= parsed


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("records_consumed_total", {("tweets",)}),
        ("records_produced_total", {("emotions",), ("tweets.dlq",)}),
        (
            "records_processed_total",
            {("tweets", kind) for kind in ("labelled", "tombstone", "dead_letter")},
        ),
        ("dead_letters_total", {(reason,) for reason in REASONS}),
        ("commits_total", {("ok",), ("failed",)}),
        ("rebalances_total", {("assigned",), ("revoked",), ("lost",)}),
        ("batch_flush_total", {("full",), ("idle",), ("age",), ("drain",)}),
        ("tokens_total", {("real",), ("padding",)}),
        ("inference_errors_total", {("oom",), ("device",), ("other",)}),
        ("predictions_total", {(label,) for label in LABELS}),
        ("prediction_score_count", {(label,) for label in LABELS}),
        (
            "stage_duration_seconds_count",
            {("decode",), ("tokenize",), ("stage",), ("model",), ("publish",)},
        ),
        ("clock_skew_records_total", {()}),
        ("truncated_records_total", {()}),
        ("model_busy_seconds_total", {()}),
        ("in_flight_records", {()}),
        ("consumer_paused", {()}),
        ("assigned_partitions", {()}),
        ("broker_reachable", {()}),
    ],
)
def test_every_known_label_set_is_there_at_zero_from_the_start(counted, name, series):
    counted.load_model()
    assert counted.series(name) == series
    for family in counted.registry.collect():
        for sample in family.samples:
            if sample.name == f"worker_{name}":
                assert sample.value == 0


def test_no_series_exists_for_partitions_that_were_never_owned(counted):
    assert counted.series("consumer_lag_records") == set()
    assert counted.series("consumer_lag_seconds") == set()
    assert counted.series("partition_progress_timestamp_seconds") == set()


def test_a_partition_that_is_gone_takes_its_series_with_it(counted):
    for partition in (0, 1):
        counted.metrics.partition_lag(partition, records=5, seconds=2.5)
        counted.metrics.partition_progress(partition, at=WALL)
    assert counted.value("consumer_lag_records", topic="tweets", partition="1") == 5
    assert counted.value("consumer_lag_seconds", topic="tweets", partition="1") == 2.5
    name = "partition_progress_timestamp_seconds"
    assert counted.value(name, topic="tweets", partition="1") == WALL
    counted.metrics.partition_gone(Lease(1, 7))
    assert counted.series("consumer_lag_records") == {("tweets", "0")}
    assert counted.series("consumer_lag_seconds") == {("tweets", "0")}
    assert counted.series(name) == {("tweets", "0")}


def test_a_partition_may_go_twice_or_before_it_had_a_lag(counted):
    counted.metrics.partition_lag(0, records=5, seconds=1.0)
    for lease in (Lease(0, 1), Lease(0, 1), Lease(3, 1)):
        counted.metrics.partition_gone(lease)
    assert counted.series("consumer_lag_records") == set()


def test_a_lag_in_seconds_is_never_below_zero(counted):
    counted.metrics.partition_lag(0, records=0, seconds=-3.0)
    assert counted.value("consumer_lag_seconds", topic="tweets", partition="0") == 0


def test_an_acknowledged_label_is_counted_everywhere_it_belongs(counted):
    counted.load_model()
    acknowledge(counted, labelled("joy", 0.93, timestamp=(WALL - 2) * 1_000), now=0.04)
    assert counted.value("records_produced_total", topic="emotions") == 1
    assert counted.value("records_processed_total", topic="tweets", outcome="labelled") == 1
    assert counted.value("predictions_total", label="joy") == 1
    assert counted.value("prediction_score_sum", label="joy") == pytest.approx(0.93)
    assert counted.value("record_latency_seconds_sum") == pytest.approx(2)
    assert counted.value("processing_latency_seconds_sum") == pytest.approx(0.04)
    assert counted.value("last_progress_timestamp_seconds") == WALL
    assert counted.value("clock_skew_records_total") == 0


def test_a_worker_that_may_abstain_has_each_reason_from_the_start_and_another_has_none(counted):
    counted.load_model()
    assert counted.series("abstained_total") == set()
    counted.load_model(abstains=True)
    assert counted.series("abstained_total") == {(reason,) for reason in ABSTAIN_REASONS}
    assert all(counted.value("abstained_total", reason=reason) == 0 for reason in ABSTAIN_REASONS)


def test_abstained_labels_are_counted_by_reason_and_as_labels(counted):
    counted.load_model(abstains=True)
    unsure = [labelled(abstained="low_score")] * 2 + [labelled(abstained="out_of_domain")]
    acknowledge(counted, *unsure, labelled(), output(kind="tombstone"))
    assert counted.value("abstained_total", reason="low_score") == 2
    assert counted.value("abstained_total", reason="out_of_domain") == 1
    assert counted.value("predictions_total", label="joy") == 4


def test_a_dead_letter_and_a_tombstone_are_counted_as_what_they_are(counted):
    counted.load_model()
    acknowledge(
        counted,
        output(kind="dead_letter", topic="tweets.dlq", reason="empty_text"),
        output(kind="tombstone"),
    )
    assert counted.value("dead_letters_total", reason="empty_text") == 1
    assert sum(counted.value("dead_letters_total", reason=reason) for reason in REASONS) == 1
    assert counted.value("records_produced_total", topic="tweets.dlq") == 1
    assert counted.value("records_produced_total", topic="emotions") == 1
    for outcome, count in (("dead_letter", 1), ("tombstone", 1), ("labelled", 0)):
        assert counted.value("records_processed_total", topic="tweets", outcome=outcome) == count
    assert sum(counted.value("predictions_total", label=label) for label in LABELS) == 0


def test_a_record_from_the_future_has_no_latency_and_is_counted_as_skewed(counted):
    acknowledge(counted, labelled(timestamp=(WALL + 60) * 1_000))
    assert counted.value("record_latency_seconds_count") == 1
    assert counted.value("record_latency_seconds_sum") == 0
    assert counted.value("clock_skew_records_total") == 1


def test_a_record_without_a_timestamp_has_no_latency_at_all(counted):
    acknowledge(counted, labelled(timestamp=-1))
    assert counted.value("record_latency_seconds_count") == 0
    assert counted.value("processing_latency_seconds_count") == 1
    assert counted.value("clock_skew_records_total") == 0


def test_a_batch_is_counted_by_rows_tokens_padding_and_wait(counted):
    items = tuple(encoded(i, tokens=tokens) for i, tokens in enumerate((3, 5, 8)))
    counted.metrics.batch_taken(MicroBatch(items, "age"), tokens=24, now=0.25)
    assert counted.value("batch_flush_total", reason="age") == 1
    assert counted.value("batch_records_sum") == 3
    assert counted.value("batch_tokens_sum") == 24
    assert counted.value("tokens_total", kind="real") == 16
    assert counted.value("tokens_total", kind="padding") == 8
    assert counted.value("batch_wait_seconds_sum") == 0.25


def test_texts_that_were_cut_are_counted(counted):
    whole = encoded()
    counted.metrics.tokenized([whole, whole._replace(truncated=True), whole])
    counted.metrics.tokenized([whole])
    assert counted.value("truncated_records_total") == 1


def test_a_model_that_worked_is_busy_and_a_stage(counted):
    counted.metrics.model_ran(0.5)
    counted.metrics.stage_ran("decode", 0.001)
    assert counted.value("model_busy_seconds_total") == 0.5
    assert counted.value("stage_duration_seconds_sum", stage="model") == 0.5
    assert counted.value("stage_duration_seconds_count", stage="decode") == 1


def test_waiting_for_nothing_is_progress(counted):
    counted.metrics.nothing_waits(now=WALL)
    assert counted.value("last_progress_timestamp_seconds") == WALL


def test_simple_events_reach_their_instruments(counted):
    metrics = counted.metrics
    metrics.records_consumed(3)
    metrics.records_consumed(4)
    metrics.paused(paused=True)
    metrics.committed("failed")
    metrics.rebalanced("lost")
    metrics.assigned(4)
    metrics.in_flight(5)
    metrics.topic_partitions(12)
    metrics.broker_reachable(reachable=True)
    metrics.send_failed("MessageSizeTooLargeError")
    metrics.inference_failed("oom")
    metrics.device_memory({"allocated": 5, "peak": 9})
    assert counted.value("records_consumed_total", topic="tweets") == 7
    assert counted.value("consumer_paused") == 1
    assert counted.value("commits_total", outcome="failed") == 1
    assert counted.value("rebalances_total", event="lost") == 1
    assert counted.value("assigned_partitions") == 4
    assert counted.value("in_flight_records") == 5
    assert counted.value("topic_partitions", topic="tweets") == 12
    assert counted.value("broker_reachable") == 1
    assert counted.value("produce_errors_total", code="MessageSizeTooLargeError") == 1
    assert counted.value("inference_errors_total", kind="oom") == 1
    assert counted.value("device_memory_bytes", kind="peak") == 9
    metrics.paused(paused=False)
    metrics.broker_reachable(reachable=False)
    assert counted.value("consumer_paused") == counted.value("broker_reachable") == 0


OF_THE_GPU = (
    "device_memory_used_bytes", "device_memory_capacity_bytes", "device_utilization_ratio",
    "device_temperature_celsius", "device_power_watts", "device_throttled",
)  # fmt: skip


def test_what_the_driver_says_of_the_gpu_is_shown_and_what_it_does_not_say_has_no_series(counted):
    assert not any(counted.series(name) for name in OF_THE_GPU)
    counted.metrics.device_read(
        "GPU-1",
        Reading(memory_used=5, memory_capacity=80, utilization=0.5, temperature=61.0, power=300.0,
                throttled={"power_cap": True, "thermal_hardware": False}),
    )  # fmt: skip
    values = [counted.value(name, uuid="GPU-1") for name in OF_THE_GPU[:-1]]
    assert values == [5, 80, 0.5, 61.0, 300.0]
    assert counted.value("device_throttled", uuid="GPU-1", reason="power_cap") == 1
    assert counted.value("device_throttled", uuid="GPU-1", reason="thermal_hardware") == 0
    counted.metrics.device_read("GPU-1", Reading(memory_used=6))
    assert counted.value("device_memory_used_bytes", uuid="GPU-1") == 6
    assert not any(counted.series(name) for name in OF_THE_GPU[1:])


def test_the_model_tells_on_which_gpu_and_driver_it_runs(counted):
    gpu = Gpu(uuid="GPU-1", name="NVIDIA H200", capability="9.0", cuda="13.2", driver="580.95.05")
    counted.load_model(gpu=gpu)
    assert counted.value(
        "model_info", name="m", version="v", device="cpu", dtype="float32", rows="padded",
        device_name="NVIDIA H200", driver="580.95.05", cuda="13.2",
    ) == 1  # fmt: skip


def test_the_model_and_the_program_tell_who_they_are(counted):
    counted.load_model()
    assert (
        counted.value(
            "model_info", name="m", version="v", device="cpu", dtype="float32", rows="padded"
        )
        == 1
    )
    (build,) = counted.series("build_info")
    assert "0.1.0" in build


def test_drift_is_the_distance_between_the_recent_and_the_trained_mix(counted):
    counted.load_model(shares={"sadness": 0.5, "joy": 0.5, "love": 0.0})
    acknowledge(counted, *[labelled("joy")] * (DRIFT_WINDOW - 1))
    assert counted.value("prediction_drift") == 0  # too few to tell
    acknowledge(counted, labelled("joy"))
    assert counted.value("prediction_drift") == pytest.approx(0.5)
    acknowledge(counted, *[labelled("sadness")] * (DRIFT_WINDOW // 2))
    assert counted.value("prediction_drift") == pytest.approx(0)
    acknowledge(counted, *[labelled("love")] * DRIFT_WINDOW)
    assert counted.value("prediction_drift") == pytest.approx(1)


def test_without_a_training_mix_there_is_no_drift(counted):
    counted.load_model(shares=None)
    acknowledge(counted, *[labelled("joy")] * DRIFT_WINDOW)
    assert counted.value("prediction_drift") == 0


def test_two_workers_in_one_process_do_not_share_instruments():
    first, second = Counted(), Counted()
    first.metrics.records_consumed(1)
    assert second.value("records_consumed_total", topic="tweets") == 0
