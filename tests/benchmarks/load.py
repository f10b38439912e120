"""The whole worker under a backlog, and under steady loads of parts of what it can do.

    python -m tests.benchmarks.load [--checkpoint DIR] [--seconds 15] [--guarantees a,b] [--keep]

Latency runs from a record's timestamp to the moment when the broker appended its output: exactly
once, a `read_committed` reader sees it at the end of its transaction, so there it runs until the
reader has it. Without `--checkpoint` the model is simulated: 2 ms and 10 us a token.
"""

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks import circumstances
from tests.benchmarks.contest.reference import read_texts
from tests.benchmarks.hostpath.__main__ import instant
from tests.benchmarks.results import add_argument, save, table
from tests.benchmarks.simulated import LAUNCH_SECONDS, LIMITS
from tests.benchmarks.steady import BACKLOG_SECONDS, GUARANTEES, SETTLE_SECONDS, Stream, cuts
from worker.demo.broker import EmbeddedKafka

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
SECONDS_PER_TOKEN = 10e-6


def measured(bootstrap, guarantee, given, directory, texts):
    simulated = {"seconds": LAUNCH_SECONDS, "seconds_per_token": SECONDS_PER_TOKEN, **LIMITS}
    stream = Stream(
        bootstrap, guarantee, name=f"load-{guarantee}", checkpoint=given.checkpoint,
        model=instant(tokenizer=True) | simulated, directory=directory, texts=texts,
    )  # fmt: skip
    with stream.process:
        stream.process.start()
        most = stream.maximum(BACKLOG_SECONDS)
        loads = [stream.steady(most * share, given.seconds) for share in SHARES]
        latencies = stream.latencies()
    stream.outputs.close()
    for load in loads:
        first, last = load.pop("sent")
        first += int(load["asked"] * SETTLE_SECONDS)
        load.update(cuts(latencies[number] for number in range(first, last)))
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
