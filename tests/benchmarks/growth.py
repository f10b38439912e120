"""How the host path grows with partitions, text lengths, labels, keys, headers and the backlog.

    python -m tests.benchmarks.growth [--rounds 5] [--messages 20000] [--backlog 1000000]
                                      [--series NAME] [--keep]

A model that takes no time. Of each series all sizes run in turns; the ratio is to the series' first
size. Texts of so many tokens have the packaged encoder's own tokenizer, the other series the one
that is made up. Then one long backlog: rate and memory by tenths.
"""

import argparse
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.benchmarks import circumstances
from tests.benchmarks.hostpath.__main__ import instant, texts
from tests.benchmarks.hostpath.run import Input, and_more, fill, run
from tests.benchmarks.results import add_argument, parsed, save, table
from worker.demo.broker import EmbeddedKafka

WORDS = "i feel so happy and a little sad about how this day went for all of us here"
SKEW = (8,) * 70 + (22,) * 20 + (64,) * 7 + (256,) * 2 + (512,)
"""Tokens of a hundred texts: most are short, a few are as long as the model takes."""
SERIES = {
    "partitions": (1, 4, 16, 64),
    "tokens a text": (8, 22, 64, 256, 512, "skewed"),
    "labels": (2, 6, 28, 150),
    "bytes of a key": (8, 36, 200),
    "headers": (0, 2, 20),
}
MEANING = {
    "partitions": lambda size: (Input(partitions=size), None, {}),
    "tokens a text": lambda size: (Input(), of_tokens(size), instant(tokenizer=True)),
    "labels": lambda size: (Input(), None, {"labels": size}),
    "bytes of a key": lambda size: (Input(key_bytes=size), None, {}),
    "headers": lambda size: (Input(headers=size), None, {}),
}


def of_tokens(size):
    """Texts of so many tokens, the two special ones included: each word here is one token."""
    words = WORDS.split() * 40
    lengths = SKEW if size == "skewed" else (size,)
    return [" ".join(words[: length - 2]) for length in lengths]


def series(bootstrap, name, given, directory):
    """Rates and microseconds of each size, by round."""
    plain, found = texts(), {}
    for size in SERIES[name]:
        like, own, _ = MEANING[name](size)
        fill(bootstrap, topic_of(name, size), own or plain, and_more(given.messages), like)
    for turn in range(given.rounds):
        for size in SERIES[name][:: -1 if turn % 2 else 1]:
            like, _, model = MEANING[name](size)
            figures = run(
                bootstrap, topic_of(name, size), messages=given.messages, directory=directory,
                name=f"{topic_of(name, size)}-{turn}", instant=model, partitions=like.partitions,
            )  # fmt: skip
            one = {"rate": figures.rate, "interpreter": figures.interpreter,
                   "megabytes": figures.megabytes}  # fmt: skip
            found.setdefault(str(size), []).append(one)
    return found


def topic_of(name, size):
    return f"{name.replace(' ', '-')}-{size}"


def long_backlog(bootstrap, messages, directory):
    """Messages/s and megabytes of each tenth."""
    fill(bootstrap, "long", texts(), and_more(messages))
    marks = []

    def watched(count, process):
        if count >= messages * (len(marks) + 1) // 10:
            marks.append((time.perf_counter(), count, process.resident_bytes() / 1e6))

    run(bootstrap, "long", messages=messages, name="long", directory=directory, watched=watched)
    assert len(marks) == 10, f"{messages} are too few: some commits were more than a tenth"
    return [
        {"rate": (count - before) / (at - since), "megabytes": resident}
        for (since, before, _), (at, count, resident) in pairwise(marks)
    ]


def report(found):
    """The tables, from what was written as JSON."""
    lines = []
    for name, sizes in found["series"].items():
        first = next(iter(sizes.values()))
        for size, runs in sizes.items():
            ratio = statistics.median(
                run["rate"] / base["rate"] for run, base in zip(runs, first, strict=True)
            )
            rate, interpreter = (
                statistics.median(run[what] for run in runs) for what in ("rate", "interpreter")
            )
            lines.append([name, size, f"{rate:,.0f}", f"{ratio:.2f}", f"{interpreter:.0f}"])
    head = ["series", "size", "messages/s", "ratio to the first", "interpreter, µs a record"]
    if "backlog" not in found:
        return table(head, lines)
    tenths = found["backlog"]["tenths"]
    backlog = [
        ["messages/s", *(f"{tenth['rate']:,.0f}" for tenth in tenths)],
        ["MB", *(f"{tenth['megabytes']:.0f}" for tenth in tenths)],
    ]
    numbers = [f"tenth {number}" for number in range(2, len(tenths) + 2)]
    total = f"A backlog of {found['backlog']['messages']:,}:"
    return f"{table(head, lines)}\n\n{total}\n\n{table(['', *numbers], backlog)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--series", help="part of a name, without the backlog")
    add_argument(parser)
    given = parsed(parser, "--series")
    chosen = [name for name in SERIES if given.series is None or given.series in name]
    start = circumstances.told()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        bootstrap, directory = kafka.bootstrap_servers, Path(folder)
        found = {name: series(bootstrap, name, given, directory) for name in chosen}
        results = {"circumstances": start, "rounds": given.rounds, "series": found}
        if given.series is None:
            tenths = long_backlog(bootstrap, given.backlog, directory)
            results["backlog"] = {"messages": given.backlog, "tenths": tenths}
    save("growth", results, keep=given.keep)
    print(f"{circumstances.line(start)}; {given.rounds} rounds\n\n{report(results)}")


if __name__ == "__main__":
    main()
