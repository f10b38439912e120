"""The commands of `emotion-train`: run, evaluate, threshold, predict."""

import contextlib
import os
import sys
from collections.abc import Sequence

# Nothing here that takes long to import: a Ctrl-C before `main` ends in Python's traceback.
from train.errors import Busy, Refused, Uncalibrated
from train.interrupts import Interrupts

USAGE = """\
usage: emotion-train COMMAND [--setting VALUE ...]

Fine-tunes a text classifier, measures it, and labels texts with it.

  run        fine-tune, calibrate, evaluate; save a checkpoint and its report
  evaluate   metrics and plots of a checkpoint, on a split or a file
  threshold  choose when a checkpoint says that it does not know
  predict    label texts given as arguments or on standard input

Settings also come from TRAIN_... variables and .env; 'emotion-train run --help'
lists them.

Exit codes: 0 done, 1 failed, or saved with scores that are not calibrated,
2 refused (each wrong thing in one line), 130 interrupted by Ctrl-C,
143 ended by SIGTERM.
"""
FAILED = 1
"""Exit code where nothing that was given is refused: the same command may work later, or the
checkpoint is saved but its scores are not calibrated."""
REFUSED = 2
"""Exit code where a setting or an input is wrong."""
SIGNALLED = 128
"""Exit code after a signal, as shells have it: this and the signal's number."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    Args:
        arguments: The command line without the program; None: this is the program, which then ends.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with Interrupts(last=arguments is None) as interrupts:
        try:
            return _command(given)
        except BaseException as error:
            if not interrupts.ended(error):
                exit_code = _failed(error)
                if exit_code is None:
                    raise
                return exit_code
            more = error.args if isinstance(error, KeyboardInterrupt) else ()
            _say("; ".join([interrupts.what, *more]))
            code = SIGNALLED + interrupts.number
    if arguments is None:
        # What torch and its threads do at the end takes seconds, and a second signal would tear it.
        # The line is out, and what the command began is cleaned up.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    return code


def _failed(error: BaseException) -> int | None:
    """The exit code of an error that is understood, told where it is the user's."""
    if isinstance(error, Refused | Busy | Uncalibrated):
        for line in str(error).splitlines():
            _say(line)
        return REFUSED if isinstance(error, Refused) else FAILED
    if isinstance(error, BrokenPipeError):
        # `| head` has read enough. Without this the interpreter complains when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return None


def _say(line: str) -> None:
    print(f"emotion-train: {line}", file=sys.stderr)


def _command(given: Sequence[str]) -> int:
    if not given or given[0] in {"-h", "--help", "help"}:
        print(USAGE, end="", file=sys.stdout if given else sys.stderr)
        return 0 if given else REFUSED
    if given[0] == "--version":
        from importlib.metadata import version  # noqa: PLC0415

        print(f"emotion-train {version('emotion-stream')}")
        return 0
    command, rest = given[0], given[1:]
    if command not in _COMMANDS:
        from train.given.commands import unknown  # noqa: PLC0415

        raise Refused(unknown(command, list(_COMMANDS)))
    from train import hub  # noqa: PLC0415

    hub.quiet()
    try:
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


def _threshold(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import ThresholdSettings  # noqa: PLC0415

    settings, _ = cli.parse(ThresholdSettings, arguments, command="threshold")
    from train.printer import Printer  # noqa: PLC0415
    from train.threshold import threshold  # noqa: PLC0415

    threshold(settings, Printer())


def _predict(arguments: Sequence[str]) -> None:
    from train import cli  # noqa: PLC0415
    from train.settings import PredictSettings  # noqa: PLC0415

    settings, texts = cli.parse(PredictSettings, arguments, command="predict", texts=True)
    from train.predict import predict  # noqa: PLC0415
    from train.printer import Printer  # noqa: PLC0415

    predict(settings, texts, Printer())


_COMMANDS = {"run": _run, "evaluate": _evaluate, "threshold": _threshold, "predict": _predict}


if __name__ == "__main__":
    sys.exit(main())
