"""Baseline: kafka-python and ONNX Runtime, batches of texts of like length, commit after flush.

The fastest loop that a good engineer writes without a framework: a poll of up to 1,024 records is
tokenized at once and sorted by length, so that a batch has hardly any padding. The outputs are
written in the order of the inputs. The model comes from `export`, which chooses its precision.

    CONTEST_BOOTSTRAP=... CONTEST_ONNX_MODEL=model.onnx \
        python -m tests.benchmarks.contest.onnx_sorted
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from kafka import KafkaConsumer, KafkaProducer
from tokenizers import Tokenizer

from tests.benchmarks.contest.job import BATCH, MAX_LENGTH, Job, answer, dumps, until_terminated

POLL = 1_024
"""Records of a poll: sixteen batches to sort into. Twice as many gain little and wait longer."""


class Classifier:
    """Texts to labels and scores.

    Args:
        checkpoint: Directory of the tokenizer and of the labels' names.
        onnx_model: The exported model.
    """

    def __init__(self, checkpoint: str, onnx_model: str) -> None:
        self._tokenizer = Tokenizer.from_file(str(Path(checkpoint) / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_LENGTH)
        self._tokenizer.no_padding()
        names = json.loads((Path(checkpoint) / "config.json").read_text())["id2label"]
        self._labels = [names[str(number)] for number in range(len(names))]
        self._session = onnxruntime.InferenceSession(onnx_model, providers=["CPUExecutionProvider"])
        self._inputs = {each.name for each in self._session.get_inputs()}

    def __call__(self, texts: list[str]) -> list[tuple[str, float]]:
        tokens = self._tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda at: len(tokens[at].ids))
        logits = np.empty((len(texts), len(self._labels)), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            logits[chosen] = self._run([tokens[at].ids for at in chosen])
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return [(self._labels[row.argmax()], float(row.max())) for row in scores]

    def _run(self, ids: list[list[int]]) -> npt.NDArray[np.float32]:
        shape = len(ids), max(map(len, ids))
        feed = {name: np.zeros(shape, dtype=np.int64) for name in self._inputs}
        for row, some in enumerate(ids):
            feed["input_ids"][row, : len(some)] = some
            feed["attention_mask"][row, : len(some)] = 1
        logits: npt.NDArray[np.float32] = self._session.run(None, feed)[0]
        return logits


def main() -> None:
    job, stop = Job.from_environment(), until_terminated()
    classify = Classifier(job.checkpoint, job.onnx_model)
    classify(["warm up"] * BATCH)
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
