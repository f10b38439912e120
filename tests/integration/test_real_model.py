"""The whole path with a real checkpoint: what the worker publishes is what `evaluate` says."""

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from tests.support.kafka_helpers import Message, committed, end_offsets, produce, read_all
from tests.support.worker_process import WorkerProcess, clean_environment
from worker.schema import messages

pytestmark = pytest.mark.slow

COUNT = 500

CLOSE_CALL = 0.02
"""Labels may differ between precisions and batch mates only where float32's two best are this
close, and so may at most 1 score in 100: the rest is closer."""


def predictions(checkpoint, file, target):
    done = subprocess.run(
        [sys.executable, "-m", "train", "evaluate", "--checkpoint", str(checkpoint),
         "--dataset", str(file), "--predictions", str(target)],
        env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return [json.loads(line) for line in Path(target).read_text().splitlines()]


def gaps_between(checkpoint, texts):
    """Of each text, between its two best scores in float32."""
    command = [sys.executable, "-m", "train", "predict", "--checkpoint", str(checkpoint), "--json"]
    done = subprocess.run(
        [*command, *texts], env=clean_environment(), capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    best = [sorted(line["scores"].values(), reverse=True)[:2] for line in lines]
    return [first - second for first, second in best]


@pytest.mark.timeout(900)
def test_real_tweets_get_the_labels_that_evaluate_gives(kafka, topic, tweets, checkpoint, tmp_path):
    file, present = tmp_path / "tweets.jsonl", int(time.time() * 1_000)
    with (tweets / "validation.jsonl").open(encoding="utf-8") as lines:
        file.write_text("".join(itertools.islice(lines, COUNT)), encoding="utf-8")
    offline = predictions(checkpoint, file, tmp_path / "predictions.jsonl")
    names = {
        "input_topic": topic("tweets", partitions=4),
        "output_topic": topic("emotions", partitions=4),
        "dlq_topic": topic("dlq"),
    }
    sent = [
        Message(
            value=json.dumps({"text": row["text"], "id": f"t-{number}"}).encode(),
            key=b"user-%d" % (number % 300),
            headers=(("n", b"%d" % number),),
            timestamp=present + number,
        )
        for number, row in enumerate(offline)
    ]
    assert len(sent) == COUNT
    produce(kafka, names["input_topic"], sent)
    worker = WorkerProcess(
        bootstrap=kafka, directory=tmp_path, group=names["input_topic"], checkpoint=checkpoint,
        model__device="cpu", model__rows="packed", **names,  # `evaluate` has padded rows
    )  # fmt: skip
    with worker.start():
        worker.wait_processed(COUNT, timeout=400)
        status, scrape = worker.get("/metrics")
        assert worker.stop() == 0
    assert status == 200
    assert "worker_model_info{" in scrape

    outputs = read_all(kafka, names["output_topic"])
    assert len(outputs) == COUNT
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    schema = {**messages(), "oneOf": [{"$ref": "#/$defs/output"}]}
    validator = jsonschema.Draft202012Validator(schema)
    differ, distances, lanes = [], [], {}
    for output in outputs:
        value = json.loads(output.value)
        validator.validate(value)
        number = int(dict(output.headers)["n"])
        message, expected = sent[number], offline[number]
        assert (output.key, output.timestamp) == (message.key, message.timestamp)
        assert list(output.headers) == list(message.headers)
        assert value["id"] == f"t-{number}"
        assert value["model"] == {"name": manifest["name"], "version": manifest["version"]}
        lane = (value["source"]["partition"], output.partition)
        assert value["source"]["offset"] > lanes.get(lane, -1)
        lanes[lane] = value["source"]["offset"]
        if value["label"] != expected["label"]:
            differ.append(expected["text"])
        else:
            distances.append(abs(value["score"] - expected["score"]))
    assert len({json.loads(o.value)["id"] for o in outputs}) == COUNT
    gaps = gaps_between(checkpoint, differ) if differ else []
    print(
        f"{len(differ)} labels differ, float32's two best {gaps} apart; score at most "
        f"{max(distances):.4f} off, 99 % within {sorted(distances)[len(distances) * 99 // 100]:.4f}"
    )
    assert len(differ) <= COUNT // 250, differ
    assert all(between <= CLOSE_CALL for between in gaps), gaps
    assert sorted(distances)[len(distances) * 99 // 100] <= CLOSE_CALL
    assert max(distances) <= 2.5 * CLOSE_CALL
    assert committed(kafka, names["input_topic"]) == end_offsets(kafka, names["input_topic"])
