"""Baseline: kafka-python and a `transformers` pipeline, one text at a time.

The loop that most tutorials show. The consumer commits by itself every five seconds, which is the
client's default, and nothing waits for the producer.

    CONTEST_BOOTSTRAP=... python -m tests.benchmarks.contest.one_by_one
"""

import json

import transformers
from kafka import KafkaConsumer, KafkaProducer
from transformers import pipeline

from tests.benchmarks.contest.job import MAX_LENGTH, Job, answer, dumps, until_terminated


def main() -> None:
    job, stop = Job.from_environment(), until_terminated()
    transformers.utils.logging.disable_progress_bar()
    classify = pipeline("text-classification", model=job.checkpoint, device="cpu", dtype=job.dtype)
    classify("warm up")
    consumer = KafkaConsumer(
        job.input_topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        session_timeout_ms=job.session_timeout_ms,
        heartbeat_interval_ms=job.heartbeat_interval_ms,
        consumer_timeout_ms=500,
    )
    producer = KafkaProducer(bootstrap_servers=job.bootstrap)
    while not stop.is_set():
        for record in consumer:  # ends after `consumer_timeout_ms` without a record
            value = json.loads(record.value)
            best = classify(value["text"], truncation=True, max_length=MAX_LENGTH)[0]
            output = answer(
                value, topic=record.topic, partition=record.partition, offset=record.offset, **best
            )
            producer.send(job.output_topic, key=record.key, value=dumps(output))
            if stop.is_set():
                break
    producer.flush()
    consumer.close()
    producer.close()


if __name__ == "__main__":
    main()
