"""`emotion-worker demo`, read from top to bottom: Kafka, checkpoint, worker, stream, summary.

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
    from worker.demo.children import Child
    from worker.demo.options import DemoSettings
    from worker.demo.scrape import Scraper
    from worker.demo.show import Show
    from worker.demo.topics import DemoTopics
    from worker.kafka.clients import Connection

STOP_SECONDS = 30.0
"""For the worker to drain: its own deadline of 25 s and a little."""
END_SECONDS = 60.0
"""For reading what is left in the topics."""
BACKLOG = 5_000
"""Messages on their way at most: more wait unsent. It bounds the demo's memory, and the time
that `--forever` takes to end."""


def demo(options: list[str]) -> int:
    """Runs the demo.

    Args:
        options: Command-line options, without the program and the command.

    Returns:
        0: nothing was lost and the worker drained; 1: failed; 130: interrupted.

    Raises:
        Refused: An option, an installed extra or a folder is not usable.
    """
    with Stop() as stop:
        try:
            return _demo(options, stop)
        except Interrupted:
            return _say("interrupted; everything that was started is stopped", EXIT_INTERRUPTED)
        except BrokenPipeError:
            # `| head` has read enough. Else the interpreter complains once more as it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        except Refused:
            raise
        except Fatal as error:
            return _say(str(error), EXIT_FAILED)
        except SystemExit as help_was_printed:
            return int(help_was_printed.code or 0)


def _demo(options: list[str], stop: Stop) -> int:
    from worker.demo import setup  # noqa: PLC0415
    from worker.demo.options import load  # noqa: PLC0415 - signals are caught before slow imports

    settings = load(options)
    setup.require(settings)
    from worker.demo.show import Show  # noqa: PLC0415

    show = Show()
    with show.farewell(), contextlib.ExitStack() as stack:
        folder = stack.enter_context(setup.folder())
        servers = stack.enter_context(setup.kafka(settings, show, stop, folder))
        checkpoint = setup.checkpoint(settings, show, stop, folder)
        link, topics = stack.enter_context(setup.topics(settings, servers, show, stop))
        worker = setup.start_worker(checkpoint, servers, topics, folder)
        stop.children.append(worker)
        stack.callback(worker.stop, STOP_SECONDS)
        stack.push(show.stopping)
        scraper = setup.await_worker(worker, show, stop)
        return _stream(settings, show, stop, _Running(link, topics, worker, scraper))


@dataclass(frozen=True, slots=True)
class _Running:
    link: Connection
    topics: DemoTopics
    worker: Child
    scraper: Scraper


def _stream(settings: DemoSettings, show: Show, stop: Stop, running: _Running) -> int:
    from worker.demo import sentences, setup, summary, topics  # noqa: PLC0415
    from worker.demo.checkpoint import sentences_folder  # noqa: PLC0415
    from worker.demo.ledger import Ledger  # noqa: PLC0415
    from worker.demo.source import Source  # noqa: PLC0415
    from worker.demo.watch import Watch  # noqa: PLC0415

    texts = sentences.Sentences.read(sentences_folder())
    ledger = Ledger(answers=texts.answers())
    with contextlib.ExitStack() as stack:
        reader = topics.Reader(link=running.link, topics=running.topics, ledger=ledger)
        stack.callback(reader.close)
        source = Source(
            producer=topics.producer(running.link),
            topic=running.topics.input,
            messages=sentences.stream(texts, settings.messages, forever=settings.forever),
            rate=settings.rate,
            may_send=lambda: source.sent - ledger.settled < BACKLOG,
        )
        stack.callback(source.close)
        watch = Watch(
            ledger=ledger,
            reader=reader,
            source=source,
            worker=running.worker,
            scraper=running.scraper,
            stop=stop,
            total=None if settings.forever else settings.messages,
            topics=(running.topics.input, running.topics.output),
        )
        many = "messages until Ctrl-C" if settings.forever else f"{settings.messages:,} messages"
        show.line(f"Streaming {many}, {settings.rate:g} a second")
        with show.stream() as screen:
            watch.run(screen)
        with show.step("Draining the worker and reading the topics to their end"):
            code = running.worker.stop(STOP_SECONDS)
            deadline = time.monotonic() + END_SECONDS
            while reader.behind() and time.monotonic() < deadline:
                reader.read(1.0)
                stop.check()
            stop.check()
    show.summary(summary.rows(ledger, worker_code=code))
    show.line(f"The logs are in {setup.FOLDER}, and unless you gave one, so is the checkpoint.")
    problem = summary.problem(ledger, worker_code=code)
    if problem is not None:
        raise Fatal(f"{problem} (the worker's log: {running.worker.log})")
    return EXIT_DRAINED


def _say(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"emotion-worker: {line}\n")
    return code
