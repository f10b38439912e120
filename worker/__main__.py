"""The commands of `emotion-worker`: run, check, schema, demo, redrive."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from worker.errors import EXIT_DRAINED, EXIT_INTERRUPTED, EXIT_REFUSED, Refused
from worker.given.interrupts import recognised
from worker.log_lines import say
from worker.signals import DrainSignals

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = """\
usage: emotion-worker COMMAND [--group.setting VALUE ...]

Labels the texts of a Kafka topic with a fine-tuned classifier.

  run      label until SIGTERM or SIGINT, then finish what was read
  check    check settings, checkpoint, device, cluster and topics
  schema   JSON Schema of the messages
  demo     run everything on this machine, with an embedded Apache Kafka
  redrive  put dead letters back on the input topic

Settings also come from WORKER_... variables and .env; 'emotion-worker run --help' lists them.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0 done, 1 failed, 2 refused."""
    words = sys.argv[1:] if argv is None else argv
    command, *options = words or ["--help"]
    commands: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "check": _check,
        "schema": _schema,
        "demo": _demo,
        "redrive": _redrive,
    }
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return EXIT_DRAINED
    if command == "--version":
        print(f"emotion-worker {version('emotion-stream')}")
        return EXIT_DRAINED
    try:
        if command not in commands:
            from worker.given.commands import unknown  # noqa: PLC0415

            raise Refused(unknown(command, list(commands)))
        with recognised():
            return commands[command](options)
    except Refused as error:
        for line in str(error).splitlines():
            say(f"emotion-worker: {line}")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        say("emotion-worker: interrupted")
        # Without cleanup: threads may be waiting for brokers, or importing torch.
        os._exit(EXIT_INTERRUPTED)


def _run(options: list[str]) -> int:
    # Signals are caught before anything is imported: process 1 of a container has no default
    # handlers, so an earlier signal would be lost and the pod deleted only after its grace period.
    with DrainSignals() as signals:
        return _serve(options, signals)


def _serve(options: list[str], signals: DrainSignals) -> int:
    from worker import logs, settings  # noqa: PLC0415 - --help answers at once

    chosen = settings.load(options)
    logs.configure(format=chosen.log.format, level=chosen.log.level)
    if chosen.processes > 1:
        from worker.processes.supervisor import supervise  # noqa: PLC0415

        return supervise(chosen, signals=signals)
    from worker.run import run  # noqa: PLC0415

    return run(chosen, signals=signals)


def _check(options: list[str]) -> int:
    from worker import check_options, logs  # noqa: PLC0415

    chosen = check_options.load(options)
    logs.configure(format=chosen.log.format, level="error")
    print("settings    ok", flush=True)
    from worker.check import check  # noqa: PLC0415
    from worker.run import prepare_libraries  # noqa: PLC0415

    prepare_libraries()
    # What the first of several processes needs, all of them do.
    return check(chosen.of_process(1) if chosen.processes > 1 else chosen)


def _schema(options: list[str]) -> int:
    from worker.schema import messages  # noqa: PLC0415

    if options:
        raise Refused(f"schema takes no options, got {' '.join(options)}")
    print(json.dumps(messages(), indent=2))
    return EXIT_DRAINED


def _demo(options: list[str]) -> int:
    if find_spec("worker.demo") is None:
        raise Refused(
            "the demo is not part of the worker's image: run `make demo` in a checkout of "
            "emotion-stream"
        )
    from worker.demo.run import demo  # noqa: PLC0415

    return demo(options)


def _redrive(options: list[str]) -> int:
    from worker.redrive.options import load  # noqa: PLC0415 - the client takes a second to import

    chosen = load(options)
    from worker.redrive.run import redrive  # noqa: PLC0415

    return redrive(chosen)


if __name__ == "__main__":
    sys.exit(main())
