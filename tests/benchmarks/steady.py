"""A worker under steady loads: how much it does, and how long a record takes.

Latency runs from a record's timestamp to the moment when the broker appended its output: exactly
once, a `read_committed` reader sees it at the end of its transaction, so there it runs until the
reader has it.
"""

import itertools
import json
import statistics
import sys
import time

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.benchmarks.contest.outputs import Outputs
from tests.benchmarks.hostpath.run import PARTITIONS, PROGRAM, spent, stage_of, worker
from tests.benchmarks.results import add_argument, parsed
from tests.support.feeder import Feeder
from tests.support.kafka_helpers import create_topic
from tests.support.worker_process import WorkerProcess

GUARANTEES = ("at_least_once", "exactly_once")
BACKLOG_SECONDS = 6.0
SETTLE_SECONDS = 2.0
"""Of each load, at its begin: not counted."""
SILENCE = 60.0
"""Seconds without an output after which a run has failed."""


def asked(parser, *, seconds):
    """The options of a benchmark of steady loads; `seconds` is the default for each load."""
    parser.add_argument("--seconds", type=float, default=seconds, help="of each load")
    parser.add_argument("--guarantees", default=",".join(GUARANTEES))
    add_argument(parser)
    given = parsed(parser, "--guarantees")
    if given.seconds <= SETTLE_SECONDS:
        parser.error(f"--seconds: the first {SETTLE_SECONDS:.0f} are not counted")
    return given


class Stream:
    """One worker, its input and its outputs.

    Args:
        bootstrap: The broker.
        guarantee: The setting.
        name: Of topics and group.
        model: Arguments of `Instant`; not used with a checkpoint.
        checkpoint: Of a real model.
        directory: For logs.
        texts: Sent again and again.
        device: Of the real model.
    """

    def __init__(
        self, bootstrap, guarantee, *, name, directory, texts, model=None, checkpoint=None,
        device="cpu",
    ):  # fmt: skip
        self.bootstrap, self.topic = bootstrap, f"input-{name}"
        create_topic(bootstrap, self.topic, PARTITIONS)
        create_topic(bootstrap, f"output-{name}", PARTITIONS,
                     config={"message.timestamp.type": "LogAppendTime"})  # fmt: skip
        self.state = directory / f"state-{name}"
        self.process = worker(
            bootstrap, self.topic, name=name, state=self.state, directory=directory,
            guarantee=guarantee, instant=model,
        )  # fmt: skip
        if checkpoint is not None:  # the topics are there
            self.process = WorkerProcess(
                bootstrap=bootstrap, directory=directory, group=name, input_topic=self.topic,
                output_topic=f"output-{name}", dlq_topic=f"dlq-{name}",
                delivery__guarantee=guarantee, kafka__replica_id="r", log__level="warning",
                checkpoint=checkpoint, model__device=device,
            )  # fmt: skip
            self.process.command = [sys.executable, str(PROGRAM)]
            self.process.environment["STATE"] = str(self.state)
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
        """Waits for the outputs of all that was sent."""
        self.feeder.finish()
        self.outputs.moved = time.monotonic()
        while len(self.outputs.appended) < self.feeder.sent:
            self.process.alive()
            self.look()
            silent = time.monotonic() - self.outputs.moved
            assert silent < SILENCE, f"{len(self.outputs.appended)} outputs, then nothing"

    def warm(self):
        """Returns how many messages/s a short backlog reaches."""
        self.feed(500)
        self.settle()
        begin = time.perf_counter()
        self.feed(1_000)
        self.settle()
        return 1_000 / (time.perf_counter() - begin)

    def backlog(self, messages):
        """Messages/s of a backlog of so many."""
        begin = time.perf_counter()
        self.feed(messages)
        self.settle()
        return messages / (time.perf_counter() - begin)

    def feed(self, more):
        up_to = self.feeder.sent + more
        while self.feeder.sent < up_to:
            self.feeder.feed(up_to)

    def steady(self, rate, seconds):
        """Figures of a steady load, and the numbers of its messages."""
        watched = psutil.Process(self.process.process.pid)
        first, begin = self.feeder.sent, time.perf_counter()
        before, peak, passes = spent(watched.pid), 0, self.passes()
        while (at := time.perf_counter() - begin) < seconds:
            self.feeder.feed(first + int(rate * at))
            self.look()
            peak = max(peak, watched.memory_info().rss)
        self.settle()
        count = self.feeder.sent - first
        cpu = {
            stage: seconds / count * 1_000
            for stage, seconds in by_stage(self.names(), before, spent(watched.pid)).items()
        }
        return {
            "asked": rate,
            "pass_ms": mean(self.passes(), passes) * 1_000,
            "messages": count,
            "cpu_seconds_per_1000": cpu,
            "megabytes": peak / 1e6,
            "sent": [first, self.feeder.sent],
        }

    def names(self):
        """Of the threads, by their native ids."""
        return json.loads(self.state.read_text())["threads"]

    def passes(self):
        """Seconds of the model's calls so far, and their number."""
        return self._sum_and_count("worker_stage_duration_seconds", stage="model")

    def waits(self):
        """Seconds that the oldest records of all batches have waited, and the number of batches."""
        return self._sum_and_count("worker_batch_wait_seconds")

    def latencies(self):
        """Milliseconds by the number of the message."""
        reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "inputs",
                           "enable.auto.commit": False})  # fmt: skip
        reader.assign([TopicPartition(self.topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
        ends = self.seen if self.guarantee == "exactly_once" else self.outputs.appended
        found = {}
        deadline = time.monotonic() + SILENCE
        while len(found) < len(ends):
            assert time.monotonic() < deadline, f"{len(found)} of {len(ends)} inputs were read"
            for message in reader.consume(5_000, timeout=1.0):
                number = int(message.value().rpartition(b'"id": ')[2].rstrip(b"}"))
                source = message.partition(), message.offset()
                found[number] = ends[source] - message.timestamp()[1]
        reader.close()
        return found

    def _sum_and_count(self, name, **labels):
        return tuple(self.process.metric(f"{name}_{part}", **labels) for part in ("sum", "count"))


def by_stage(names, before, now):
    """Seconds of processor time by stage, between two looks at a worker's threads."""
    found = {}
    for thread, times in now.items():
        name = names.get(str(thread))
        stage = "without Python" if name is None else stage_of(name)
        seconds = sum(times) - sum(before.get(thread, (0.0, 0.0)))
        found[stage] = found.get(stage, 0.0) + seconds
    return found


def mean(now, before):
    """Seconds of each, between two looks at a sum and a count."""
    return (now[0] - before[0]) / (now[1] - before[1])


def cuts(values):
    """The 50th, 95th and 99th percentile."""
    found = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": found[49], "p95": found[94], "p99": found[98]}
