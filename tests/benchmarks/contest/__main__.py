"""The worker beside what users would pick: same topics, texts, checkpoint and machine, in turns.

    python -m tests.benchmarks.contest [--rounds 5] [--messages N] [--only a,b] [--quick]
    python -m tests.benchmarks.contest --kill [--messages N] [--rate N] [--only a,b] [--quick]

The first form measures messages/s on a backlog. The clock runs from the moment when the backlog is
sent, to a contestant that is up and has answered a tenth as many before, until a `read_committed`
reader has the last output. So neither start nor cold caches count. The second form kills each
contestant three times with -9 under a steady stream, and counts what a `read_committed` reader
misses, has twice or has out of order.

Prints a Markdown table, and writes all figures to a JSON file with hardware, versions, commit and
date. `NAME@float32` after `--only` asks for a precision.
"""

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import circumstances, results
from tests.benchmarks.checkpoint import fine_tuned
from tests.benchmarks.contest import environment, figures, kills, rounds
from tests.benchmarks.contest.contestants import Contestant, chosen
from tests.benchmarks.contest.place import Place, exported, interpreters
from worker.demo.broker import EmbeddedKafka
from worker.model.device import choose_dtype

BASE = "worker"


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kill", action="store_true", help="count damage in place of speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, help="default: 5,000; with --kill 4,000")
    parser.add_argument("--rate", type=float, default=80.0, help="messages/s with --kill")
    parser.add_argument("--only", type=chosen, default="", help="names, with commas between")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 800; 1,200 with --kill")
    parser.add_argument("--dtype", default="auto", help="of the torch models; auto: the worker's")
    parser.add_argument("--checkpoint", type=Path, help="default: trained first")
    results.add_argument(parser)
    return results.parsed(parser, "--quick")


def main() -> None:
    given = asked()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no contestant is left behind
    contestants: list[Contestant] = given.only
    texts = circumstances.texts()
    dtype = given.dtype
    if dtype == "auto":
        dtype = str(choose_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    start = circumstances.told()
    versions = environment.versions({each.requirements for each in contestants})
    with EmbeddedKafka(start_timeout=300) as kafka, tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        checkpoint = given.checkpoint or fine_tuned(directory / "checkpoint")
        pythons = interpreters(contestants)
        choice = {}
        if any(each.module == "onnx_sorted" for each in contestants):
            choice = exported(checkpoint, texts, pythons[environment.STREAMS])
            print(json.dumps(choice, indent=1), file=sys.stderr, flush=True)
        place = Place(
            bootstrap=kafka.bootstrap_servers,
            checkpoint=checkpoint.absolute(),
            texts=circumstances.read_texts(texts),
            dtype=dtype,
            directory=directory,
            pythons=pythons,
            choice=choice,
        )
        titles = {each.name: title(each, place) for each in contestants}
        found, table = measure(place, contestants, titles, given)
    everything = {
        "circumstances": {**start, "versions_of_the_baselines": versions},
        "dtype": dtype,
        "texts": texts.parent.name + "/" + texts.name,
        "onnx": {name: value for name, value in choice.items() if name != "model"},
        "titles": titles,
        **found,
    }
    results.save(f"{'kills' if given.kill else 'contest'}-{dtype}", everything, keep=given.keep)
    shown = {name: versions[name] for name in environment.NAMED if name in versions}
    print(f"{circumstances.line(start, **shown)}\n\n{table}")


def measure(
    place: Place, contestants: list[Contestant], titles: dict[str, str], given: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """The figures and their table."""
    if given.kill:
        messages = given.messages or (1_200 if given.quick else 4_000)
        schedule = kills.Schedule(messages=messages, per_second=given.rate)
        damage = kills.contest(place, contestants, schedule)
        told = {
            "schedule": asdict(schedule),
            "damage": {name: asdict(each) for name, each in damage.items()},
        }
        return told, figures.kill_table(titles, damage)
    messages = given.messages or (800 if given.quick else 5_000)
    number = 2 if given.quick else given.rounds
    found = rounds.contest(place, contestants, rounds=number, messages=messages)
    told = {"messages": messages, "rounds": number, **asdict(found)}
    if BASE in found.rates:
        relative = figures.ratios(found.rates, BASE)
        told["ratios"] = {name: asdict(each) for name, each in relative.items()}
    return told, figures.speed_table(titles, found.rates, found.agreement, base=BASE)


def title(contestant: Contestant, place: Place) -> str:
    """With its precision."""
    if contestant.dtype:
        return contestant.title
    precision = place.dtype if contestant.torch else place.choice.get("precision", "")
    return f"{contestant.title}, {precision}"


if __name__ == "__main__":
    main()
