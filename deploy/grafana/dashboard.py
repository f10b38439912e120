"""The Grafana dashboard of emotion-worker: `make dashboard` writes its JSON into the chart.

Read it row by row from the top, as at three in the morning: each row answers a question.

    Overview       is it healthy, does it keep up, how far behind is it, what share fails?
    Pipeline       where is the bottleneck?
    Latency        how long does a record take, and is it the worker's doing?
    GPU            is the model's device used, and does it have what it needs?
    Kafka          which partition, which worker, which broker call?
    Model quality  what does the model say, how sure is it, is it still the same world?
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units

from deploy.grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    GROUP,
    RED,
    SCOPE,
    SOURCE,
    TOPIC,
    YELLOW,
    Query,
    heat,
    increase,
    labels_of,
    lines,
    number,
    quantile,
    quantiles,
    rate,
    series,
    share,
    states,
)

OUTPUT = Path(__file__).parents[1] / "helm" / "emotion-worker" / "files" / "dashboard.json"
DOCUMENTS = "https://github.com/emotion-stream/emotion-stream/blob/main"
RUNBOOKS = f"{DOCUMENTS}/deploy/runbooks.md"
WIDTH = 24

LAG = f"max by (topic, partition) ({series('consumer_lag_records')})"
STANDSTILL = (
    f"time() - {series('partition_progress_timestamp_seconds')}",
    f"time() - ({series('last_progress_timestamp_seconds')} > 0)",
)
WHOLE = 'process=~"|supervisor"'
"""Of a worker with several processes, the one whose end is the worker's."""
DEAD = f"sum({rate('records_processed_total', outcome='dead_letter')})"
SETTLED = f"sum({rate('records_processed_total')})"
BACKLOG = f"group:worker_backlog_seconds:rate5m{{{GROUP}, {TOPIC}}}"
PADDING = f"sum({rate('tokens_total', kind='padding')})"
BUSY = rate("model_busy_seconds_total")
UNSURE = rate("prediction_score_bucket", le="0.5")
SERVED = series("model_info", 'version!=""')


# Rows -----------------------------------------------------------------------------------------

Line = tuple[int, list[tuple[int, Any]]]
"""Height, and the panels with their widths."""


