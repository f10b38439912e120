"""The line that refuses an unknown command."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOSE = 0.6
"""Similarity (0 to 1) from which a word counts as a misspelling: `rnu` for `run` has 0.67."""


def unknown(command: str, known: Sequence[str]) -> str:
    """The line that refuses a command.

    Args:
        command: As the user wrote it.
        known: The commands that there are.
    """
    close = get_close_matches(command, [*known, "--help"], n=1, cutoff=CLOSE)
    advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"there is no command {command!r}; {advice}"
