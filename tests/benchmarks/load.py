"""The whole worker under a backlog, and under steady loads of parts of what it can do.

    python -m tests.benchmarks.load [--checkpoint DIR] [--seconds 15] [--guarantees a,b] [--keep]

Without `--checkpoint` the model is simulated: 2 ms and 10 us a token.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

from tests.benchmarks import circumstances
from tests.benchmarks.hostpath.__main__ import instant
from tests.benchmarks.results import save, table
from tests.benchmarks.simulated import LAUNCH_SECONDS, LIMITS
from tests.benchmarks.steady import BACKLOG_SECONDS, SETTLE_SECONDS, Stream, asked, cuts
from worker.demo.broker import EmbeddedKafka

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
SECONDS_PER_TOKEN = 10e-6


def measured(bootstrap, given, directory, texts):
    """By guarantee. Both have the same loads, of parts of what the slower one can do, in turns."""
    simulated = {"seconds": LAUNCH_SECONDS, "seconds_per_token": SECONDS_PER_TOKEN, **LIMITS}
    streams = {
        guarantee: Stream(
            bootstrap, guarantee, name=f"load-{guarantee}", checkpoint=given.checkpoint,
            model=instant(tokenizer=True) | simulated, directory=directory, texts=texts,
        )
        for guarantee in given.guarantees.split(",")
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        found = {}
        for guarantee, stream in streams.items():
            stack.enter_context(stream.process)
            stream.process.start()
            reached = stream.warm()
            found[guarantee] = {
                "maximum": stream.backlog(int(reached * BACKLOG_SECONDS)),
                "loads": [],
            }
        most = min(one["maximum"] for one in found.values())
        for share in SHARES:
            for guarantee, stream in streams.items():
                found[guarantee]["loads"].append(stream.steady(most * share, given.seconds))
        for guarantee, stream in streams.items():
            latencies = stream.latencies()
            for load in found[guarantee]["loads"]:
                first, last = load.pop("sent")
                first += int(load["asked"] * SETTLE_SECONDS)
                load.update(cuts(latencies[number] for number in range(first, last)))
            stream.outputs.close()
    return found


def report(found):
    """The tables, from what was written as JSON."""
    loads = [
        (f"{guarantee.replace('_', ' ')}, {share:.0%}", load)
        for guarantee, one in found["guarantees"].items()
        for share, load in zip(SHARES, one["loads"], strict=True)
    ]
    lines = [
        [
            name, f"{load['asked']:,.0f}",
            *(f"{load[cut]:,.0f}" for cut in ("p50", "p95", "p99")), f"{load['megabytes']:.0f}",
        ]
        for name, load in loads
    ]  # fmt: skip
    stages = sorted({stage for _, load in loads for stage in load["cpu_seconds_per_1000"]})
    spent = [
        [
            name, f"{sum(load['cpu_seconds_per_1000'].values()):.2f}",
            *(f"{load['cpu_seconds_per_1000'].get(stage, 0.0):.2f}" for stage in stages),
        ]
        for name, load in loads
    ]  # fmt: skip
    backlog = ", ".join(
        f"{guarantee.replace('_', ' ')} {one['maximum']:,.0f}"
        for guarantee, one in found["guarantees"].items()
    )
    rates = table(["", "messages/s", "p50, ms", "p95", "p99", "MB"], lines)
    seconds = table(["CPU seconds for 1,000 messages", "all", *stages], spent)
    return f"A backlog, messages/s: {backlog}.\n\n{rates}\n\n{seconds}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    given = asked(parser, seconds=15.0)
    start = circumstances.told()
    texts = circumstances.read_texts(circumstances.texts())
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        guarantees = measured(kafka.bootstrap_servers, given, Path(folder), texts)
    model = "simulated" if given.checkpoint is None else "real"
    results = {
        "circumstances": start,
        "texts": circumstances.texts().name,
        "model": model,
        "guarantees": guarantees,
    }
    save(f"load-{model}", results, keep=given.keep)
    print(f"{circumstances.line(start)}; {model} model\n\n{report(results)}")


if __name__ == "__main__":
    main()
