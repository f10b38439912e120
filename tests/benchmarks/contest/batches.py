"""Baseline: kafka-python and a `transformers` pipeline on batches, commit after flush.

At least once by the book: offsets are committed after every output of the batch is acknowledged.

    CONTEST_BOOTSTRAP=... python -m tests.benchmarks.contest.batches
"""

import json

import transformers
from kafka import KafkaConsumer, KafkaProducer
from transformers import pipeline

from tests.benchmarks.contest.job import BATCH, MAX_LENGTH, Job, answer, dumps, until_terminated


def main() -> None:
    job, stop = Job.from_environment(), until_terminated()
    transformers.utils.logging.disable_progress_bar()
    classify = pipeline("text-classification", model=job.checkpoint, device="cpu", dtype=job.dtype)
    classify(["warm up"] * BATCH, batch_size=BATCH)
    consumer = KafkaConsumer(
        job.input_topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=job.session_timeout_ms,
        heartbeat_interval_ms=job.heartbeat_interval_ms,
        max_poll_records=BATCH,
    )
    producer = KafkaProducer(bootstrap_servers=job.bootstrap)
    while not stop.is_set():
        polled = consumer.poll(timeout_ms=500)
        records = [record for some in polled.values() for record in some]
        if not records:
            continue
        values = [json.loads(record.value) for record in records]
        found = classify(
            [value["text"] for value in values],
            batch_size=BATCH, truncation=True, max_length=MAX_LENGTH,
        )  # fmt: skip
        sent = [
            producer.send(
                job.output_topic,
                key=record.key,
                value=dumps(answer(
                    value, topic=record.topic, partition=record.partition, offset=record.offset,
                    **best,
                )),
            )
            for record, value, best in zip(records, values, found, strict=True)
        ]  # fmt: skip
        producer.flush()
        for future in sent:
            future.get()  # raises where an output was refused: `flush` does not
        consumer.commit()
    consumer.close()
    producer.close()


if __name__ == "__main__":
    main()
