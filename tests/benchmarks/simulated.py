"""A simulated GPU, on a backlog: is it ever idle, and do several workers feed several of them?

    python -m tests.benchmarks.simulated [--rounds 3] [--messages 20000]

The model sleeps 2 ms and some microseconds for each token, padding included, without the
interpreter's lock: the host has to tokenize, pad, encode and send beside it. Texts and tokenizer
are real. Each worker has a device of its own; all share this machine's cores with the broker.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer

from tests.benchmarks.circumstances import line, told
from tests.benchmarks.hostpath.__main__ import instant, texts
from tests.benchmarks.hostpath.run import WARM, fill, reached, worker
from tests.benchmarks.results import add_argument, save, table
from tests.support.kafka_helpers import wait_until
from worker.demo.broker import EmbeddedKafka

LAUNCH_SECONDS = 0.002
CASES = ((10e-6, (1, 2)), (20e-6, (1, 4)))
"""Seconds of a token, and how many workers."""
TOPIC = "backlog"


def run(bootstrap, name, *, workers, per_token, messages, directory):
    """Messages/s of all, and the least share of the time in which a worker's device was busy."""
    model = instant(tokenizer=True) | {
        "seconds": LAUNCH_SECONDS, "seconds_per_token": per_token, "depth": 2,
    }  # fmt: skip
    watch = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    with contextlib.ExitStack() as stack:
        stack.callback(watch.close)
        started = [
            stack.enter_context(
                worker(
                    bootstrap, TOPIC, name=name, threads=directory / f"threads-{name}-{number}",
                    directory=directory, guarantee="at_least_once", replica=f"r{number}",
                    instant=model,
                )
            )
            for number in range(workers)
        ]  # fmt: skip
        for one in started:
            one.start(ready=False)
        for one in started:
            one.wait_ready()
        # All have their share of the partitions before the clock starts.
        wait_until(lambda: all(one.processed() for one in started), 60, "every worker labels")
        first = reached(watch, TOPIC, messages // WARM, started[0])
        begin, before = time.perf_counter(), [busy(one) for one in started]
        # Not to the end: at the end some have no work.
        last = reached(watch, TOPIC, messages * 8 // 10, started[0])
        took = time.perf_counter() - begin
        shares = [(busy(one) - was) / took for one, was in zip(started, before, strict=True)]
    return (last - first) / took, min(shares)


def busy(one):
    return one.metric("worker_model_busy_seconds_total")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=20_000)
    add_argument(parser)
    given = parser.parse_args()
    start, found = told(), {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        most = max(max(counts) for _, counts in CASES)
        fill(kafka.bootstrap_servers, TOPIC, texts(), given.messages * most)
        for turn in range(given.rounds):
            for per_token, counts in CASES:
                for workers in counts:
                    name = f"gpu-{turn}-{workers}-{per_token * 1e6:.0f}"
                    found.setdefault((per_token, workers), []).append(
                        run(
                            kafka.bootstrap_servers, name, workers=workers, per_token=per_token,
                            messages=given.messages * workers, directory=Path(folder),
                        )
                    )  # fmt: skip
    rows = [{"seconds_per_token": p, "workers": w, "runs": r} for (p, w), r in found.items()]
    results = {"circumstances": start, "rounds": given.rounds, "rows": rows}
    save("simulated", results, keep=given.keep)
    print(f"{line(start)}; {given.rounds} rounds\n\n{report(results)}")


def report(found):
    """The table, from what was written as JSON."""
    ones = {row["seconds_per_token"]: row["runs"] for row in found["rows"] if row["workers"] == 1}
    lines = []
    for row in found["rows"]:
        pairs = zip(row["runs"], ones[row["seconds_per_token"]], strict=True)
        ratio = statistics.median(run[0] / one[0] for run, one in pairs)
        rate = statistics.median(rate for rate, _ in row["runs"])
        share = statistics.median(share for _, share in row["runs"])
        lines.append(
            [
                f"{row['seconds_per_token'] * 1e6:.0f}",
                f"{row['workers']}",
                f"{rate:,.0f}",
                f"{ratio:.2f}",
                f"{share:.1%}",
            ]
        )
    return table(["µs a token", "workers", "messages/s", "ratio to one", "least busy share"], lines)


if __name__ == "__main__":
    main()
