"""Speed: a run of each contestant on a backlog, in rounds, in turns."""

import sys
import time
from dataclasses import dataclass, field

from tests.benchmarks.contest import reference
from tests.benchmarks.contest.contestants import Contestant, Running, process
from tests.benchmarks.contest.outputs import Outputs
from tests.benchmarks.contest.place import KEYS, PARTITIONS, Place
from tests.support.feeder import Feeder

WARM = 10
"""A tenth of the messages comes before the clock."""
SILENCE = 180.0
"""Seconds without an output after which a run has failed: a busy machine loads torch in 60."""


@dataclass(kw_only=True)
class Rates:
    """By contestant, a value for each round."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    """Of the last round."""


def contest(place: Place, contestants: list[Contestant], *, rounds: int, messages: int) -> Rates:
    """Every contestant once in each round, on fresh topics with the same messages."""
    expected = reference.labels(place.checkpoint, place.texts[: messages + messages // WARM])
    found = Rates(rates={each.name: [] for each in contestants})
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            rate, labels = run(place, contestant, messages)
            found.rates[contestant.name].append(rate)
            agreement = place.agreement(labels, expected)
            found.agreement[contestant.name] = agreement
            note = "" if agreement >= reference.GATE else ": misses the score gate"
            print(
                f"round {number + 1}: {contestant.name}: {rate:,.0f} messages/s, "
                f"labels {agreement:.3f}{note}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return found


def run(place: Place, contestant: Contestant, messages: int) -> tuple[float, dict[int, str]]:
    """Messages/s on a backlog, and the labels by the messages' numbers.

    The clock starts when the contestant is up and warm: it has answered a first, shorter backlog.
    """
    warm = messages // WARM
    job = place.job(contestant, append_time=True)
    feeder = Feeder(place.bootstrap, job.input_topic, warm + messages, keys=KEYS, text=place.text)
    running = process(contestant, job, pythons=place.pythons, directory=place.directory)
    outputs = Outputs(place.bootstrap, job.output_topic, PARTITIONS)
    try:
        running.start()
        feed(feeder, warm)
        answered(running, outputs, warm)
        began = time.monotonic()
        feed(feeder, warm + messages)
        answered(running, outputs, warm + messages)
        took = outputs.moved - began
        running.stop()
    finally:
        running.kill()
        outputs.close()
    return messages / took, outputs.labels


def feed(feeder: Feeder, up_to: int) -> None:
    """Input up to a number, acknowledged."""
    while feeder.sent < up_to:
        feeder.feed(up_to)
    feeder.finish()


def answered(running: Running, outputs: Outputs, messages: int) -> None:
    """Waits until that many are."""
    outputs.moved = time.monotonic()
    while outputs.read(timeout=0.5) < messages:
        running.alive()
        silent = time.monotonic() - outputs.moved
        assert silent < SILENCE, f"{len(outputs.appended)} of {messages} answered, then nothing"
