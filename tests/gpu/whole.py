"""The whole worker on Apache Kafka, on one device: several processes, both guarantees.

The processes of a worker share the partitions and the device. First a backlog: messages/s, and
which part of the time the model of each process was busy. Then, with one process, half of that as a
steady load: latency from a record's timestamp to its output.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.benchmarks.steady import GUARANTEES, SETTLE_SECONDS, Stream, cuts
from tests.gpu.place import Place, card, stage
from tests.support.kafka_helpers import create_topic, wait_until
from tests.support.worker_process import WorkerProcess
from worker.demo.broker import EmbeddedKafka

PARTITIONS = 8
KEYS = 500
CASES = (1, 2, 4)
"""How many processes."""
TOPIC = "backlog"
MESSAGES = 600_000
"""Of a backlog."""
MOST = 0.8
"""Part of a backlog that is measured: at a partition's end its worker has no work."""
WINDOW = 6.0
"""Seconds of a backlog's measurement, from the moment when every process labels."""
SECONDS = 15.0


def measure(place: Place) -> dict[str, Any]:
    """Rows of backlogs and of steady loads."""
    name = "minilm" if place.tiny else "bert-base"
    checkpoint, texts = place.checkpoint(name), place.texts()
    messages = 1_500 if place.tiny else MESSAGES
    found: dict[str, Any] = {
        "card": card(place.device), "shape": name, "cores": os.cpu_count(), "backlogs": [],
        "steady": [],
    }  # fmt: skip
    with EmbeddedKafka(start_timeout=300) as kafka, tempfile.TemporaryDirectory() as folder:
        bootstrap, directory = kafka.bootstrap_servers, Path(folder)
        fill(bootstrap, texts, messages)
        for guarantee in GUARANTEES[:1] if place.tiny else GUARANTEES:
            for processes in CASES[:2] if place.tiny else CASES:
                if place.over:
                    return found
                one = {"guarantee": guarantee, "processes": processes}
                one |= backlog(
                    bootstrap, f"{guarantee}-{processes}", guarantee=guarantee,
                    processes=processes, messages=messages, checkpoint=checkpoint,
                    directory=directory, device=place.device,
                )  # fmt: skip
                found["backlogs"].append(one)
                place.keep(found)
            rate = next(
                one["messages_per_s"] for one in found["backlogs"] if one["guarantee"] == guarantee
            )
            one = {"guarantee": guarantee, "asked": rate / 2}
            one |= steady(
                bootstrap, guarantee, rate=rate / 2, checkpoint=checkpoint, directory=directory,
                texts=texts, place=place,
            )  # fmt: skip
            found["steady"].append(one)
            place.keep(found)
    return found


def backlog(
    bootstrap: str,
    name: str,
    *,
    guarantee: str,
    processes: int,
    messages: int,
    checkpoint: Path,
    directory: Path,
    device: str,
) -> dict[str, Any]:
    """Messages/s of all processes, and of each the busy share of its model."""
    for role in ("output", "dlq"):
        create_topic(bootstrap, f"{role}-{name}", PARTITIONS)
    worker = WorkerProcess(
        bootstrap=bootstrap, directory=directory, group=name, input_topic=TOPIC,
        output_topic=f"output-{name}", dlq_topic=f"dlq-{name}", delivery__guarantee=guarantee,
        kafka__replica_id="r", log__level="warning", checkpoint=checkpoint, model__device=device,
    )  # fmt: skip
    worker.environment["WORKER_PROCESSES"] = str(processes)
    labels = [{"process": str(n)} for n in range(1, processes + 1)] if processes > 1 else [{}]

    def processed(of: dict[str, str]) -> int:
        return int(worker.metric("worker_records_processed_total", **of))

    with worker.start(ready=False):
        worker.wait_ready(300)
        wait_until(lambda: all(map(processed, labels)), 120, "every process labels")
        begin, before = time.perf_counter(), [busy(worker, of) for of in labels]
        first = last = worker.processed()
        while (took := time.perf_counter() - begin) < WINDOW and last < MOST * messages:
            time.sleep(0.2)
            last = worker.processed()
        assert last > first, f"{messages} messages are too few to measure"
        shares = [(busy(worker, of) - was) / took for of, was in zip(labels, before, strict=True)]
        memory = worker.metric("worker_device_memory_bytes", kind="peak")
        resident = worker.resident_bytes()
    return {
        "messages_per_s": (last - first) / took,
        "busy": shares,
        "device_mb": memory / 1e6,
        "resident_mb": resident / 1e6,
    }


def fill(bootstrap: str, texts: list[str], messages: int) -> None:
    """Makes a topic with a backlog."""
    create_topic(bootstrap, TOPIC, PARTITIONS)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": "lz4",
            "queue.buffering.max.messages": 2 * MESSAGES,
        }
    )  # fmt: skip
    for number in range(messages):
        value = json.dumps({"text": texts[number % len(texts)], "id": number}).encode()
        producer.produce(TOPIC, value, b"user-%d" % (number % KEYS))
        if number % 1_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0, "not all of the backlog was written"


def busy(worker: WorkerProcess, of: dict[str, str]) -> float:
    """Seconds of the model's batches so far."""
    return float(worker.metric("worker_stage_duration_seconds_sum", stage="model", **of))


def steady(
    bootstrap: str,
    guarantee: str,
    *,
    rate: float,
    checkpoint: Path,
    directory: Path,
    texts: list[str],
    place: Place,
) -> dict[str, float]:
    """Latency percentiles in ms of a steady load."""
    stream = Stream(
        bootstrap, guarantee, name=f"steady-{guarantee}", checkpoint=checkpoint,
        directory=directory, texts=texts, device=place.device,
    )  # fmt: skip
    seconds = SETTLE_SECONDS + 1 if place.tiny else SECONDS
    with stream.process:
        stream.process.start()
        stream.warm()
        load = stream.steady(rate, seconds)
        latencies = stream.latencies()
    stream.outputs.close()
    first, last = load["sent"]
    first += int(rate * SETTLE_SECONDS)
    return {
        "sent_per_s": load["messages"] / seconds,
        "pass_ms": load["pass_ms"],
        **cuts(latencies[number] for number in range(first, last)),
    }


if __name__ == "__main__":
    stage(measure)
