"""Several processes of one worker on one simulated GPU: what does a second one gain?

    python -m tests.benchmarks.processes [--rounds 3] [--messages 60000] [--keep]

The device runs one batch at a time, of whichever process holds the lock: 2 ms and some microseconds
for each token, without the interpreter's lock. Texts and tokenizer are real. The processes share
this machine's cores with the broker.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer

from tests.benchmarks.circumstances import line, told
from tests.benchmarks.hostpath.__main__ import instant, texts
from tests.benchmarks.hostpath.run import PARTITIONS, fill, reached, worker
from tests.benchmarks.results import add_argument, save, table
from worker.demo.broker import EmbeddedKafka

LAUNCH_SECONDS = 0.002
LIMITS = {"max_records": 1_024, "max_tokens": 16_384, "depth": 2}
CASES = (10e-6, 1e-6)
"""Seconds of a token: a device that is the bottleneck here, and one that waits for the host."""
COUNTS = (1, 2)
TOPIC = "backlog"


def measured(bootstrap, name, *, processes, per_token, messages, directory):
    """Messages/s, the share of the time in which the device was busy, and resident MB of all."""
    model = instant(tokenizer=True) | {
        "seconds": LAUNCH_SECONDS, "seconds_per_token": per_token, **LIMITS,
        "device": str(directory / f"device-{name}"),
    }  # fmt: skip
    watch = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    started = worker(
        bootstrap, TOPIC, name=name, state=directory / "unused", directory=directory,
        guarantee="at_least_once", instant=model,
    )  # fmt: skip
    started.command = [sys.executable, "-m", "tests.benchmarks.shared_device"]
    started.environment["WORKER_PROCESSES"] = str(processes)
    try:
        with started.start():
            started.wait_shared(PARTITIONS)
            first = reached(watch, TOPIC, 1, started)
            begin, busy = time.perf_counter(), started.metric("worker_model_busy_seconds_total")
            last = reached(watch, TOPIC, first + messages, started)
            took = time.perf_counter() - begin
            busy = started.metric("worker_model_busy_seconds_total") - busy
            resident = started.resident_bytes()
            assert started.stop() == 0, started.log()
    finally:
        watch.close()
    return (last - first) / took, busy / took, resident / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=60_000)
    add_argument(parser)
    given = parser.parse_args()
    start, found = told(), {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        # Some is labelled before the partitions are shared out, and some is left at the end.
        fill(kafka.bootstrap_servers, TOPIC, texts(), 3 * given.messages)
        for turn in range(given.rounds):
            for per_token in CASES:
                for processes in COUNTS:
                    name = f"processes-{turn}-{processes}-{per_token * 1e6:.0f}"
                    one = measured(
                        kafka.bootstrap_servers, name, processes=processes, per_token=per_token,
                        messages=given.messages, directory=Path(folder),
                    )  # fmt: skip
                    found.setdefault((per_token, processes), []).append(one)
                    print(f"{name}: {one[0]:,.0f}/s", file=sys.stderr, flush=True)
    rows = [{"seconds_per_token": p, "processes": n, "runs": r} for (p, n), r in found.items()]
    results = {"circumstances": start, "rounds": given.rounds, "rows": rows}
    save("processes", results, keep=given.keep)
    print(f"{line(start)}; {given.rounds} rounds\n\n{report(results)}")


def report(found):
    """The table, from what was written as JSON."""
    ones = {row["seconds_per_token"]: row["runs"] for row in found["rows"] if row["processes"] == 1}
    lines = []
    for row in found["rows"]:
        pairs = zip(row["runs"], ones[row["seconds_per_token"]], strict=True)
        ratio = statistics.median(run[0] / one[0] for run, one in pairs)
        rate, busy, resident = (
            statistics.median(run[column] for run in row["runs"]) for column in range(3)
        )
        cells = (f"{row['seconds_per_token'] * 1e6:.0f}", f"{row['processes']}", f"{rate:,.0f}")
        lines.append([*cells, f"{ratio:.2f}", f"{busy:.0%}", f"{resident:.0f}"])
    head = ["µs a token", "processes", "messages/s", "ratio to one", "model busy", "MB of all"]
    return table(head, lines)


if __name__ == "__main__":
    main()
