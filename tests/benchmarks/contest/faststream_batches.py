"""Baseline: FastStream on librdkafka, with the batching of its documents: `batch=True`.

The handler gets the list of a poll's values and publishes their labels as one batch. The default
acknowledgement (`ACK_FIRST`) commits before the handler has run; here it is after the handler, as
the documents have it for at-least-once delivery.

    CONTEST_BOOTSTRAP=... python -m tests.benchmarks.contest.faststream_batches
"""

import asyncio
import logging
from typing import Any

import transformers
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage, KafkaPublishMessage
from transformers import pipeline

from tests.benchmarks.contest.job import BATCH, MAX_LENGTH, Job, answer


def application(job: Job) -> FastStream:
    classify = pipeline("text-classification", model=job.checkpoint, device="cpu", dtype=job.dtype)
    classify(["warm up"] * BATCH, batch_size=BATCH)
    broker = KafkaBroker(job.bootstrap, log_level=logging.DEBUG)

    @broker.subscriber(
        job.input_topic,
        group_id=job.group,
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        session_timeout_ms=job.session_timeout_ms,
        heartbeat_interval_ms=job.heartbeat_interval_ms,
    )
    async def handle(values: list[dict[str, Any]], message: KafkaMessage) -> None:
        found = await asyncio.to_thread(
            classify,
            [value["text"] for value in values],
            batch_size=BATCH,
            truncation=True,
            max_length=MAX_LENGTH,
        )
        outputs = [
            KafkaPublishMessage(
                answer(
                    value, topic=record.topic(), partition=record.partition(),
                    offset=record.offset(), **best,
                ),
                key=record.key(),
            )
            for record, value, best in zip(message.raw_message, values, found, strict=True)
        ]  # fmt: skip
        await broker.publish_batch(*outputs, topic=job.output_topic)

    return FastStream(broker)


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    asyncio.run(application(Job.from_environment()).run(log_level=logging.WARNING))


if __name__ == "__main__":
    main()
