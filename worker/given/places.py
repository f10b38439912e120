"""Settings from all the places where a user can give them, or all that is wrong with them at once.

What cannot be used is named and left out, so that the rest is still validated and its problems are
named in the same run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from . import environment, flags
from .problems import Wrong, explained, together
from .sources import command_line
from .tree import laid_over

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Wrong", "read", "together"]

S = TypeVar("S", bound=BaseSettings)


def read(
    kind: type[S],
    words: Sequence[str],
    *,
    prog: str,
    variables: Sequence[type[BaseSettings]] = (),
    folder: str | None = None,
    texts: bool = False,
) -> tuple[S, tuple[str, ...]]:
    """Reads settings from all their places: the command line wins, then the environment.

    Args:
        kind: The settings to read.
        words: The command line, without the program and the command.
        prog: Program and command, for `--help`.
        variables: The settings of all commands that share the environment, which are variables
            too. Without any, only options are read.
        folder: Name of the variable with the directory of secret files, where there is one.
        texts: Whether the command takes positional words.

    Returns:
        The settings, and the positional words.

    Raises:
        Wrong: With one line for each problem.
        SystemExit: Help was asked for, and printed.
    """
    given = flags.read(kind, words, prog=prog, texts=texts)
    line, problems = command_line(kind, given)
    places = [line]
    if variables:
        others, wrong = environment.read(kind, variables, folder)
        places, problems = [*places, *others], [*wrong, *problems]
    merged: dict[str, Any] = {}
    for place in reversed(places):
        merged = laid_over(merged, place.tree)
    absent = {tuple(name.split(".")) for name in [*given.valueless, *given.unread]}
    try:
        # `.env` has been read: `kind` would read it again, and fail on what has a line already.
        settings = kind(_env_file=None, **merged)
    except ValidationError as error:
        problems += explained(kind, error, merged, places, absent)
        raise Wrong("\n".join(problems)) from error
    if problems:
        raise Wrong("\n".join(problems))
    return settings, given.texts
