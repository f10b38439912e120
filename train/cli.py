"""Command line and environment -> settings, or one line for each thing that is wrong with them."""

from collections.abc import Sequence
from typing import TypeVar

from train.errors import Refused
from train.given import places
from train.settings import EvaluateSettings, PredictSettings, RunSettings, Settings

AnySettings = TypeVar("AnySettings", bound=Settings)


def parse(
    settings: type[AnySettings], arguments: Sequence[str], *, command: str, texts: bool = False
) -> tuple[AnySettings, tuple[str, ...]]:
    """The settings, and the positional texts where `texts` allows them.

    Raises:
        Refused: An option, a variable or a value is not known or out of range; one line each.
        SystemExit: Help was asked for, and printed.
    """
    try:
        return places.read(
            settings,
            arguments,
            prog=f"emotion-train {command}",
            # The three commands share one environment.
            variables=(RunSettings, EvaluateSettings, PredictSettings),
            texts=texts,
        )
    except places.Wrong as error:
        raise Refused(str(error)) from error
