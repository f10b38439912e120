"""The commands of `emotion-train`: run, evaluate, predict."""

import os
import sys
from collections.abc import Sequence

from train import hub
from train.errors import Refused
from train.given.interrupts import recognised
from train.interrupts import interruptible

USAGE = """\
usage: emotion-train COMMAND [--setting VALUE ...]

Fine-tunes a text classifier, measures it, and labels texts with it.

  run       fine-tune, calibrate, evaluate; save a checkpoint and its report
  evaluate  metrics and plots of a checkpoint, on a split of a dataset or on a file
  predict   label texts given as arguments or on standard input

Settings also come from TRAIN_... variables and .env; 'emotion-train run --help' lists them.

Exit codes: 0 done, 1 failed, 2 refused (each wrong thing in one line), 130 interrupted.
"""
REFUSED = 2
"""Exit code where a setting or an input is wrong."""
INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it: 128 + SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _command(given)
    except Refused as refusal:
        for line in str(refusal).splitlines():
            print(f"emotion-train: {line}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("emotion-train: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `| head` has read enough. Without this the interpreter complains when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(given: Sequence[str]) -> int:
    if not given or given[0] in {"-h", "--help"}:
        print(USAGE, end="", file=sys.stdout if given else sys.stderr)
        return 0 if given else REFUSED
    command, rest = given[0], given[1:]
    if command not in _COMMANDS:
        from train.given.commands import unknown  # noqa: PLC0415

        raise Refused(unknown(command, list(_COMMANDS)))
    hub.quiet()
    try:
        with recognised(), interruptible():
            _COMMANDS[command](rest)
    except SystemExit as stop:  # argparse has printed its help
        return int(stop.code or 0)
    return 0


# What a command needs takes seconds to import; help and misspelt options are answered without it.


def _run(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import RunSettings  # noqa: PLC0415

    settings, _ = cli.parse(RunSettings, arguments, command="run")
    from train.printer import Printer  # noqa: PLC0415
    from train.run import run  # noqa: PLC0415

    run(settings, Printer())


def _evaluate(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import EvaluateSettings  # noqa: PLC0415

    settings, _ = cli.parse(EvaluateSettings, arguments, command="evaluate")
    from train.evaluate import evaluate  # noqa: PLC0415
    from train.printer import Printer  # noqa: PLC0415

    evaluate(settings, Printer())


def _predict(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import PredictSettings  # noqa: PLC0415

    settings, texts = cli.parse(PredictSettings, arguments, command="predict", texts=True)
    from train.predict import predict  # noqa: PLC0415
    from train.printer import Printer  # noqa: PLC0415

    predict(settings, texts, Printer())


_COMMANDS = {"run": _run, "evaluate": _evaluate, "predict": _predict}


if __name__ == "__main__":
    sys.exit(main())