def overview() -> list[Line]:
    """Is it healthy, does it keep up, how far behind is it, what share fails?"""
    numbers = [
        number(
            "Workers up",
            """Targets that answer Prometheus, and all that it knows, in the whole namespace and
            job: a worker that never answered cannot be chosen above. Alert
            EmotionWorkerTargetDown.""",
            units.Short,
            Query(f"sum(up{{{GROUP}}})", "up"),
            Query(f"count(up{{{GROUP}}})", "known"),
            bad_below=1,
            quiet="no target",
        ),
        number(
            "Partitions without an owner",
            """Partitions of the input topics that no worker owns: nobody labels their records.
            Normal for a moment in a rebalance; else alert EmotionWorkerGroupLagNoConsumers.""",
            units.Short,
            Query(
                f"clamp_min(sum(max by (namespace, release, topic) ({series('topic_partitions')}))"
                f" - sum({series('assigned_partitions')}), 0)"
            ),
            limits=(1, 1),
        ),
        number(
            "Records per second",
            "Settled records: the broker has acknowledged their label, dead letter or tombstone.",
            units.RecordsPerSecond,
            Query(SETTLED),
        ),
        number(
            "Backlog",
            """Time that the lag of the slowest group takes at the pace of the last five minutes,
            without records in flight. Infinite: records wait and none is settled. Alert
            EmotionWorkerBacklogDrainSlow.""",
            units.Seconds,
            Query(
                f"max(({BACKLOG} >= 0) or"
                f" 0 * group:worker_consumer_lag_records:sum{{{GROUP}, {TOPIC}}})"
            ),
            limits=(60, 300),
        ),
        number(
            "Oldest record without a label",
            """Age of the oldest record that has no output yet, by its own timestamp. A replay of
            old records makes it huge; that is normal.""",
            units.Seconds,
            Query(f"max({series('consumer_lag_seconds')})"),
        ),
        number(
            "Dead letters",
            """Share of the records that became dead letters. Alerts
            EmotionWorkerDeadLetterRatioHigh and EmotionWorkerDeadLetterBudgetBurn.""",
            units.PercentUnit,
            Query(share(DEAD, SETTLED)),
            limits=(0.01, 0.05),
        ),
    ]
    checks = [
        number(
            "Longest standstill",
            """Time since a record was last settled, or the worker last knew that none was waiting,
            in the worst partition or worker. Alert EmotionWorkerStalled.""",
            units.Seconds,
            Query(f"max({STANDSTILL[0]} or {STANDSTILL[1]})"),
            limits=(60, 180),
        ),
        number(
            "Restarts",
            """Restarts of workers under the same name, in the time shown. Alert
            EmotionWorkerTargetDown. Of a worker with several processes, those of its supervisor;
            for the others, see *Processes* (Pipeline).""",
            units.Short,
            Query(
                f"sum(changes(process_start_time_seconds{{{SCOPE}, {WHOLE}}}[$__range]))",
                now=True,
            ),
            limits=(1, 3),
        ),
        number(
            "Workers without a broker",
            """Workers whose last question no broker answered, or that still wait for their
            first answer. They pause, and lose nothing.""",
            units.Short,
            Query(
                "count(count by (namespace, release, instance)"
                f" ({series('broker_reachable')} == 0)) or vector(0)"
            ),
            limits=(1, 1),
        ),
        number(
            "Breakers open",
            """Workers that read almost nothing, since most input was bad. Alert
            EmotionWorkerBreakerOpen.""",
            units.Short,
            Query(f"sum(max by (namespace, release, instance) ({series('breaker_open')}))"),
            limits=(1, 1),
        ),
        number(
            "Hanging transactions",
            """Partitions of the input, output or dead-letter topic whose read_committed readers
            wait for a transaction that never ends. Alert EmotionWorkerHangingTransaction.""",
            units.Short,
            Query(f"max({series('hanging_transactions')})"),
            limits=(1, 1),
        ),
        number(
            "Expired records",
            """Records that retention deleted before they were read, in the time shown: they are
            lost. Alert EmotionWorkerRecordsExpired.""",
            units.Short,
            Query(f"sum(increase({series('records_expired_total')}[$__range]))", now=True),
            limits=(1, 1),
        ),
    ]
    arriving = (
        f"clamp_min({SETTLED} + sum(deriv({series('consumer_lag_records')}[$__rate_interval])), 0)"
    )
    return [
        (4, [(4, panel) for panel in numbers]),
        (4, [(4, panel) for panel in checks]),
        (8, [
            (12, lines(
                "Arriving and settled",
                """Does the group keep up? Records that arrive (settled ones plus the growth of the
                lag), records that workers read, and records settled, by outcome.""",
                units.RecordsPerSecond,
                Query(arriving, "arriving"),
                Query(f"sum({rate('records_consumed_total')})", "read"),
                Query(f"sum by (outcome) ({rate('records_processed_total')})", "{{outcome}}"),
                colours={"dead_letter": RED, "labelled": GREEN, "tombstone": GREY},
            )),
            (12, lines(
                "Lag",
                "Records between the settled offset and the end, all partitions together.",
                units.Short,
                Query(f"sum by (topic) ({LAG})", "{{topic}}"),
                Query(f"sum({series('in_flight_records')})", "of it in flight"),
            )),
        ]),
        (7, [
            (12, lines(
                "Dead letters by reason",
                "Records that cannot be labelled, by what is wrong with them. Each reason: "
                f"[worker/README.md]({DOCUMENTS}/worker/README.md#dead-letter). "
                "Alert EmotionWorkerOutputsRefused.",
                units.RecordsPerSecond,
                Query(f"sum by (reason) ({rate('dead_letters_total')}) > 0", "{{reason}}"),
                stacked=True,
            )),
            (12, states(
                "Firing alerts",
                "Alerts that fire now or fired in the time shown. Their runbooks are linked above.",
                Query(
                    f'max by (alertname, severity) (ALERTS{{alertstate="firing", {GROUP}}})',
                    "{{alertname}} ({{severity}})",
                ),
                colours={"/critical/": RED, "/warning/": YELLOW},
            )),
        ]),
    ]  # fmt: skip


