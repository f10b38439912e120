"""The commands of `emotion-worker`: run, check, schema, demo, redrive."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from worker.errors import EXIT_DRAINED, EXIT_INTERRUPTED, EXIT_REFUSED, Fatal, Refused
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
    _prepare_libraries()
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    from worker.service import serve  # noqa: PLC0415

    def look() -> None:
        from worker.model import checkpoint as checkpoints  # noqa: PLC0415

        checkpoints.look(chosen.model.checkpoint)

    def load_model() -> Classifier:
        from worker.laps import Laps  # noqa: PLC0415
        from worker.model import checkpoint as checkpoints  # noqa: PLC0415

        model = chosen.model
        laps = Laps()
        with ThreadPoolExecutor(1) as beside:
            # Computing the digest of the weights releases the GIL.
            reading = beside.submit(checkpoints.read, model.checkpoint)
            # Imported only now: signal handlers are in place before torch, which takes seconds.
            try:
                from worker.model.load import load  # noqa: PLC0415
            except (ImportError, OSError) as error:  # OSError: a shared library is missing
                raise Fatal(
                    f"the libraries of the model cannot be imported: {error}: install them again, "
                    "in the versions of constraints.txt"
                ) from error

            laps.lap("import")
            checkpoint = reading.result()
        laps.lap("checkpoint")
        return load(
            path=model.checkpoint,
            device=model.device,
            dtype=model.dtype,
            rows=model.rows,
            threads=model.threads,
            max_seconds=None if chosen.batch.max_tokens else chosen.batch.max_seconds,
            checkpoint=checkpoint,
            laps=laps,
        )

    return serve(chosen, load=load_model, look=look, signals=signals)


def _check(options: list[str]) -> int:
    from worker import check_options, logs  # noqa: PLC0415

    chosen = check_options.load(options)
    logs.configure(format=chosen.log.format, level="error")
    _prepare_libraries()
    print("settings    ok", flush=True)
    from worker.check import check  # noqa: PLC0415

    return check(chosen)


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


def _prepare_libraries() -> None:
    """Sets what the model's libraries read from the environment when they are imported."""
    # Checkpoints are local: no library may ask a hub, or wait for one.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Idle OpenMP threads that spin take the cores from the Kafka client: 737 messages/s instead
    # of 941 on 2 cores (bfloat16, MiniLM).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if TYPE_CHECKING:
    from worker.classifier import Classifier

if __name__ == "__main__":
    sys.exit(main())
