"""How figures, phases, labels and texts look in the live view and in a log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

DOWN = "red"
"""Colour of the moments without a worker."""
_PHASE_COLOURS = {"measure": "cyan", "steady": "green", "burst": "yellow", "recovery": "blue"}
_LABEL_COLOURS = ("blue", "yellow", "magenta", "red", "green", "cyan")


def phase_colour(phase: str, *, down: bool, other: str = "") -> str:
    """The colour of a moment.

    Args:
        phase: Its phase.
        down: Whether there was no worker.
        other: The colour of phases that have none of their own.
    """
    return DOWN if down else _PHASE_COLOURS.get(phase, other)


def palette(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label, by its place."""
    return {
        label: _LABEL_COLOURS[place % len(_LABEL_COLOURS)] for place, label in enumerate(labels)
    }


def whole(value: float | None) -> str:
    """A figure without decimals; a dash where there is none."""
    return "-" if value is None else f"{value:,.0f}"


def tenths(value: float | None) -> str:
    """A figure with one decimal; a dash where there is none."""
    return "-" if value is None else f"{value:,.1f}"


def clean(text: str) -> str:
    """A text from a topic without what could move the cursor or ring the bell."""
    return "".join(character if character.isprintable() else " " for character in text)


def fitted(text: Text) -> Text:
    """The text as one line, cut where the terminal ends."""
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text
