"""The host path of two checkouts, in turns, in one run: is this one as fast as another?

    python -m tests.benchmarks.compare OTHER [--rounds N] [--messages N]

A model that takes no time, so that what is measured is the client, the threads and the messages
between them. The rate is that between a tenth and all of a backlog; the processor time is that of
the worker, for the same records.
"""

import argparse
import datetime as dt
import platform
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks.delivery import GUARANTEES, PARTITIONS, value
from tests.support.kafka_helpers import Message, create_topic, produce
from tests.support.worker_process import ROOT, WorkerProcess
from worker.demo.broker import EmbeddedKafka


def run(bootstrap, guarantee, name, *, root, directory, messages):
    """Records a second, and processor seconds for a thousand records."""
    topics = {f"{role}_topic": f"{role}-{name}" for role in ("input", "output", "dlq")}
    for topic in topics.values():
        create_topic(bootstrap, topic, PARTITIONS)
    records = (Message(value=value(n), key=b"%d" % (n % 500)) for n in range(messages))
    produce(bootstrap, topics["input_topic"], records)
    process = WorkerProcess(
        bootstrap=bootstrap, directory=directory, group=name, delivery__guarantee=guarantee,
        kafka__replica_id="r", log__level="warning", root=root, **topics,
    )  # fmt: skip
    with process:
        process.start()
        process.wait_processed(messages // 10)
        watched = psutil.Process(process.process.pid)
        begin, spent, first = time.perf_counter(), watched.cpu_times(), process.processed()
        while process.processed() < messages:
            time.sleep(0.02)
        took, now = time.perf_counter() - begin, watched.cpu_times()
    done = messages - first
    cpu = now.user + now.system - spent.user - spent.system
    return done / took, cpu / done * 1_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="another checkout, with the same packages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=60_000)
    args = parser.parse_args()
    roots = {"other": args.other.resolve(), "this": ROOT}
    found = {(name, guarantee): [] for guarantee in GUARANTEES for name in roots}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as directory:
        for turn in range(args.rounds):
            order = list(roots) if turn % 2 else list(reversed(roots))
            for guarantee in GUARANTEES:
                for name in order:
                    at = f"{name}-{turn}-{guarantee}"
                    found[name, guarantee].append(
                        run(
                            kafka.bootstrap_servers, guarantee, at, root=roots[name],
                            directory=directory, messages=args.messages,
                        )
                    )  # fmt: skip
    print(
        f"{dt.datetime.now(dt.UTC).date()}, {platform.machine()}, stub model, {PARTITIONS} "
        f"partitions, {args.rounds} rounds of {args.messages:,} messages"
    )
    print("| guarantee | messages/s: other | this | ratio, median of rounds | its range "
          "| processor seconds for 1,000: other | this |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for guarantee in GUARANTEES:
        other, this = found["other", guarantee], found["this", guarantee]
        ratios = sorted(one[0] / base[0] for one, base in zip(this, other, strict=True))
        medians = [
            [statistics.median(column) for column in zip(*runs, strict=True)]
            for runs in (other, this)
        ]
        print(
            f"| {guarantee} | {medians[0][0]:,.0f} | {medians[1][0]:,.0f} "
            f"| {statistics.median(ratios):.3f} | {ratios[0]:.2f} to {ratios[-1]:.2f} "
            f"| {medians[0][1]:.3f} | {medians[1][1]:.3f} |"
        )


if __name__ == "__main__":
    main()
