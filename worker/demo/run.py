"""`emotion-worker demo`, read from top to bottom: checkpoint, Kafka, worker, stream, summary.

Nothing is left running: what is started is stopped on every way out, and if the demo itself is
killed, its children notice and end themselves.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from worker.demo.stop import Interrupted, Stop
from worker.errors import EXIT_DRAINED, EXIT_FAILED, EXIT_INTERRUPTED, Fatal, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from worker.demo.options import DemoSettings
    from worker.demo.stream import Streamed
    from worker.demo.terminal import Terminal


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
    from worker.demo.terminal import Terminal  # noqa: PLC0415

    terminal = Terminal()
    try:
        with terminal.farewell():
            return _run(settings, terminal, stop)
    except Interrupted:
        from worker.demo import summary  # noqa: PLC0415

        terminal.begun("No message was sent.")
        terminal.commands([summary.again()])
        terminal.line(summary.NO_FAULT)
        raise


def _run(settings: DemoSettings, terminal: Terminal, stop: Stop) -> int:
    from worker.demo import setup  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(setup.folder())
        checkpoint, training = setup.training(settings, terminal, stop, folder)
        if training is not None:
            stack.enter_context(training)
            stack.push(terminal.stopping)
        beside = " beside the training" if training is not None else ""
        broker = stack.enter_context(setup.kafka(settings, terminal, stop, folder, beside=beside))
        if training is not None:
            setup.trained(training, terminal, stop)
        link, topics = stack.enter_context(setup.topics(settings, broker.servers, terminal, stop))
        supervisor = setup.worker(checkpoint, broker, topics, folder=folder, stop=stop)
        stack.callback(supervisor.stop)
        stack.push(terminal.stopping)
        seconds = setup.ready(supervisor, terminal, stop)
        from worker.demo.stream import Running, stream  # noqa: PLC0415 - needs a client

        running = Running(
            link=link,
            topics=topics,
            supervisor=supervisor,
            check_broker=broker.check,
            start_seconds=seconds,
        )
        streamed = stream(settings.wishes(), running, terminal=terminal, stop=stop)
        return _sum_up(streamed, terminal, checkpoint, log=supervisor.log)


def _sum_up(streamed: Streamed, terminal: Terminal, checkpoint: Path, *, log: Path) -> int:
    from worker.demo import summary  # noqa: PLC0415
    from worker.demo.trainer import sentences_folder  # noqa: PLC0415

    ledger, code = streamed.ledger, streamed.worker_code
    terminal.summary(
        summary.phases(ledger),
        summary.rows(
            ledger,
            worker_code=code,
            capacity=streamed.capacity,
            outage=streamed.outage,
            interrupted=streamed.interrupted,
        ),
        title="Summary so far" if streamed.interrupted else "Summary",
    )
    nexts = summary.commands(checkpoint, sentences_folder())
    if streamed.interrupted:
        terminal.commands([summary.again(), *nexts])
        terminal.line(summary.NO_FAULT)
        return EXIT_INTERRUPTED
    problem = summary.problem(ledger, worker_code=code)
    if problem is not None:
        raise Fatal(f"{problem} (the worker's log: {log})")
    terminal.commands(nexts)
    return EXIT_DRAINED


def _say(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"emotion-worker: {line}\n")
    return code