def pipeline() -> list[Line]:
    """Where is the bottleneck?"""
    lengths = "The colour shows how many batches had that size."
    return [
        (8, [
            (8, lines(
                "How busy each stage is",
                """Share of the time that a stage works, mean of the workers. Decode, tokenize with
                stage, model and publish have a thread each: the one near 100 % is the bottleneck.
                If none is, the worker waits for records or for acknowledgements.""",
                units.PercentUnit,
                Query(f"avg by (stage) ({rate('stage_duration_seconds_sum')})", "{{stage}}"),
            )),
            (8, lines(
                "Time of a stage",
                "95th percentile of one call. Decode and publish take many records in a call.",
                units.Seconds,
                Query(quantile(0.95, "stage_duration_seconds", "stage"), "{{stage}}"),
            )),
            (8, lines(
                "In flight",
                """Records that a worker has read and not settled. At the limit (batch.in_flight)
                the worker pauses: a later stage is the bottleneck. Near 0, its input is. Each of
                several processes has the limit for itself.""",
                units.Short,
                Query(f"sum by (instance) ({series('in_flight_records')})", "{{instance}}"),
                stacked=True,
            )),
        ]),
        (8, [
            (8, heat("Records of a batch", lengths, units.Short, "batch_records")),
            (8, heat(
                "Tokens of a batch", f"With padding. {lengths}", units.Short, "batch_tokens"
            )),
            (8, lines(
                "Wait for a batch",
                """Time from the read of a batch's oldest record until the batch was complete. Above
                batch.max_wait the record waited for the model.""",
                units.Seconds,
                *quantiles("batch_wait_seconds"),
            )),
        ]),
        (8, [
            (8, lines(
                "Why batches leave",
                """full: enough records or tokens, as under load. idle: the model had nothing to
                do. age: batch.max_wait had passed. drain: the worker shuts down.""",
                units.OpsPerSecond,
                Query(f"sum by (reason) ({rate('batch_flush_total')})", "{{reason}}"),
                stacked=True,
            )),
            (8, lines(
                "Tokens",
                "Tokens through the model. Padding costs as much as real tokens and gives nothing.",
                units.Short,
                Query(f"sum by (kind) ({rate('tokens_total')})", "{{kind}} per second"),
                stacked=True,
            )),
            (8, lines(
                "Padding and cut texts",
                """Share of padding among the tokens, and share of texts that were truncated to the
                model's maximum length: the model has not seen their end.""",
                units.PercentUnit,
                Query(share(PADDING, f"sum({rate('tokens_total')})"), "padding"),
                Query(
                    share(
                        f"sum({rate('truncated_records_total')})",
                        f"sum({rate('batch_records_sum')})",
                    ),
                    "cut texts",
                ),
            )),
        ]),
        (7, [
            (12, lines(
                "Processes",
                """Of workers with several processes (WORKER_PROCESSES): how many there are to be,
                and how many answer. One that does not is started again; the others go on.""",
                units.Short,
                Query(f"sum by (instance) ({series('processes')})", "{{instance}} wanted"),
                Query(f"sum by (instance) ({series('process_up')})", "{{instance}} answer"),
                quiet="one process each",
            )),
            (12, lines(
                "Restarts of processes",
                """Ends of a process that nobody asked for, in a step of the graph, or in four
                scrapes. Its supervisor starts it again. Alert EmotionWorkerProcessRestarts.""",
                units.Short,
                Query(
                    f"sum by (instance, process) ({increase('process_restarts_total')})",
                    "{{instance}} process {{process}}",
                ),
                bars=True,
                stacked=True,
                quiet="one process each",
            )),
        ]),
    ]  # fmt: skip


