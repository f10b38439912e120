"""The whole worker under a backlog, and under steady loads of parts of what it can do.

    python -m tests.benchmarks.load [--checkpoint DIR] [--seconds 15] [--guarantees a,b] [--keep]

Latency runs from a record's timestamp to the moment when the broker appended its output: exactly
once, a `read_committed` reader sees it at the end of its transaction, so there it runs until the
reader has it. Without `--checkpoint` the model is simulated: 2 ms and 10 us a token.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks import circumstances
from tests.benchmarks.contest.outputs import Outputs
from tests.benchmarks.hostpath.__main__ import instant
from tests.benchmarks.hostpath.run import PARTITIONS, worker
from tests.benchmarks.results import add_argument, save, table
from tests.benchmarks.simulated import LAUNCH_SECONDS, LIMITS
from tests.support.feeder import Feeder
from tests.support.kafka_helpers import create_topic
from tests.support.worker_process import WorkerProcess
from worker.demo.broker import EmbeddedKafka

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
GUARANTEES = ("at_least_once", "exactly_once")
BACKLOG_SECONDS = 6.0
SETTLE_SECONDS = 2.0
"""Of each load, at its begin: not counted."""


class Stream:
    """One worker, its input and its outputs."""

    def __init__(self, bootstrap, guarantee, *, checkpoint, directory, texts):
        name = f"load-{guarantee}"
        self.bootstrap, self.topic = bootstrap, f"input-{name}"
        create_topic(bootstrap, self.topic, PARTITIONS)
        create_topic(bootstrap, f"output-{name}", PARTITIONS,
                     config={"message.timestamp.type": "LogAppendTime"})  # fmt: skip
        self.process = worker(
            bootstrap, self.topic, name=name, state=directory / f"state-{name}",
            directory=directory, guarantee=guarantee,
            instant=instant(tokenizer=True)
            | {"seconds": LAUNCH_SECONDS, "seconds_per_token": 10e-6, **LIMITS},
        )  # fmt: skip
        if checkpoint is not None:  # the topics are there
            self.process = WorkerProcess(
                bootstrap=bootstrap, directory=directory, group=name, input_topic=self.topic,
                output_topic=f"output-{name}", dlq_topic=f"dlq-{name}",
                delivery__guarantee=guarantee, kafka__replica_id="r", log__level="warning",
                checkpoint=checkpoint, model__device="cpu",
            )  # fmt: skip
        self.feeder = Feeder(
            bootstrap, self.topic, 10_000_000, text=lambda n: texts[n % len(texts)]
        )
        self.outputs = Outputs(bootstrap, f"output-{name}", PARTITIONS)
        self.seen: dict[tuple[int, int], float] = {}
        self.guarantee = guarantee

    def look(self):
        before = len(self.outputs.appended)
        if self.outputs.read(timeout=0.005) > before:
            now = time.time() * 1_000
            fresh = len(self.outputs.appended) - before
            for source in itertools.islice(reversed(self.outputs.appended), fresh):
                self.seen[source] = now

    def settle(self):
        self.feeder.finish()
        while len(self.outputs.appended) < self.feeder.sent:
            self.process.alive()
            self.look()

    def maximum(self, seconds):
        """Messages/s of a backlog that takes about so long."""
        self.feed(500)
        self.settle()  # everything is warm
        begin = time.perf_counter()
        self.feed(1_000)
        self.settle()
        many = int(1_000 / (time.perf_counter() - begin) * seconds)
        begin = time.perf_counter()
        self.feed(many)
        self.settle()
        return many / (time.perf_counter() - begin)

    def feed(self, more):
        up_to = self.feeder.sent + more
        while self.feeder.sent < up_to:
            self.feeder.feed(up_to)

    def steady(self, rate, seconds):
        """Sources and figures of a steady load."""
        watched = psutil.Process(self.process.process.pid)
        first, begin = self.feeder.sent, time.perf_counter()
        spent, peak = watched.cpu_times(), 0
        while (at := time.perf_counter() - begin) < seconds:
            self.feeder.feed(first + int(rate * at))
            self.look()
            peak = max(peak, watched.memory_info().rss)
        self.settle()
        now = watched.cpu_times()
        count = self.feeder.sent - first
        cpu = now.user + now.system - spent.user - spent.system
        return {
            "asked": rate,
            "messages": count,
            "cpu_seconds_per_1000": cpu / count * 1_000,
            "megabytes": peak / 1e6,
            "sent": [first, self.feeder.sent],
        }

    def latencies(self):
        """Milliseconds by the number of the message."""
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "inputs",
                           "enable.auto.commit": False})  # fmt: skip
        reader.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
        ends = self.seen if self.guarantee == "exactly_once" else self.outputs.appended
        found = {}
        while len(found) < len(ends):
            for message in reader.consume(5_000, timeout=1.0):
                number = int(message.value().rpartition(b'"id": ')[2].rstrip(b"}"))
                source = message.partition(), message.offset()
                found[number] = ends[source] - message.timestamp()[1]
        reader.close()
        return found


def measured(bootstrap, guarantee, given, directory, texts):
    stream = Stream(
        bootstrap, guarantee, checkpoint=given.checkpoint, directory=directory, texts=texts
    )
    with stream.process:
        stream.process.start()
        most = stream.maximum(BACKLOG_SECONDS)
        loads = [stream.steady(most * share, given.seconds) for share in SHARES]
        latencies = stream.latencies()
    stream.outputs.close()
    for load in loads:
        first, last = load.pop("sent")
        first += int(load["asked"] * SETTLE_SECONDS)
        values = sorted(latencies[number] for number in range(first, last))
        cuts = statistics.quantiles(values, n=100)
        load |= {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}
    return {"maximum": most, "loads": loads}


def report(found):
    """The table, from what was written as JSON."""
    lines = []
    for guarantee, one in found["guarantees"].items():
        for share, load in zip(SHARES, one["loads"], strict=True):
            lines.append([
                guarantee.replace("_", " "), f"{share:.0%}", f"{load['asked']:,.0f}",
                *(f"{load[cut]:,.0f}" for cut in ("p50", "p95", "p99")),
                f"{load['cpu_seconds_per_1000']:.2f}", f"{load['megabytes']:.0f}",
            ])  # fmt: skip
    head = ["guarantee", "load", "messages/s", "p50, ms", "p95", "p99", "CPU s for 1,000", "MB"]
    return table(head, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load")
    parser.add_argument("--guarantees", default=",".join(GUARANTEES))
    add_argument(parser)
    given = parser.parse_args()
    start = circumstances.told()
    from tests.benchmarks.contest.reference import read_texts

    texts = read_texts(circumstances.texts())
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        guarantees = {
            name: measured(kafka.bootstrap_servers, name, given, Path(folder), texts)
            for name in given.guarantees.split(",")
        }
    model = "simulated" if given.checkpoint is None else "real"
    results = {"circumstances": start, "model": model, "guarantees": guarantees}
    save(f"load-{model}", results, keep=given.keep)
    print(f"{circumstances.line(start)}; {model} model\n\n{report(results)}")


if __name__ == "__main__":
    main()
