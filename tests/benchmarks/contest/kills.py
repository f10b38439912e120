"""Damage: a steady stream, kill -9 at marks of progress, and what a reader misses or has twice."""

import sys
import time
from dataclasses import dataclass

from tests.benchmarks.contest import figures
from tests.benchmarks.contest.contestants import Contestant, Running, process
from tests.benchmarks.contest.figures import Damage
from tests.benchmarks.contest.outputs import Outputs
from tests.benchmarks.contest.place import KEYS, PARTITIONS, Place
from tests.benchmarks.contest.rounds import SILENCE
from tests.support.audit import audit, read_committed
from tests.support.conductor import Progress
from tests.support.feeder import Feeder

QUIET = 10.0
"""Seconds without an output after which a run that has committed everything is over. Longer than
the five seconds between a client's own commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The same for every contestant."""

    messages: int
    per_second: float
    """Of the stream, but it is held back half way to the mark after the next."""
    kills: int = 3
    seed: int = 14


def contest(place: Place, contestants: list[Contestant], schedule: Schedule) -> dict[str, Damage]:
    found = {}
    for contestant in contestants:
        found[contestant.name] = damage = run(place, contestant, schedule)
        print(f"killed {schedule.kills} times: {contestant.name}: {damage}", file=sys.stderr,
              flush=True)  # fmt: skip
    return found


def run(place: Place, contestant: Contestant, schedule: Schedule) -> Damage:
    """The stream through one contestant; every kill is followed by a start."""
    job = place.job(contestant, append_time=False)
    feeder = Feeder(place.bootstrap, job.input_topic, schedule.messages, keys=KEYS, text=place.text)
    running = process(contestant, job, pythons=place.pythons, directory=place.directory)
    outputs = Outputs(place.bootstrap, job.output_topic, PARTITIONS)
    progress = Progress(place.bootstrap, job.input_topic, PARTITIONS)
    try:
        running.start()
        stream(feeder, running, outputs, progress, schedule)
        settle(running, outputs, progress, schedule.messages)
        running.stop()
    finally:
        running.kill()
        outputs.close()
        progress.close()
    verdict = audit(
        read_committed(place.bootstrap, job.input_topic),
        read_committed(place.bootstrap, job.output_topic),
        read_committed(place.bootstrap, f"{job.input_topic}.dlq"),
        topic=job.input_topic,
        expected=None,
    )
    return figures.damage(verdict)


def stream(
    feeder: Feeder, running: Running, outputs: Outputs, progress: Progress, schedule: Schedule
) -> None:
    """Feeds at a steady rate and kills at the marks, until all is fed and every kill has struck."""
    due = list(
        zip(
            figures.marks(schedule.messages, schedule.kills),
            figures.delays(schedule.kills, schedule.seed),
            strict=True,
        )
    )
    began = time.monotonic()
    while due or feeder.sent < feeder.total:
        steady = int((time.monotonic() - began) * schedule.per_second)
        next_mark = due[0][0] if due else None
        feeder.feed(figures.allowed(steady, next_mark, schedule.messages, schedule.kills))
        done = max(outputs.read(timeout=0.02), progress.settled())  # what is lost is done too
        if due and done >= due[0][0]:
            _, delay = due.pop(0)
            time.sleep(delay)
            running.kill()
            running.start()
            outputs.moved = time.monotonic()
        watch(running, outputs)
    feeder.finish()


def settle(running: Running, outputs: Outputs, progress: Progress, messages: int) -> None:
    """Until the group has committed all of the input, and nothing more comes."""
    while progress.settled() < messages or time.monotonic() - outputs.moved < QUIET:
        outputs.read(timeout=0.2)
        watch(running, outputs)


def watch(running: Running, outputs: Outputs) -> None:
    running.alive()
    silent = time.monotonic() - outputs.moved
    assert silent < SILENCE, f"nothing for {silent:.0f} s: {len(outputs.appended)} answered"