def latency() -> list[Line]:
    """How long does a record take, and is it the worker's doing?"""
    return [
        (8, [
            (12, lines(
                "Time in the worker",
                """From a record's read to its acknowledged output, whatever its age: the worker's
                own part. With a backlog the pipeline is full, and this is the time to get through
                it. Alert EmotionWorkerLatencyP99High, at the line, while the backlog is below a
                minute, and EmotionWorkerLatencyBudgetBurn for hours of it.""",
                units.Seconds,
                *quantiles("processing_latency_seconds"),
                limit=5,
            )),
            (12, heat(
                "Time in the worker, all records",
                "The colour shows how many records took that long.",
                units.Seconds,
                "processing_latency_seconds",
            )),
        ]),
        (8, [
            (12, lines(
                "From event to label",
                """From a record's own timestamp to its acknowledged output: what a reader of the
                labels sees. Lag and replays are part of it. Values end at 15 minutes.""",
                units.Seconds,
                *quantiles("record_latency_seconds"),
            )),
            (12, heat(
                "From event to label, all records",
                "The colour shows how many records took that long.",
                units.Seconds,
                "record_latency_seconds",
            )),
        ]),
        (7, [
            (12, lines(
                "99th percentile by worker",
                "Time in the worker. If one is above the others: a slow node, or another model.",
                units.Seconds,
                Query(quantile(0.99, "processing_latency_seconds", "instance"), "{{instance}}"),
            )),
            (12, lines(
                "Records from the future",
                """Records whose timestamp is later than the worker's clock; their latency counts
                as 0. A producer's or a node's clock is wrong.""",
                units.RecordsPerSecond,
                Query(f"sum by (instance) ({rate('clock_skew_records_total')})", "{{instance}}"),
            )),
        ]),
    ]  # fmt: skip


def gpu() -> list[Line]:
    """Is the model's device used, and does it have what it needs?"""
    return [
        (8, [
            (8, lines(
                "Model busy",
                """Share of the time that the model runs, on a GPU or a CPU. Low with a backlog:
                something else is the bottleneck (alert EmotionWorkerGpuIdleWithBacklog). Low
                without one: there is room for more records. Of several processes the sum, which is
                above 100 % while their models run at the same time.""",
                units.PercentUnit,
                Query(f"sum by (instance) ({BUSY})", "{{instance}}"),
                limit=0.5,
            )),
            (8, lines(
                "GPU memory",
                """GPU memory of a worker, all its processes: allocated by tensors, reserved by
                torch, and the most that was ever allocated. Empty on a CPU.""",
                units.BytesIEC,
                Query(
                    f"sum by (instance, kind) ({series('device_memory_bytes')})",
                    "{{instance}} {{kind}}",
                ),
                quiet="no GPU",
            )),
            (8, lines(
                "Failed calls of the model",
                """In a step of the graph, or in four scrapes. oom: no memory, the worker halves the
                batch (alert EmotionWorkerOutOfMemory); device: the GPU is lost, the worker ends
                (alert EmotionWorkerDeviceLost); other: mostly a record that makes the model
                fail.""",
                units.Short,
                Query(f"sum by (kind) ({increase('inference_errors_total')})", "{{kind}}"),
                bars=True,
                stacked=True,
            )),
        ]),
        (8, [
            (6, lines(
                "Records in a second of the model",
                """Records per second while the model runs: what the device can do with these texts.
                Multiplied by *Model busy*, it is the throughput.""",
                units.RecordsPerSecond,
                Query(
                    f"sum by (instance) ({rate('batch_records_sum')})"
                    f" / (sum by (instance) ({BUSY}) > 0)",
                    "{{instance}}",
                ),
            )),
            (6, lines(
                "Tokens in a second of the model",
                "The same in tokens, padding included: it does not depend on the texts' length.",
                units.Short,
                Query(
                    f"sum by (instance) ({rate('tokens_total')})"
                    f" / (sum by (instance) ({BUSY}) > 0)",
                    "{{instance}}",
                ),
            )),
            (12, labels_of(
                "What runs where",
                """Model, device, precision, driver and program of each worker, or of each of its
                processes.""",
                Query(
                    f"{series('model_info')}"
                    " * on (namespace, job, instance, process) group_left (program)"
                    f' label_replace({series("build_info")}, "program", "$1", "version", "(.*)")',
                    now=True,
                ),
                "instance", "process", "name", "version", "device", "dtype", "rows", "device_name",
                "driver", "cuda", "program",
            )),
        ]),
        *card(),
    ]  # fmt: skip


