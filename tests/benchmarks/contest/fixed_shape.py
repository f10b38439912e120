"""Baseline: kafka-python and one fixed shape, 64 texts of 128 tokens, commit after flush.

What a model server with a static shape does: every text is padded to the longest that is allowed.

    CONTEST_BOOTSTRAP=... python -m tests.benchmarks.contest.fixed_shape
"""

import json

import torch
import transformers
from kafka import KafkaConsumer, KafkaProducer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.benchmarks.contest.job import BATCH, MAX_LENGTH, Job, answer, dumps, until_terminated


class Classifier:
    """Texts to labels and scores, in batches of one shape."""

    def __init__(self, job: Job) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(job.checkpoint)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            job.checkpoint, dtype=job.dtype
        ).eval()

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> list[tuple[str, float]]:
        """At most `BATCH` texts; a shorter batch is filled up with empty ones."""
        filled = texts + [""] * (BATCH - len(texts))
        tokens = self._tokenizer(
            filled, padding="max_length", truncation=True, max_length=MAX_LENGTH,
            return_tensors="pt",
        )  # fmt: skip
        scores = self._model(**tokens).logits.float().softmax(dim=-1)[: len(texts)]
        best, numbers = scores.max(dim=-1)
        names = self._model.config.id2label
        return [
            (names[number], score)
            for number, score in zip(numbers.tolist(), best.tolist(), strict=True)
        ]


def main() -> None:
    job, stop = Job.from_environment(), until_terminated()
    transformers.utils.logging.disable_progress_bar()
    classify = Classifier(job)
    classify(["warm up"])
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
        found = classify([value["text"] for value in values])
        sent = [
            producer.send(
                job.output_topic,
                key=record.key,
                value=dumps(answer(
                    value, topic=record.topic, partition=record.partition, offset=record.offset,
                    label=label, score=score,
                )),
            )
            for record, value, (label, score) in zip(records, values, found, strict=True)
        ]  # fmt: skip
        producer.flush()
        for future in sent:
            future.get()  # raises where an output was refused: `flush` does not
        consumer.commit()
    consumer.close()
    producer.close()


if __name__ == "__main__":
    main()
