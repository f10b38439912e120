"""Command line and environment to settings, or one line for each thing that is wrong with them."""

from collections.abc import Sequence
from typing import TypeVar

from train.errors import Refused
from train.given import places
from train.settings import COMMANDS, Settings

AnySettings = TypeVar("AnySettings", bound=Settings)


def parse(
    settings: type[AnySettings], arguments: Sequence[str], *, command: str, texts: bool = False
) -> tuple[AnySettings, tuple[str, ...]]:
    """Reads the settings of a command.

    Args:
        settings: The class of its settings.
        arguments: The command line, without the program and the command.
        command: The command.
        texts: Whether it takes positional texts.

    Returns:
        The settings, and the positional texts.

    Raises:
        Refused: An option or a variable is unknown, or a value is out of range; one line each.
        SystemExit: Help was asked for, and printed.
    """
    try:
        return places.read(
            settings,
            arguments,
            prog=f"emotion-train {command}",
            variables=tuple(COMMANDS.values()),
            texts=texts,
        )
    except places.Wrong as error:
        raise Refused(str(error)) from error
