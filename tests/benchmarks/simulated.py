"""A simulated GPU, on a backlog: is it ever idle, and do several workers feed several of them?

    python -m tests.benchmarks.simulated [--rounds 3] [--messages 30000]

The model sleeps 2 ms and some microseconds for each token, padding included, without the
interpreter's lock: the host has to tokenize, pad, encode and send beside it. Texts and tokenizer
are real. Each worker has a device of its own; all share this machine's cores with the broker.
"""

import argparse
import contextlib
import json
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
LIMITS = {"max_records": 1_024, "max_tokens": 16_384, "depth": 2}
"""A quarter of the batches that the worker makes on CUDA, which would take 0.7 s here."""
CASES = ((10e-6, (1, 2)), (20e-6, (1, 4)))
"""Seconds of a token, and how many workers."""
TOPIC = "backlog"


def run(bootstrap, name, *, workers, per_token, messages, directory):
    """Messages/s of all, and the least share of the time in which a worker's device was busy."""
    model = instant(tokenizer=True) | {
        "seconds": LAUNCH_SECONDS, "seconds_per_token": per_token, **LIMITS,
    }  # fmt: skip
    watch = Consumer({"bootstrap.servers": bootstrap, "group.id": name})

    def states():
        files = [directory / f"state-{name}-{number}" for number in range(workers)]
        return [json.loads(file.read_text()) for file in files]

    with contextlib.ExitStack() as stack:
        stack.callback(watch.close)
        started = [
            stack.enter_context(
                worker(
                    bootstrap, TOPIC, name=name, state=directory / f"state-{name}-{number}",
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
        begin, before = time.perf_counter(), states()
        last = reached(watch, TOPIC, messages, started[0])
        took = time.perf_counter() - begin
        shares = [
            (now["busy"] - was["busy"]) / (now["at"] - was["at"])
            for was, now in zip(before, states(), strict=True)
        ]
    return (last - first) / took, min(shares)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=30_000)
    add_argument(parser)
    given = parser.parse_args()
    start, found = told(), {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        most = max(max(counts) for _, counts in CASES)
        # Twice as many as are waited for: at the end of a partition its worker has no work.
        fill(kafka.bootstrap_servers, TOPIC, texts(), given.messages * most * 2)
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
