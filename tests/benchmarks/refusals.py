"""What refused outputs cost: a backlog with and without them, in turns, in one run.

    python -m tests.benchmarks.refusals [--rounds N] [--messages N] [--share S]

A model that takes no time. The refused outputs have a header of random bytes that exceeds the
output topic's `max.message.bytes`.
"""

import argparse
import datetime as dt
import random
import statistics
import tempfile
import time

from tests.benchmarks.delivery import GUARANTEES, PARTITIONS, value
from tests.support.kafka_helpers import Message, create_topic, produce
from tests.support.worker_process import WorkerProcess
from worker.demo.broker import EmbeddedKafka

LIMIT = {"max.message.bytes": "20000"}


def run(bootstrap, guarantee, name, refused, *, directory, messages):
    """Records a second, from a tenth to all of the backlog."""
    topics = {
        f"{role}_topic": create_topic(
            bootstrap, f"{role}-{name}", PARTITIONS, config=LIMIT if role == "output" else None
        )
        for role in ("input", "output", "dlq")
    }
    noise = (("noise", random.Random(0).randbytes(30_000)),)
    produce(bootstrap, topics["input_topic"], (
        Message(value=value(n), key=b"%d" % (n % 500), headers=noise if n in refused else ())
        for n in range(messages)
    ))  # fmt: skip
    process = WorkerProcess(
        bootstrap=bootstrap, directory=directory, group=name, delivery__guarantee=guarantee,
        kafka__replica_id="r", log__level="warning", **topics,
    )  # fmt: skip
    with process:
        process.start()
        process.wait_processed(messages // 10)
        begin, first = time.perf_counter(), process.processed()
        while process.processed() < messages:
            time.sleep(0.02)
        took = time.perf_counter() - begin
        letters = process.metric("worker_dead_letters_total", reason="output_too_large")
        assert letters == len(refused), letters
    return (messages - first) / took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--share", type=float, default=0.0005)
    args = parser.parse_args()
    some = set(random.Random(1).sample(range(args.messages), int(args.messages * args.share)))
    found = {(guarantee, kind): [] for guarantee in GUARANTEES for kind in ("none", "some")}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as directory:
        for turn in range(args.rounds):
            for guarantee in GUARANTEES:
                kinds = [("none", frozenset()), ("some", some)]
                for kind, refused in kinds if turn % 2 else reversed(kinds):
                    rate = run(
                        kafka.bootstrap_servers, guarantee, f"{kind}-{turn}-{guarantee}", refused,
                        directory=directory, messages=args.messages,
                    )  # fmt: skip
                    found[guarantee, kind].append(rate)
    print(
        f"{dt.datetime.now(dt.UTC).date()}, stub model, {args.rounds} rounds of "
        f"{args.messages:,} messages, {len(some)} of them refused"
    )
    print("| guarantee | messages/s: none refused | some refused | ratio, median | its range |")
    print("|---|---|---|---|---|")
    for guarantee in GUARANTEES:
        none, with_some = found[guarantee, "none"], found[guarantee, "some"]
        ratios = sorted(one / base for one, base in zip(with_some, none, strict=True))
        print(
            f"| {guarantee} | {statistics.median(none):,.0f} | {statistics.median(with_some):,.0f} "
            f"| {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |"
        )


if __name__ == "__main__":
    main()