def card() -> list[Line]:
    """What the driver says of the GPU, by NVML: of the card, whoever uses it."""
    unseen = "no GPU, or no NVML"
    return [
        (8, [
            (8, lines(
                "Utilization of the GPU",
                """Share of the time in which any kernel ran, of any process. One small kernel after
                the other is 100 %: *Records in a second of the model* says what comes of it. Not
                known of a MIG instance.""",
                units.PercentUnit,
                Query(f"max by (instance) ({series('device_utilization_ratio')})", "{{instance}}"),
                most=1,
                quiet=unseen,
            )),
            (8, lines(
                "Memory of the card",
                """In use by all processes, and what there is, of the card or of the MIG instance.
                Far above *GPU memory*: others use the card.""",
                units.BytesIEC,
                Query(
                    f"max by (instance) ({series('device_memory_used_bytes')})",
                    "{{instance}} used",
                ),
                Query(
                    f"max by (instance) ({series('device_memory_capacity_bytes')})",
                    "{{instance}} capacity",
                ),
                quiet=unseen,
            )),
            (8, states(
                "Clock held down",
                """Why the GPU runs below the clock that it could have. power_cap is normal under
                load. Heat, the power brake of the machine and slowdowns by the hardware are not
                (alert EmotionWorkerGpuThrottled).""",
                Query(
                    f"max by (instance, reason) ({series('device_throttled')})",
                    "{{instance}} {{reason}}",
                ),
                colours={"/power_cap/": YELLOW, "/thermal|power_brake|slowdown/": RED},
                quiet=unseen,
            )),
        ]),
        (6, [
            (12, lines(
                "Temperature of the GPU",
                "Where it slows down is the card's own: nvidia-smi -q -d TEMPERATURE.",
                units.Celsius,
                Query(
                    f"max by (instance) ({series('device_temperature_celsius')})", "{{instance}}"
                ),
                quiet=unseen,
            )),
            (12, lines(
                "Power of the card",
                "What it draws. Under load it stays near its limit, if the model keeps it busy.",
                units.Watt,
                Query(f"max by (instance) ({series('device_power_watts')})", "{{instance}}"),
                quiet=unseen,
            )),
        ]),
    ]  # fmt: skip


def kafka() -> list[Line]:
    """Which partition, which worker, which call of the broker?"""
    by_partition = "{{topic}}/{{partition}}"
    return [
        (8, [
            (12, lines(
                "Lag by partition",
                """Records between the settled offset and the end. If one partition is above the
                others, its key is hot, or its worker is stalled.""",
                units.Short,
                Query(LAG, by_partition),
            )),
            (12, lines(
                "Age of the oldest record by partition",
                "Age of the oldest record without an output, by its timestamp; 0 if none waits.",
                units.Seconds,
                Query(
                    f"max by (topic, partition) ({series('consumer_lag_seconds')})", by_partition
                ),
            )),
        ]),
        (8, [
            (8, lines(
                "Standstill by partition",
                """Time since a record of the partition was last settled, or its worker last knew
                that none was waiting. Alert EmotionWorkerStalled, at the line.""",
                units.Seconds,
                Query(f"min by (topic, partition) ({STANDSTILL[0]})", by_partition),
                limit=180,
            )),
            (8, lines(
                "Partitions by worker",
                "Partitions that a worker owns. With more workers than partitions, some own none.",
                units.Short,
                Query(f"sum by (instance) ({series('assigned_partitions')})", "{{instance}}"),
                stacked=True,
            )),
            (8, lines(
                "Rebalances",
                """How often partitions were assigned to workers and taken from them, in a step of
                the graph, or in four scrapes. lost: another worker already owned them. Alert
                EmotionWorkerRebalanceStorm.""",
                units.Short,
                Query(f"sum by (event) ({increase('rebalances_total')})", "{{event}}"),
                bars=True,
                stacked=True,
                colours={"assigned": GREEN, "revoked": YELLOW, "lost": RED},
            )),
        ]),
        (8, [
            (8, lines(
                "Commits",
                """Offset commits, or transactions in exactly-once mode. In at-least-once mode a
                failed commit may duplicate what was settled since the last; else nothing.""",
                units.OpsPerSecond,
                Query(f"sum by (outcome) ({rate('commits_total')})", "{{outcome}}"),
                colours={"ok": GREEN, "failed": RED},
            )),
            (8, lines(
                "Failed sends",
                """Failed sends by Kafka's error, in a step of the graph, or in four scrapes. A
                refused record becomes a dead letter, the others are sent again.""",
                units.Short,
                Query(f"sum by (code) ({increase('produce_errors_total')})", "{{code}}"),
                bars=True,
                stacked=True,
                quiet="none",
            )),
            (8, lines(
                "Written by topic",
                "Acknowledged records by topic: labels and tombstones, and dead letters.",
                units.RecordsPerSecond,
                Query(f"sum by (topic) ({rate('records_produced_total')})", "{{topic}}"),
            )),
        ]),
        (8, [
            (24, states(
                "What holds workers up",
                """no broker: none answers. breaker open: most of the input was bad. paused: one of
                these two, or the limit of records in flight is reached. Short pauses are normal
                for a full pipeline.""",
                Query(f"1 - max by (instance) ({series('broker_reachable')})",
                      "{{instance}} no broker"),
                Query(f"max by (instance) ({series('breaker_open')})", "{{instance}} breaker open"),
                Query(f"max by (instance) ({series('consumer_paused')})", "{{instance}} paused"),
                colours={"/no broker$/": RED, "/breaker open$/": RED, "/paused$/": YELLOW},
            )),
        ]),
    ]  # fmt: skip


