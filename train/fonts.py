"""Which installed fonts have the characters of a text, so that labels in any script are drawn."""

import functools
from collections.abc import Iterable, Sequence

from matplotlib import font_manager

FIRST = "DejaVu Sans"
"""Comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and most European scripts."""

_BOXES = "Last Resort"
"""A font of empty boxes for every character there is."""


def families(texts: Iterable[str]) -> list[str]:
    """The fonts that together have the characters, `FIRST` first.

    Only a text that `FIRST` cannot draw costs a look into the other fonts.

    Args:
        texts: What is drawn.
    """
    chosen = [FIRST]
    missing = _characters(texts) - _characters_of(_path(FIRST))
    for entry in font_manager.fontManager.ttflist:
        if not missing:
            break
        if entry.name in chosen or entry.name.startswith(_BOXES):
            continue
        there = _characters_of(str(entry.fname))
        if missing & there:
            chosen.append(entry.name)
            missing -= there
    return chosen


def drawable(text: str, fonts: Iterable[str]) -> bool:
    """Whether the fonts have every character of a text."""
    missing = _characters([text])
    for font in fonts:
        missing -= _characters_of(_path(font))
    return not missing


def undrawable(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of which no installed font has every character: pictures show their places."""
    fonts = families(labels)
    return tuple(label for label in labels if not drawable(label, fonts))


def _characters(texts: Iterable[str]) -> set[int]:
    return {ord(character) for text in texts for character in text if not character.isspace()}


def _path(font: str) -> str:
    return str(font_manager.findfont(font, fallback_to_default=True))


@functools.lru_cache(maxsize=512)
def _characters_of(path: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that cannot be read draws nothing
        return frozenset()
