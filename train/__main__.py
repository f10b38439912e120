"""Fine-tune a text classifier, measure it, label sentences with it.

usage: emotion-train run | evaluate | predict ...   (each has a --help of its own)

  run       fine-tune, calibrate, evaluate, save a checkpoint and its report
  evaluate  metrics and plots of a checkpoint on a split or a file
  predict   label sentences given as arguments or on standard input

Exit codes: 0 done, 1 a fault of ours, 2 refused (one line says why), 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence

from train import hub
from train.errors import Refused
from train.interrupts import interruptible

REFUSED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
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
        # `| head` has read enough. Else the interpreter complains once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _command(given: Sequence[str]) -> int:
    if not given or given[0] in {"-h", "--help"}:
        print(__doc__, end="", file=sys.stdout if given else sys.stderr)
        return 0 if given else REFUSED
    command, rest = given[0], given[1:]
    if command not in _COMMANDS:
        from train.given.commands import unknown  # noqa: PLC0415

        raise Refused(unknown(command, list(_COMMANDS)))
    hub.quiet()
    try:
        with interruptible():
            _COMMANDS[command](rest)
    except SystemExit as stop:  # argparse has printed its help
        return int(stop.code or 0)
    return 0


# What each command needs takes seconds to import, and help and misspelt options do not wait
# for it: so the imports stand behind the parsing.


def _run(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import RunSettings  # noqa: PLC0415

    settings, _ = cli.parse(RunSettings, arguments, command="run")
    from train.run import run  # noqa: PLC0415
    from train.show import Show  # noqa: PLC0415

    run(settings, Show())


def _evaluate(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import EvaluateSettings  # noqa: PLC0415

    settings, _ = cli.parse(EvaluateSettings, arguments, command="evaluate")
    from train.evaluate import evaluate  # noqa: PLC0415
    from train.show import Show  # noqa: PLC0415

    evaluate(settings, Show())


def _predict(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import PredictSettings  # noqa: PLC0415

    settings, texts = cli.parse(PredictSettings, arguments, command="predict", texts=True)
    from train.predict import predict  # noqa: PLC0415
    from train.show import Show  # noqa: PLC0415

    predict(settings, texts, Show())


_COMMANDS = {"run": _run, "evaluate": _evaluate, "predict": _predict}


if __name__ == "__main__":
    sys.exit(main())