def quality() -> list[Line]:
    """What does the model say, how sure is it, is it still the same world?"""
    labels = "{{label}}"
    return [
        (8, [
            (8, lines(
                "Mix of labels",
                "Share of each label among the labels that the model gave.",
                units.PercentUnit,
                Query(
                    f"sum by (label) ({rate('predictions_total')})"
                    f" / on () group_left () (sum({rate('predictions_total')}) > 0)",
                    labels,
                ),
                stacked=True,
                most=1,
            )),
            (8, lines(
                "Drift",
                """Distance (0 to 1) of the last 1,000 labels of each worker from the mix of the
                training data; 0 until there are as many, or if the checkpoint has no mix. Alert
                EmotionWorkerPredictionDrift, when the group's mean is at the line.""",
                units.PercentUnit,
                Query(f"max by (instance) ({series('prediction_drift')})", "{{instance}}"),
                limit=0.2,
            )),
            (8, lines(
                "Abstained",
                """Share of the labels on which the workers abstained, by reason: the first sign
                that the stream is not what the model was trained for. Empty without model.abstain.
                Alert EmotionWorkerAbstainedRatioHigh, when both together are above the line.""",
                units.PercentUnit,
                Query(
                    f"sum by (reason) ({rate('abstained_total')})"
                    f" / on () group_left () (sum({rate('predictions_total')}) > 0)",
                    "{{reason}}",
                ),
                limit=0.5,
                stacked=True,
                most=1,
            )),
        ]),
        (8, [
            (8, lines(
                "Mean score by label",
                """How sure the model is of the labels that it gives. If one falls, look at its
                texts.""",
                units.PercentUnit,
                Query(
                    f"sum by (label) ({rate('prediction_score_sum')})"
                    f" / (sum by (label) ({rate('prediction_score_count')}) > 0)",
                    labels,
                ),
                most=1,
            )),
            (8, heat(
                "Scores, all labels",
                "The colour shows how many labels had that score.",
                units.PercentUnit,
                "prediction_score",
            )),
            (8, lines(
                "Unsure labels",
                "Share of the labels that have a score of at most 0.5.",
                units.PercentUnit,
                Query(
                    f"sum by (label) ({UNSURE})"
                    f" / (sum by (label) ({rate('prediction_score_count')}) > 0)",
                    labels,
                ),
                most=1,
            )),
        ]),
        (7, [
            (12, lines(
                "Labels per second",
                "Labels by kind. A wave of one of them comes from the world, or from one producer.",
                units.RecordsPerSecond,
                Query(f"sum by (label) ({rate('predictions_total')})", labels),
            )),
            (12, lines(
                "Workers by model",
                """How many workers serve which version of the model. Two at once: an upgrade under
                way, or alert EmotionWorkerMixedModels.""",
                units.Short,
                Query(
                    "count by (name, version)"
                    f" (count by (namespace, release, instance, name, version) ({SERVED}))",
                    "{{name}} {{version}}",
                ),
                stacked=True,
            )),
        ]),
    ]  # fmt: skip


