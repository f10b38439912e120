"""What exactly once costs: throughput and latency of both guarantees, in turns, in one run.

    python -m tests.benchmarks.delivery [--rounds N] [--messages N] [--rate N]

A model that takes no time, so that what is measured is Kafka, both clients and this worker.
Latency is what a `read_committed` reader sees: from the input's timestamp to the output in hand.
"""

import argparse
import contextlib
import datetime as dt
import json
import platform
import statistics
import tempfile
import threading
import time

from confluent_kafka import Consumer, Producer

from tests.support.kafka_helpers import Message, create_topic, produce
from tests.support.worker_process import WorkerProcess
from worker.demo.broker import EmbeddedKafka

GUARANTEES = ("at_least_once", "exactly_once")
PARTITIONS = 4


def value(number):
    return json.dumps({"text": f"the number {number} of many", "id": number}).encode()


@contextlib.contextmanager
def worker(bootstrap, guarantee, name, directory):
    topics = {f"{role}_topic": f"{role}-{name}" for role in ("input", "output", "dlq")}
    for topic in topics.values():
        create_topic(bootstrap, topic, PARTITIONS)
    process = WorkerProcess(
        bootstrap=bootstrap, directory=directory, group=name, delivery__guarantee=guarantee,
        kafka__replica_id="r", log__level="warning", **topics,
    )  # fmt: skip
    with process:
        yield process, topics


def throughput(bootstrap, guarantee, name, directory, messages):
    """Records a second between a tenth and all of a backlog."""
    with worker(bootstrap, guarantee, name, directory) as (process, topics):
        records = (Message(value=value(n), key=b"%d" % (n % 500)) for n in range(messages))
        produce(bootstrap, topics["input_topic"], records)
        process.start()
        process.wait_processed(messages // 10)
        begin, first = time.perf_counter(), process.processed()
        while process.processed() < messages:
            time.sleep(0.02)
        return (messages - first) / (time.perf_counter() - begin)


def latency(bootstrap, guarantee, name, directory, *, rate, seconds=12):
    """Milliseconds at the median and at 99 % with a steady, modest stream."""
    seen = []
    with worker(bootstrap, guarantee, name, directory) as (process, topics):
        process.start()
        reader = Consumer({
            "bootstrap.servers": bootstrap, "group.id": f"reader-{name}",
            "isolation.level": "read_committed", "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        })  # fmt: skip
        reader.subscribe([topics["output_topic"]])
        done = threading.Event()

        def read():
            while not done.is_set():
                messages = [m for m in reader.consume(500, 0.005) if m.error() is None]
                now = time.time() * 1_000
                seen.extend(now - message.timestamp()[1] for message in messages)

        thread = threading.Thread(target=read)
        thread.start()
        feeder = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
        begin, sent = time.perf_counter(), 0
        while sent < rate * seconds:
            while sent < (time.perf_counter() - begin) * rate:
                feeder.produce(topics["input_topic"], value(sent), b"%d" % (sent % 500))
                sent += 1
            feeder.poll(0.002)
        feeder.flush(30)
        process.wait_processed(sent)
        time.sleep(0.5)
        done.set()
        thread.join()
        reader.close()
    steady = sorted(seen[len(seen) // 3 :])  # the first seconds are the clients' own start
    return steady[len(steady) // 2], steady[len(steady) * 99 // 100]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--rate", type=int, default=500)
    args = parser.parse_args()
    rates = {guarantee: [] for guarantee in GUARANTEES}
    delays = {guarantee: [] for guarantee in GUARANTEES}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as directory:
        for turn in range(args.rounds):
            for guarantee in GUARANTEES:
                at = kafka.bootstrap_servers, guarantee
                rates[guarantee].append(
                    throughput(*at, f"t{turn}-{guarantee}", directory, args.messages)
                )
                delays[guarantee].append(
                    latency(*at, f"l{turn}-{guarantee}", directory, rate=args.rate)
                )
    print(
        f"{dt.datetime.now(dt.UTC).date()}, {platform.machine()}, stub model, {PARTITIONS} "
        f"partitions, one broker, {args.rounds} rounds of {args.messages} messages"
    )
    print("| guarantee | messages/s (median) | min - max | ratio, median of rounds "
          f"| latency at {args.rate}/s: p50, p99 |")  # fmt: skip
    print("|---|---|---|---|---|")
    for guarantee, values in rates.items():
        ratio = statistics.median(
            one / base for one, base in zip(values, rates["at_least_once"], strict=True)
        )
        p50, p99 = (statistics.median(column) for column in zip(*delays[guarantee], strict=True))
        print(f"| {guarantee} | {statistics.median(values):,.0f} | {min(values):,.0f} - "
              f"{max(values):,.0f} | {ratio:.2f} | {p50:.0f} ms, {p99:.0f} ms |")  # fmt: skip


if __name__ == "__main__":
    main()
