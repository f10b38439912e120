"""`emotion-worker demo`, read from top to bottom: checkpoint, Kafka, worker, stream, summary.

Nothing is left running: what is started is stopped on every way out, and if the demo itself is
killed, its children notice and end themselves.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.demo.stop import Interrupted, Stop
from worker.errors import EXIT_DRAINED, EXIT_FAILED, EXIT_INTERRUPTED, Fatal, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from worker.demo.options import DemoSettings
    from worker.demo.setup import Broker
    from worker.demo.show import Show
    from worker.demo.supervisor import Supervisor
    from worker.demo.topics import DemoTopics, Reader
    from worker.kafka.cluster.clients import Connection

END_SECONDS = 60.0
"""For reading what is left in the topics."""
READ_SECONDS = 0.1
"""Longest wait for records before looking whether there is more to wait for."""
INTERRUPTED_SECONDS = 3.0
"""The same after Ctrl-C. A worker that was killed before may have left an open transaction, and
readers of what is committed wait for its end, which comes after 15 s."""


def demo(options: list[str]) -> int:
    """Runs the demo.

    Args:
        options: Command-line options, without the program and the command.

    Returns:
        0: nothing was lost or doubled and the worker drained; 1: failed; 130: interrupted.

    Raises:
        Refused: An option, an installed extra or a folder is not usable.
    """
    with Stop() as stop:
        try:
            code = _demo(options, stop)
        except Interrupted:
            code = EXIT_INTERRUPTED
        except BrokenPipeError:
            # `| head` has read enough. Else the interpreter complains once more as it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        except Refused:
            raise
        except Fatal as error:
            return _say(str(error), EXIT_FAILED)
        except OSError as error:  # a full disk, too many files
            return _say(f"the demo cannot go on: {error}", EXIT_FAILED)
        except SystemExit as help_was_printed:
            return int(help_was_printed.code or 0)
    if code == EXIT_INTERRUPTED:
        _say("interrupted; everything that was started is stopped", code)
    return code


def _demo(options: list[str], stop: Stop) -> int:
    from worker.demo import setup  # noqa: PLC0415
    from worker.demo.options import load  # noqa: PLC0415 - signals are caught before slow imports

    settings = load(options)
    setup.require(settings)
    from worker.demo.show import Show  # noqa: PLC0415

    show = Show()
    try:
        with show.farewell():
            return _run(settings, show, stop)
    except Interrupted:
        from worker.demo import summary  # noqa: PLC0415

        show.begun("No message was sent.")
        show.commands([summary.again()])
        show.line(summary.NO_FAULT)
        raise


def _run(settings: DemoSettings, show: Show, stop: Stop) -> int:
    from worker.demo import setup  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(setup.folder())
        checkpoint, training = setup.training(settings, show, stop, folder)
        if training is not None:
            stack.enter_context(training)
            stack.push(show.stopping)
        beside = " beside the training" if training is not None else ""
        broker = stack.enter_context(setup.kafka(settings, show, stop, folder, beside=beside))
        if training is not None:
            setup.trained(training, show, stop)
        link, topics = stack.enter_context(setup.topics(settings, broker.servers, show, stop))
        supervisor = setup.worker(checkpoint, broker, topics, folder=folder, stop=stop)
        stack.callback(supervisor.stop)
        stack.push(show.stopping)
        seconds = setup.ready(supervisor, show, stop)
        running = _Running(checkpoint, broker, link, topics, supervisor, seconds)
        return _stream(settings, show, stop, running)


@dataclass(frozen=True, slots=True)
class _Running:
    checkpoint: Path
    broker: Broker
    link: Connection
    topics: DemoTopics
    supervisor: Supervisor
    start_seconds: float


def _stream(settings: DemoSettings, show: Show, stop: Stop, running: _Running) -> int:
    from worker.demo import sentences, summary, topics  # noqa: PLC0415
    from worker.demo.checkpoint import sentences_folder  # noqa: PLC0415
    from worker.demo.ledger import Ledger  # noqa: PLC0415
    from worker.demo.phases import FEWEST  # noqa: PLC0415
    from worker.demo.source import Source  # noqa: PLC0415
    from worker.demo.watch import Watch  # noqa: PLC0415

    texts = sentences.Sentences.read(sentences_folder())
    ledger = Ledger(answers=texts.answers())
    interrupted = False
    with contextlib.ExitStack() as stack:
        reader = topics.Reader(link=running.link, topics=running.topics, ledger=ledger)
        stack.callback(reader.close)
        source = Source(
            producer=topics.producer(running.link),
            topic=running.topics.input,
            messages=sentences.stream(texts, settings.messages or FEWEST, forever=True),
            settled=lambda: ledger.settled,
        )
        stack.callback(source.abandon)
        watch = Watch(
            ledger=ledger,
            reader=reader,
            source=source,
            supervisor=running.supervisor,
            stop=stop,
            check_broker=running.broker.check,
            wishes=settings.wishes(),
            start_seconds=running.start_seconds,
            topics=(running.topics.input, running.topics.output),
        )
        show.line("Streaming" + (" until Ctrl-C" if settings.forever else ""))
        with show.stream() as screen:
            try:
                watch.run(screen)
            except Interrupted:
                if settings.forever:
                    watch.finish(screen)
                else:
                    interrupted = True
        with show.step("Draining the worker and reading the topics to their end"):
            source.close()
            # Read on: what is labelled now would else count as late.
            code = running.supervisor.stop(lambda: reader.read(READ_SECONDS))
            interrupted = interrupted or stop.heed()
            _read_all(reader, INTERRUPTED_SECONDS if interrupted else END_SECONDS)
    show.summary(
        summary.phases(ledger),
        summary.rows(
            ledger,
            worker_code=code,
            capacity=watch.capacity,
            outage=watch.outage,
            interrupted=interrupted,
        ),
        title="Summary so far" if interrupted else "Summary",
    )
    nexts = summary.commands(running.checkpoint, sentences_folder())
    if interrupted:
        show.commands([summary.again(), *nexts])
        show.line(summary.NO_FAULT)
        return EXIT_INTERRUPTED
    problem = summary.problem(ledger, worker_code=code)
    if problem is not None:
        raise Fatal(f"{problem} (the worker's log: {running.supervisor.log})")
    show.commands(nexts)
    return EXIT_DRAINED


def _read_all(reader: Reader, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while reader.behind() and time.monotonic() < deadline:
        reader.read(READ_SECONDS)


def _say(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"emotion-worker: {line}\n")
    return code
