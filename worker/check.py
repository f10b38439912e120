"""`emotion-worker check`: whether settings, checkpoint, cluster, topics and device are usable.

One run checks everything and shows every problem; each result is printed as soon as it is known:

    main thread      checkpoint (no torch) -> import torch -> device, weights, precision
                                           ↑
    cluster's thread anything listening? ──┴─> topics and permissions

The import of torch waits for the first of the cluster's answers, which takes no time if a broker
listens: during the import other threads wait for the GIL, for seconds.

What is usable is printed to standard output, what is not to standard error.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, TextIO

from worker.classifier import batching
from worker.connect import checked, connection
from worker.errors import (
    EXIT_DRAINED,
    EXIT_FAILED,
    EXIT_REFUSED,
    DeviceLost,
    Refused,
    Transient,
)
from worker.kafka.cluster.clients import misplaced
from worker.kafka.cluster.probe import PATIENCE, unreachable
from worker.kafka.cluster.topics import TopicDesk

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.cluster.clients import Connection
    from worker.model.checkpoint import Checkpoint
    from worker.settings import Settings


class Report:
    """Prints lines, from any thread, and derives the exit code from them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: set[int] = set()

    def ok(self, what: str, line: str) -> None:
        """Prints that something is usable."""
        self._print(f"{what:<11} ok: {line}", sys.stdout)

    def wrong(self, error: Refused | Transient | DeviceLost) -> None:
        """Prints what is wrong."""
        with self._lock:
            self._codes.add(EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED)
        for line in str(error).splitlines():
            self._print(f"emotion-worker: {line}", sys.stderr)

    @property
    def code(self) -> int:
        """2 if a person has to change something; 1 if only a broker is away, or a GPU is lost."""
        return max(self._codes, default=EXIT_DRAINED)

    def _print(self, line: str, stream: TextIO) -> None:
        with self._lock:
            print(line, file=stream, flush=True)


def check(settings: Settings) -> int:
    """Prints a line for each thing that is usable or not; returns the exit code.

    0: all is usable. 1: the only problem is that no broker can be reached, or that the GPU is lost.
    2: something else is wrong.
    """
    report = Report()
    failures: list[BaseException] = []

    looked = threading.Event()

    def ask_cluster() -> None:
        try:
            _cluster(settings, report, looked)
        except BaseException as error:  # noqa: BLE001 - at a thread's boundary: raised below
            failures.append(error)
        finally:
            looked.set()

    cluster = threading.Thread(target=ask_cluster, name="cluster", daemon=True)
    cluster.start()
    checkpoint = _attempt(lambda: _checkpoint(settings, report), report)
    looked.wait(PATIENCE)
    _attempt(lambda: _device(settings, checkpoint, report), report)
    cluster.join()
    if failures:
        raise failures[0]
    return report.code


def _attempt(question: Callable[[], Checkpoint | None], report: Report) -> Checkpoint | None:
    try:
        return question()
    except (Refused, Transient, DeviceLost) as error:
        report.wrong(error)
        return None


def _checkpoint(settings: Settings, report: Report) -> Checkpoint:
    from worker.model.checkpoint import read  # noqa: PLC0415 - on demand, as all of the model
    from worker.model.tokenizer import load_tokenizer  # noqa: PLC0415

    checkpoint = read(settings.model.checkpoint)
    load_tokenizer(checkpoint)
    labels = ", ".join(checkpoint.labels)
    report.ok("checkpoint", f"{checkpoint.name} {checkpoint.version}, labels {labels}")
    return checkpoint


def _device(settings: Settings, checkpoint: Checkpoint | None, report: Report) -> None:
    """Loads the model; without a checkpoint, only checks that the device exists."""
    wanted = settings.model
    if checkpoint is None:
        from worker.model.device import choose_device  # noqa: PLC0415 - seconds, of torch

        device = choose_device(wanted.device)
        report.ok("device", f"{device}; nothing was computed without a checkpoint")
        return
    from worker.model.classifier import load  # noqa: PLC0415

    model = load(
        path=wanted.checkpoint,
        device=wanted.device,
        dtype=wanted.dtype,
        threads=wanted.threads,
        checkpoint=checkpoint,
    )
    limits = batching(
        model.limits,
        max_records=settings.batch.max_records,
        max_tokens=settings.batch.max_tokens,
        in_flight=settings.batch.in_flight,
    )
    dtype = str(model.dtype).removeprefix("torch.")
    place = f"{model.device} ({model.gpu})" if model.gpu else model.device
    report.ok("device", f"{place} in {dtype}, batches of {limits.max_records} records")


def _cluster(settings: Settings, report: Report, looked: threading.Event) -> None:
    """Checks the cluster and the topics; sets `looked` once it knows whether a broker listens."""
    link = connection(settings)
    try:
        link.security.check()
    except Refused as error:
        report.wrong(error)
        return
    desk = TopicDesk(connection=link)
    try:
        _reach(link)
        looked.set()
        topics = checked(desk, settings)
        advertised = link.examine().advertised
    except (Refused, Transient) as error:
        report.wrong(error)
        return
    finally:
        desk.close()
    for topic in (topics.input, topics.output, topics.dlq):
        report.ok("topic", f"{topic.name}, {topic.partitions} partitions")
    if advertised:  # of brokers that were not needed yet
        report.wrong(Transient(misplaced(advertised)))


def _reach(link: Connection) -> None:
    """Fails at once if no broker listens; a broker that is slow is left to the client.

    Raises:
        Transient: Nothing listens at any of the addresses.
    """
    away = unreachable(link.servers)
    if away:
        raise Transient(link.no_answer(away))
