"""The stream on a worker that is ready: wired, played, and drained."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.demo import sentences, topics
from worker.demo.guard import Guard
from worker.demo.ledger import Ledger
from worker.demo.phases import FEWEST, names
from worker.demo.reader import Reader
from worker.demo.recorder import Recorder
from worker.demo.scenario import Scenario
from worker.demo.sender import Sender
from worker.demo.stop import Interrupted
from worker.demo.trainer import sentences_folder
from worker.demo.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.demo.outage import Outage
    from worker.demo.phases import Wishes
    from worker.demo.stop import Stop
    from worker.demo.supervisor import Supervisor
    from worker.demo.terminal import LiveView, Terminal
    from worker.demo.topics import DemoTopics
    from worker.kafka.cluster.clients import Connection

END_SECONDS = 60.0
"""For reading what is left in the topics."""
READ_SECONDS = 0.1
"""Longest wait for records before looking whether there is more to wait for."""
INTERRUPTED_SECONDS = 3.0
"""For reading what is left after Ctrl-C. A worker that was killed before may have left an open
transaction, and readers of what is committed wait for its end, which comes after 15 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the stream runs on."""

    link: Connection
    topics: DemoTopics
    supervisor: Supervisor
    check_broker: Callable[[], None]
    """Raises where the demo's own broker has ended."""
    start_seconds: float
    """How long the worker took to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What came of the stream."""

    ledger: Ledger
    worker_code: int | None
    """The last worker's exit code; None: it had to be killed."""
    capacity: float | None
    """Outputs a second at full load; None where it was not measured."""
    outage: Outage | None
    """What the kill did; None where there was none."""
    interrupted: bool
    """It was ended early: messages without an output are not lost."""


def stream(wishes: Wishes, running: Running, *, terminal: Terminal, stop: Stop) -> Streamed:
    """Sends the stream, shows it, drains the worker and reads the topics to their end.

    Args:
        wishes: What the user asked for.
        running: What it runs on.
        terminal: Where it is shown.
        stop: The user's wish to end.

    Raises:
        Refused: A successor of the worker refuses its settings, its checkpoint or its topics.
        Fatal: The worker ended or is stuck, the broker ended, or a message cannot be sent.
    """
    texts = sentences.Sentences.read(sentences_folder())
    ledger = Ledger(answers=texts.answers())
    with contextlib.ExitStack() as stack:
        reader = Reader(link=running.link, topics=running.topics, ledger=ledger)
        stack.callback(reader.close)
        sender = Sender(
            producer=topics.producer(running.link),
            topic=running.topics.input,
            messages=sentences.stream(texts, wishes.messages or FEWEST, forever=True),
            settled=lambda: ledger.settled,
        )
        stack.callback(sender.abandon)
        terminal.line("Streaming" + (" until Ctrl-C" if wishes.forever else ""))
        with terminal.live_view() as view:
            watch = _watch(
                wishes, running, stop=stop, ledger=ledger, reader=reader, sender=sender, view=view
            )
            scenario = Scenario(
                wishes=wishes,
                start_seconds=running.start_seconds,
                sender=sender,
                ledger=ledger,
                supervisor=running.supervisor,
                watch=watch,
            )
            interrupted = _play(scenario, forever=wishes.forever)
        with terminal.step("Draining the worker and reading the topics to their end"):
            sender.close()
            # Read on: what is labelled now would else count as late.
            code = running.supervisor.stop(lambda: reader.read(READ_SECONDS))
            interrupted = interrupted or stop.heed()
            _read_all(reader, INTERRUPTED_SECONDS if interrupted else END_SECONDS)
    return Streamed(
        ledger=ledger,
        worker_code=code,
        capacity=scenario.capacity,
        outage=watch.outage,
        interrupted=interrupted,
    )


def _watch(
    wishes: Wishes,
    running: Running,
    *,
    stop: Stop,
    ledger: Ledger,
    reader: Reader,
    sender: Sender,
    view: LiveView,
) -> Watch:
    supervisor, now = running.supervisor, time.monotonic()
    guard = Guard(
        stop=stop,
        check_broker=running.check_broker,
        sender=sender,
        supervisor=supervisor,
        ledger=ledger,
        now=now,
    )
    recorder = Recorder(
        ledger=ledger,
        sender=sender,
        supervisor=supervisor,
        topics=(running.topics.input, running.topics.output),
        now=now,
    )
    return Watch(
        reader=reader,
        ledger=ledger,
        guard=guard,
        recorder=recorder,
        supervisor=supervisor,
        view=view,
        phases=names(wishes),
        total=wishes.messages,
    )


def _play(scenario: Scenario, *, forever: bool) -> bool:
    """Runs the scenario; returns whether it was interrupted, which a stream without end is not."""
    try:
        scenario.run()
    except Interrupted:
        if not forever:
            return True
        scenario.finish()
    return False


def _read_all(reader: Reader, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while reader.behind() and time.monotonic() < deadline:
        reader.read(READ_SECONDS)
