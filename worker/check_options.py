"""The options of `emotion-worker check`: the docstring of a field is its line of `--help`."""

from __future__ import annotations

from worker import settings
from worker.settings import Settings


class CheckSettings(Settings):
    """The settings of `emotion-worker check`."""

    calibrate: bool = False
    """Show how long batches of each size take on the device, and which size the worker would
    choose. Nothing else should run there meanwhile."""


def load(options: list[str]) -> CheckSettings:
    """The settings.

    Raises:
        Refused: With one line for each unknown option or bad value.
    """
    return settings.load_as(CheckSettings, options, command="check")
