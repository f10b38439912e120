"""One run of the worker on a backlog: messages/s, and processor time by thread."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition

from tests.benchmarks.hostpath.report import Figures
from tests.support.kafka_helpers import Message, create_topic, produce
from tests.support.worker_process import ROOT, WorkerProcess

PY_SPY = Path(sys.executable).with_name("py-spy")
PROGRAM = Path(__file__).with_name("program.py")
PARTITIONS = 4
KEYS = 500
WARM = 10
"""The clock starts when a tenth of the messages is committed."""
LOOK_SECONDS = 0.02
SILENCE = 120.0
TICKS = os.sysconf("SC_CLK_TCK")

STAGES = ("poll", "assemble", "classify", "publish")
"""Threads of the worker that have a row of their own; the rest are mostly the client's."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What the messages of a backlog are like."""

    partitions: int = PARTITIONS
    key_bytes: int = 0
    """At least; 0: `user-N` as it is."""
    headers: int = 0
    header_bytes: int = 10
    """Of each header's value."""


def fill(
    bootstrap: str, topic: str, texts: list[str], messages: int, like: Input = Input()
) -> None:
    """Makes a topic with a backlog."""
    create_topic(bootstrap, topic, like.partitions)
    headers = tuple((f"header-{at}", b"v" * like.header_bytes) for at in range(like.headers))
    produce(
        bootstrap,
        topic,
        (
            Message(
                value=json.dumps({"text": texts[n % len(texts)], "id": n}).encode(),
                key=(b"user-%d" % (n % KEYS)).ljust(like.key_bytes, b"."),
                headers=headers,
            )
            for n in range(messages)
        ),
    )


def and_more(messages: int) -> int:
    """More than a run waits for, so that its last commit has work behind it, as all others have."""
    return messages + messages // 5


def run(
    bootstrap: str,
    topic: str,
    *,
    messages: int,
    name: str,
    directory: Path,
    guarantee: str = "at_least_once",
    root: Path = ROOT,
    instant: Mapping[str, Any] | None = None,
    flame: Path | None = None,
    partitions: int = PARTITIONS,
    watched: Callable[[int, WorkerProcess], None] = lambda *_: None,
) -> Figures:
    """A worker of a checkout on a backlog that is there already.

    Args:
        bootstrap: The broker.
        topic: The filled input topic.
        messages: How many to wait for; it holds more (`and_more`).
        name: Of this run: no other may have it.
        directory: For logs.
        guarantee: The setting.
        root: The checkout.
        instant: What the model does.
        flame: Gets a picture of where the interpreter's lock is held.
        partitions: Of the topic.
        watched: Called with how many are committed, again and again.
    """
    state = directory / f"state-{name}.json"
    process = worker(
        bootstrap, topic, name=name, state=state, directory=directory, guarantee=guarantee,
        root=root, instant=instant, partitions=partitions,
    )  # fmt: skip
    watch = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    try:
        with process:
            process.start()
            first = reached(watch, topic, messages // WARM, process, partitions=partitions)
            begin, before = time.perf_counter(), spent(process.process.pid)
            recorder = _record(process.process.pid, flame)
            last = reached(watch, topic, messages, process, partitions=partitions, watched=watched)
            took, after = time.perf_counter() - begin, spent(process.process.pid)
            assert last > first, f"{messages} messages are too few to measure: one commit had all"
            resident = process.resident_bytes()
            names = json.loads(state.read_text())["threads"]
            if recorder is not None:
                recorder.wait(60)
            assert process.stop() == 0, process.log()
    finally:
        watch.close()
    return _figures(names, before, after, records=last - first, took=took, resident=resident)


def worker(
    bootstrap: str,
    topic: str,
    *,
    name: str,
    state: Path,
    directory: Path,
    guarantee: str,
    replica: str = "r",
    root: Path = ROOT,
    instant: Mapping[str, Any] | None = None,
    partitions: int = PARTITIONS,
) -> WorkerProcess:
    """A worker that is not started yet; `name` is its group's."""
    for role in ("output", "dlq"):
        create_topic(bootstrap, f"{role}-{name}", partitions)
    process = WorkerProcess(
        bootstrap=bootstrap, directory=directory, group=name, input_topic=topic,
        output_topic=f"output-{name}", dlq_topic=f"dlq-{name}", delivery__guarantee=guarantee,
        kafka__replica_id=replica, log__level="warning", root=root,
    )  # fmt: skip
    process.command = [sys.executable, str(PROGRAM)]
    process.environment |= {"INSTANT": json.dumps(instant or {}), "STATE": str(state)}
    return process


def reached(
    watch: Consumer,
    topic: str,
    messages: int,
    process: WorkerProcess,
    *,
    partitions: int = PARTITIONS,
    watched: Callable[[int, WorkerProcess], None] = lambda *_: None,
) -> int:
    """Waits until so many are committed; returns how many are."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    seen, moved = 0, time.monotonic()
    while True:
        count = sum(max(0, one.offset) for one in watch.committed(places, timeout=30))
        watched(count, process)
        if count >= messages:
            return count
        if count > seen:
            seen, moved = count, time.monotonic()
        process.alive()
        assert time.monotonic() - moved < SILENCE, f"{count} of {messages}, then nothing"
        time.sleep(LOOK_SECONDS)


def spent(pid: int) -> dict[int, tuple[float, float]]:
    """User and system seconds by thread."""
    return {one.id: (one.user_time, one.system_time) for one in psutil.Process(pid).threads()}


def _record(pid: int, flame: Path | None) -> subprocess.Popen[bytes] | None:
    if flame is None:
        return None
    command = [str(PY_SPY), "record", "--pid", str(pid), "--gil", "--threads", "--rate", "200"]
    command += ["--duration", "4", "--format", "flamegraph", "--output", str(flame)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _figures(
    names: Mapping[str, str],
    before: Mapping[int, tuple[float, float]],
    after: Mapping[int, tuple[float, float]],
    *,
    records: int,
    took: float,
    resident: int,
) -> Figures:
    python: dict[str, float] = {}
    native = system = 0.0
    for thread, (user, kernel) in after.items():
        was_user, was_kernel = before.get(thread, (0.0, 0.0))
        spent = (user - was_user) / records * 1e6
        system += (kernel - was_kernel) / records * 1e6
        name = names.get(str(thread))
        if name is None:
            native += spent
        else:
            stage = stage_of(name)
            python[stage] = python.get(stage, 0.0) + spent
    return Figures(
        rate=records / took, python=python, native=native, system=system, megabytes=resident / 1e6
    )


def stage_of(thread: str) -> str:
    """The row of a thread."""
    return thread if thread in STAGES else "other"
