"""The worker against the loop that users write: same topic, machine and run, in turns.

    python -m tests.benchmarks.throughput [--checkpoint DIR] [--rounds N] [--messages N]

The texts are the real tweets where they are, else the demo's sentences. A worker's rate is taken
between two scrapes of its own counter of acknowledged records, start-up not counted. The machine
is noisy: quote the ratio.
"""

import argparse
import datetime as dt
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.support.kafka_helpers import Message, create_topic, produce
from tests.support.worker_process import WorkerProcess, clean_environment
from worker.demo.broker import EmbeddedKafka
from worker.model.device import choose_dtype

ROOT = Path(__file__).resolve().parents[2]
NAIVE_SHARE = 10  # the loop gets a tenth of the messages, or a run would take all day


def texts():
    tweets = ROOT.parent / "shared" / "datasets" / "emotion" / "validation.jsonl"
    path = tweets if tweets.is_file() else ROOT / "train" / "data" / "train.jsonl"
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def naive(bootstrap, checkpoint, count):
    command = [sys.executable, "-m", "tests.benchmarks.naive_loop", bootstrap, "in", "naive"]
    done = subprocess.run(
        [*command, str(checkpoint), str(count)],
        env=clean_environment(HF_HUB_OFFLINE="1"), cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def worker(bootstrap, *, checkpoint, count, dtype, directory, group):
    process = WorkerProcess(
        bootstrap=bootstrap, input_topic="in", output_topic="out", dlq_topic="dlq", group=group,
        checkpoint=checkpoint, directory=directory, model__dtype=dtype, model__device="cpu",
        log__level="warning",
    )  # fmt: skip
    with process.start():
        process.wait_processed(count // 10)
        begin, first = time.perf_counter(), process.processed()
        process.wait_processed(count)
        rate = (process.processed() - first) / (time.perf_counter() - begin)
        real = process.metric("worker_tokens_total", kind="real")
        padding = process.metric("worker_tokens_total", kind="padding")
        assert process.stop() == 0
    return rate, padding / (real + padding)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=6_000)
    asked = parser.parse_args()
    native = choose_dtype("auto", torch.device("cpu"))
    dtypes = ["float32"] + (["bfloat16"] if native == torch.bfloat16 else [])
    rates = {name: [] for name in ("naive", *dtypes)}
    waste = 0.0
    lines = texts()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as directory:
        for name, partitions in (("in", 4), ("out", 4), ("naive", 4), ("dlq", 1)):
            create_topic(kafka.bootstrap_servers, name, partitions=partitions)
        produce(
            kafka.bootstrap_servers,
            "in",
            [
                Message(value=json.dumps({"text": lines[n % len(lines)], "id": n}).encode(),
                        key=b"%d" % n)
                for n in range(asked.messages)
            ],
        )  # fmt: skip
        for turn in range(asked.rounds):
            rates["naive"].append(
                naive(kafka.bootstrap_servers, asked.checkpoint, asked.messages // NAIVE_SHARE)
            )
            for dtype in dtypes:
                rate, waste = worker(
                    kafka.bootstrap_servers, checkpoint=asked.checkpoint, count=asked.messages,
                    dtype=dtype, directory=directory, group=f"{dtype}-{turn}",
                )  # fmt: skip
                rates[dtype].append(rate)
    print(f"{dt.datetime.now(dt.UTC).date()}, {platform.processor() or platform.machine()}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}, {asked.messages} "
          f"messages, {asked.rounds} rounds, padding {waste:.1%}\n")  # fmt: skip
    print("| way | messages/s (median) | min - max | ratio, median of rounds |")
    print("|---|---|---|---|")
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates["naive"], strict=True)]
        print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} - "
              f"{max(values):.0f} | {statistics.median(ratios):.1f} |")  # fmt: skip


if __name__ == "__main__":
    main()
