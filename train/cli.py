"""Command line and environment -> settings, or one line that says what is wrong with them."""

import argparse
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, TypeVar

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from train.errors import Refused, first_line
from train.settings import EvaluateSettings, PredictSettings, RunSettings, Settings

PREFIX = "TRAIN_"

AnySettings = TypeVar("AnySettings", bound=Settings)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (see `{self.prog} --help`)")


def parse(
    settings: type[AnySettings], arguments: Sequence[str], *, command: str, texts: bool = False
) -> tuple[AnySettings, tuple[str, ...]]:
    """The settings, and the positional texts where `texts` allows them.

    Raises:
        Refused: An option, a variable or a value is not known or out of range; one line each.
        SystemExit: Help was asked for, and printed.
    """
    parser = Parser(
        prog=f"emotion-train {command}", description=settings.__doc__, allow_abbrev=False
    )
    if texts:
        # Not a field: pydantic-settings would split a sentence at its commas.
        parser.add_argument("texts", nargs="*", metavar="TEXT", help="a sentence to label")
    source: CliSettingsSource[Parser] = CliSettingsSource(settings, root_parser=parser)
    parsed = parser.parse_args(list(arguments))
    refuse_unknown_variables(_variables())
    given = tuple(vars(parsed).pop("texts", ()))
    try:
        return CliApp.run(settings, cli_args=parsed, cli_settings_source=source), given
    except ValidationError as error:
        raise Refused("\n".join(_lines(error))) from error
    except SettingsError as error:
        raise Refused(first_line(error)) from error


def refuse_unknown_variables(names: Sequence[str]) -> None:
    """A misspelt variable must not leave its default in force unseen.

    Raises:
        Refused: A name starts with `TRAIN_` and belongs to no command.
    """
    known = sorted(
        f"{PREFIX}{field}".upper()
        for settings in (RunSettings, EvaluateSettings, PredictSettings)
        for field in settings.model_fields
    )
    lines = []
    for name in sorted({name.upper() for name in names if name.upper().startswith(PREFIX)}):
        if name not in known:
            near = get_close_matches(name, known, n=1)
            lines.append(f"{name}: no such setting" + (f"; {near[0]} is one" if near else ""))
    if lines:
        raise Refused("\n".join(lines))


def _variables() -> list[str]:
    try:
        file: Mapping[str, str | None] = dotenv_values(Path(".env"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f".env cannot be read: {first_line(error)}") from error
    return [*os.environ, *file]


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        field = str(problem["loc"][0]) if problem["loc"] else "settings"
        option = f"--{field.replace('_', '-')}"
        if problem["type"] == "missing":
            lines.append(f"{option} is required (or {PREFIX}{field.upper()})")
        else:
            said = problem["msg"][:1].lower() + problem["msg"][1:]
            lines.append(f"{option} {problem['input']!r}: {said}")
    return lines
