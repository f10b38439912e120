"""Baseline: Quix Streams, whose documents batch in a `BatchingSink`.

A sink gets the records of one partition since the last checkpoint, and the checkpoint's offsets
are committed after it has written them. The framework's other batching, windows by count, groups
by the message's key and holds an unfinished window back, so it does not fit a stream of many keys.

    CONTEST_BOOTSTRAP=... python -m tests.benchmarks.contest.quix
"""

from typing import Any

import transformers
from confluent_kafka import Producer
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch
from transformers import pipeline

from tests.benchmarks.contest.job import BATCH, MAX_LENGTH, Job, answer, dumps

CHECKPOINT_RECORDS = 4 * BATCH
"""Records of a checkpoint: one batch for each of the input's four partitions."""
CHECKPOINT_SECONDS = 0.1
"""After which a checkpoint with fewer is due. The default of 5 s is how long an output may wait."""


class ClassifyingSink(BatchingSink):
    """Classifies what was consumed since the last checkpoint and writes the labels."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._classify: Any = None
        self._producer: Any = None
        self._failed: list[str] = []

    def setup(self) -> None:
        self._classify = pipeline(
            "text-classification", model=self._job.checkpoint, device="cpu", dtype=self._job.dtype
        )
        self._classify(["warm up"] * BATCH, batch_size=BATCH)
        self._producer = Producer(
            {"bootstrap.servers": self._job.bootstrap, "enable.idempotence": True}
        )

    def write(self, batch: SinkBatch) -> None:
        for chunk in batch.iter_chunks(BATCH):
            items = list(chunk)
            found = self._classify(
                [item.value["text"] for item in items],
                batch_size=BATCH, truncation=True, max_length=MAX_LENGTH,
            )  # fmt: skip
            for item, best in zip(items, found, strict=True):
                output = answer(
                    item.value, topic=batch.topic, partition=batch.partition, offset=item.offset,
                    **best,
                )  # fmt: skip
                self._producer.produce(
                    self._job.output_topic, dumps(output), item.key, on_delivery=self._delivered
                )
        left = self._producer.flush(30)
        if left or self._failed:
            raise RuntimeError(f"{left} outputs not acknowledged, refused: {self._failed[:3]}")

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failed.append(str(error))


def main() -> None:
    job = Job.from_environment()
    transformers.utils.logging.disable_progress_bar()
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        commit_every=CHECKPOINT_RECORDS,
        commit_interval=CHECKPOINT_SECONDS,
        consumer_extra_config={
            "session.timeout.ms": job.session_timeout_ms,
            "heartbeat.interval.ms": job.heartbeat_interval_ms,
        },
        auto_create_topics=False,
        loglevel="WARNING",
    )
    stream = app.dataframe(app.topic(job.input_topic, value_deserializer="json"))
    stream.sink(ClassifyingSink(job))
    app.run()


if __name__ == "__main__":
    main()
