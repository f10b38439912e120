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

    from worker.check_options import CheckSettings
    from worker.kafka.cluster.clients import Connection
    from worker.model.budget import Trial
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

    def table(self, lines: list[str]) -> None:
        """Prints lines that belong to the one before them."""
        self._print("\n".join(lines), sys.stdout)

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


def check(settings: CheckSettings) -> int:
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

    checkpoint = read(settings.model.checkpoint, abstain=settings.model.abstain)
    load_tokenizer(checkpoint)
    line = f"{checkpoint.name} {checkpoint.version}, labels {', '.join(checkpoint.labels)}"
    if (limits := checkpoint.abstention) is not None:
        line += f"; abstains below score {limits.score:g} or above energy {limits.energy:g}"
    report.ok("checkpoint", line)
    return checkpoint


def _device(settings: CheckSettings, checkpoint: Checkpoint | None, report: Report) -> None:
    """Loads the model; without a checkpoint, only checks that the device exists."""
    wanted = settings.model
    if checkpoint is None:
        from worker.model.device import choose_device  # noqa: PLC0415 - seconds, of torch

        device = choose_device(wanted.device)
        report.ok("device", f"{device}; nothing was computed without a checkpoint")
        return
    from worker.model import budget  # noqa: PLC0415
    from worker.model.load import load  # noqa: PLC0415

    model = load(
        path=wanted.checkpoint,
        device=wanted.device,
        dtype=wanted.dtype,
        rows=wanted.rows,
        threads=wanted.threads,
        processes=settings.processes,
        checkpoint=checkpoint,
    )
    dtype = str(model.dtype).removeprefix("torch.")
    rows = "packed" if model.layout.packed else "padded"
    place = f"{model.device} ({model.gpu})" if model.gpu else model.device
    most = settings.batch.max_tokens
    size = f"{most} tokens" if most else "as many tokens as it measures at the start"
    report.ok("device", f"{place} in {dtype}, {rows} rows, batches of {size}")
    if settings.calibrate:
        trials = budget.measured(model, max_seconds=settings.batch.max_seconds)
        report.table(_measured(trials, settings))


def _measured(trials: list[Trial], settings: CheckSettings) -> list[str]:
    """The table of batches that were tried."""
    from worker.model.budget import choice  # noqa: PLC0415

    limit = settings.batch.max_seconds
    chosen = choice(trials, max_seconds=limit) if trials else None
    lines = [f"{'tokens':>9} {'batch ms':>10} {'tokens/s':>10}"]
    for trial in trials:
        note = "  chosen" if trial is chosen else ""
        if trial.undisturbed > limit:
            note += f"  longer than batch.max_seconds, {limit:g} s"
        lines.append(f"{trial.tokens:9} {trial.seconds * 1_000:10.1f} {trial.rate:10,.0f}{note}")
    if settings.batch.max_tokens is not None:
        lines.append(f"batch.max_tokens is set, and counts: {settings.batch.max_tokens}")
    return lines


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