ROWS = {
    "Overview": overview,
    "Pipeline": pipeline,
    "Latency": latency,
    "GPU": gpu,
    "Kafka": kafka,
    "Model quality": quality,
}


# The whole ------------------------------------------------------------------------------------


def variables() -> list[Any]:
    """What the reader of the dashboard can choose."""
    source = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    usual = model.VariableOption(selected=True, text="emotion-worker", value="emotion-worker")
    # No ".*" for all instances: these are then the ones that read the chosen topics.
    return [
        source,
        _chosen("namespace", "Namespace", "worker_build_info", everything).all_value(".*"),
        _chosen("job", "Job", 'worker_build_info{namespace=~"$namespace"}', usual)
        .multi(False)
        .include_all(False),
        _chosen(
            "release",
            "Release",
            'worker_build_info{namespace=~"$namespace", job=~"$job"}',
            everything,
        ).all_value(".*"),
        _chosen(
            "instance", "Worker", f"worker_records_consumed_total{{{GROUP}, {TOPIC}}}", everything
        ),
        _chosen(
            "topic", "Input topic", f"worker_records_consumed_total{{{GROUP}}}", everything
        ).all_value(".*"),
    ]


def _chosen(name: str, label: str, of: str, current: model.VariableOption) -> build.QueryVariable:
    query = {"qryType": 1, "query": f"label_values({of}, {name})", "refId": f"variable-{name}"}
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .current(current)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
    )


def deployments() -> dict[str, tuple[str, str]]:
    """Annotations by name: title, and the query whose series begin with a deployment."""

    def born(labels: str, info: str) -> str:
        now = f"count by ({labels}) ({info})"
        before = f"count by ({labels}) (last_over_time({info}[5m] offset 1m))"
        return f"{now} unless {before}"

    return {
        "Model deployed": (
            "{{name}} {{version}}",
            born("namespace, release, name, version", SERVED),
        ),
        "Program deployed": (
            "emotion-stream {{version}}",
            born("namespace, release, version", series("build_info")),
        ),
    }


def made() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    board = (
        build.Dashboard("emotion-worker")
        .uid("emotion-worker")
        .description(
            "Labels texts from Kafka. Choosing an input topic chooses its workers. Workers that "
            "never read a topic are in 'Workers up' only."
        )
        .tags(["emotion-stream", "kafka", "inference"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(variables())
        .link(
            build.DashboardLink("Runbooks")
            .type(model.DashboardLinkType.LINK)
            .icon("doc")
            .url(RUNBOOKS)
            .target_blank(True)
            .tooltip("What each alert means and what to do")
        )
    )
    colours = iter((BLUE, "purple"))
    for name, (_, expr) in deployments().items():
        note = build.AnnotationQuery().name(name).datasource(SOURCE).expr(expr)
        board.annotation(note.icon_color(next(colours)).enable(True).hide(False))
    identity = iter(range(1, 1_000))
    top = 0
    for title, rows in ROWS.items():
        place = model.GridPos(h=1, w=WIDTH, x=0, y=top)
        board.with_row(build.Row(title).id(next(identity)).grid_pos(place))
        top += 1
        for height, panels in rows():
            left = 0
            for width, panel in panels:
                panel.id(next(identity)).grid_pos(model.GridPos(h=height, w=width, x=left, y=top))
                board.with_panel(panel)
                left += width
            top += height
    return _completed(json.loads(JSONEncoder().encode(board.build())))


def _completed(board: dict[str, Any]) -> dict[str, Any]:
    """Adds the fields of an annotation that Grafana reads and the builders do not know."""
    for note in board["annotations"]["list"]:
        title, _ = deployments()[note["name"]]
        note |= {
            "titleFormat": title,
            "textFormat": note["name"],
            "tagKeys": "release",
            "step": "60s",
        }
    return board


def text() -> str:
    """The file's content."""
    return json.dumps(made(), indent=2) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text(), encoding="utf-8")
