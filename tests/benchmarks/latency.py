"""What a model adds to latency: half of what it can do, beside a model that takes no time.

    python -m tests.benchmarks.latency [--rounds 5] [--seconds 8] [--guarantees a,b] [--keep]

The model is simulated: 2 ms and 20 us a token, so that it is the limit and not this machine's
cores. Two workers, one with it and one without, get the same load in turns. The table compares
what the model adds at the median and at 99 % with the pass of one lone message; and with a backlog,
how long a batch's oldest record has waited in the worker.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks import circumstances
from tests.benchmarks.hostpath.__main__ import instant
from tests.benchmarks.results import save, table
from tests.benchmarks.simulated import LAUNCH_SECONDS, LIMITS
from tests.benchmarks.steady import BACKLOG_SECONDS, SETTLE_SECONDS, Stream, asked, cuts, mean
from worker.demo.broker import EmbeddedKafka

SECONDS_PER_TOKEN = 20e-6
SHARE = 0.5
LONE = 60
"""Messages that are sent one at a time."""
LONE_PAUSE = 0.05


def measured(bootstrap, guarantee, given, directory, texts):
    model = instant(tokenizer=True) | LIMITS
    slow = {"seconds": LAUNCH_SECONDS, "seconds_per_token": SECONDS_PER_TOKEN}
    streams = {
        name: Stream(
            bootstrap, guarantee, name=f"{name}-{guarantee}", model=model | more,
            directory=directory, texts=texts,
        )
        for name, more in (("model", slow), ("none", {}))
    }  # fmt: skip
    with streams["model"].process, streams["none"].process:
        for stream in streams.values():
            stream.process.start()
            reached = stream.warm()
            if stream is streams["model"]:
                most, backlog = under_backlog(stream, int(reached * BACKLOG_SECONDS))
        lone = lone_pass(streams["model"])
        rounds = []
        for turn in range(given.rounds):
            order = list(streams) if turn % 2 else list(reversed(streams))
            one = {name: streams[name].steady(most * SHARE, given.seconds) for name in order}
            rounds.append(one)
        latencies = {name: stream.latencies() for name, stream in streams.items()}
    for one in rounds:
        for name, load in one.items():
            first, last = load.pop("sent")
            first += int(load["asked"] * SETTLE_SECONDS)
            load.update(cuts(latencies[name][number] for number in range(first, last)))
    for stream in streams.values():
        stream.outputs.close()
    return {"maximum": most, "lone_pass_ms": lone, "backlog": backlog, "rounds": rounds}


def lone_pass(stream):
    """Milliseconds of the model for one message that comes alone."""
    before = stream.passes()
    for _ in range(LONE):
        stream.feed(1)
        stream.settle()
        time.sleep(LONE_PAUSE)
    return mean(stream.passes(), before) * 1_000


def under_backlog(stream, messages):
    """Messages/s; and what a batch's oldest record waited, and the model took, in milliseconds."""
    passes, waits = stream.passes(), stream.waits()
    most = stream.backlog(messages)
    return most, {
        "pass_ms": mean(stream.passes(), passes) * 1_000,
        "wait_ms": mean(stream.waits(), waits) * 1_000,
    }


def report(found):
    """The tables, from what was written as JSON."""
    lines, backlogs = [], []
    for guarantee, one in found["guarantees"].items():
        title = guarantee.replace("_", " ")
        for cut in ("p50", "p99"):
            model, none = ([load[who][cut] for load in one["rounds"]] for who in ("model", "none"))
            added = [mine - its for mine, its in zip(model, none, strict=True)]
            lone = one["lone_pass_ms"]
            lines.append([
                f"{title}, {cut}", f"{one['maximum'] * SHARE:,.0f}",
                f"{statistics.median(none):.0f}", f"{statistics.median(model):.0f}",
                f"{statistics.median(added):.1f} ({min(added):.1f} to {max(added):.1f})",
                f"{lone:.1f}", f"{statistics.median(added) / lone:.1f}",
                f"{statistics.median(load['model']['pass_ms'] for load in one['rounds']):.1f}",
            ])  # fmt: skip
        took, wait = (one["backlog"][what] for what in ("pass_ms", "wait_ms"))
        backlogs.append([
            title, f"{one['maximum']:,.0f}", f"{took:.0f}", f"{wait:,.0f}", f"{wait / took:.1f}",
        ])  # fmt: skip
    head = [
        "", "messages/s", "no model, ms", "with it", "what it adds (range)", "a lone pass, ms",
        "added, in lone passes", "a pass at this load, ms",
    ]  # fmt: skip
    second = [
        "with a backlog", "messages/s", "a pass, ms", "a batch's oldest record has waited, ms",
        "in passes",
    ]  # fmt: skip
    return f"{table(head, lines)}\n\n{table(second, backlogs)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    given = asked(parser, seconds=8.0)
    start = circumstances.told()
    texts = circumstances.read_texts(circumstances.texts())
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        guarantees = {
            name: measured(kafka.bootstrap_servers, name, given, Path(folder), texts)
            for name in given.guarantees.split(",")
        }
    results = {
        "circumstances": start,
        "texts": circumstances.texts().name,
        "rounds": given.rounds,
        "guarantees": guarantees,
    }
    save("latency", results, keep=given.keep)
    print(f"{circumstances.line(start)}; {given.rounds} rounds\n\n{report(results)}")


if __name__ == "__main__":
    main()
