"""Baseline: kafka-python and the engine of Infinity's classification server, commit after flush.

`infinity_emb v2` serves this engine over HTTP. Here it runs in the loop's process, by its
documented Python interface: that is faster than a server beside it by the HTTP. It sorts what
waits by length and batches by itself, so a poll of up to 1,024 records is given to it at once.

    CONTEST_BOOTSTRAP=... python -m tests.benchmarks.contest.infinity_engine
"""

import asyncio
import json
from typing import Any

import transformers
from infinity_emb import AsyncEmbeddingEngine, EngineArgs
from infinity_emb.log_handler import logger
from kafka import KafkaConsumer, KafkaProducer

from tests.benchmarks.contest.job import BATCH, Job, answer, dumps, until_terminated

POLL = 1_024
"""Records of a poll: sixteen batches to sort into. Twice as many gain little and wait longer."""


def engine(job: Job) -> AsyncEmbeddingEngine:
    """Of the checkpoint. Without BetterTransformer, which the library behind it has given up."""
    return AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=job.checkpoint,
            engine="torch",
            device="cpu",
            dtype=job.dtype,
            batch_size=BATCH,
            bettertransformer=False,
            compile=False,
            model_warmup=False,
        )
    )


async def serve(job: Job) -> None:
    stop = until_terminated()
    consumer = KafkaConsumer(
        job.input_topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=job.session_timeout_ms,
        heartbeat_interval_ms=job.heartbeat_interval_ms,
        max_poll_records=POLL,
    )
    producer = KafkaProducer(bootstrap_servers=job.bootstrap)
    model = engine(job)
    async with model:
        await model.classify(sentences=["warm up"] * BATCH)
        while not stop.is_set():
            polled = consumer.poll(timeout_ms=500)
            records = [record for some in polled.values() for record in some]
            if not records:
                continue
            values: list[dict[str, Any]] = [json.loads(record.value) for record in records]
            found, _ = await model.classify(sentences=[value["text"] for value in values])
            sent = [
                producer.send(
                    job.output_topic,
                    key=record.key,
                    value=dumps(answer(
                        value, topic=record.topic, partition=record.partition,
                        offset=record.offset, **labels[0],
                    )),
                )
                for record, value, labels in zip(records, values, found, strict=True)
            ]  # fmt: skip
            producer.flush()
            for future in sent:
                future.get()  # raises where an output was refused: `flush` does not
            consumer.commit()
    consumer.close()
    producer.close()


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    logger.setLevel("WARNING")
    asyncio.run(serve(Job.from_environment()))


if __name__ == "__main__":
    main()
