"""Bars made of characters: shares, and rate and lag over time. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from worker.demo.frame import Sample
from worker.demo.style import fitted, phase_colour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from worker.demo.frame import Frame

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_NAME_WIDTH = 6


def bar(share: float, width: int) -> str:
    """A horizontal bar in so many columns, filled to a share of them (0 to 1)."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(width)


def rate_and_lag(frame: Frame, width: int, rows: int) -> list[RenderableType]:
    """Two charts of so many rows: a bar for each moment, in the colour of its phase."""
    rate, lag = f"{frame.recent.rate:,.0f}/s", f"{frame.recent.lag:,}"
    figures = max(len(rate), len(lag), 6)
    columns = max(0, width - _NAME_WIDTH - figures - 2)
    past = buckets(frame.past, columns)
    lines: list[RenderableType] = []
    for name, values, figure in (
        ("rate", [each.rate for each in past], rate),
        ("lag", [float(each.lag) for each in past], lag),
    ):
        for row, bars in enumerate(columns_of(values, rows)):
            last = row == rows - 1
            line = Text.assemble((f" {name if last else '':{_NAME_WIDTH - 1}}", "dim"))
            for block, each in zip(bars, past, strict=True):
                line.append(block, phase_colour(each.phase, down=each.down, other="green"))
            line.append(" " * (columns - len(bars)))
            line.append(f" {figure if last else '':>{figures}}", "bold")
            lines.append(fitted(line))
    return lines


def buckets(past: Sequence[Sample], columns: int) -> list[Sample]:
    """The past in at most so many columns: of each bucket the highest values and the last phase."""
    if columns < 1 or not past:
        return []
    size = -(-len(past) // columns)
    parts = [past[start : start + size] for start in range(0, len(past), size)]
    return [
        Sample(
            rate=max(each.rate for each in part),
            lag=max(each.lag for each in part),
            phase=part[-1].phase,
            down=any(each.down for each in part),
        )
        for part in parts
    ]


def columns_of(values: Sequence[float], rows: int) -> list[str]:
    """A column for each value, the highest one at full height: lines of text, the top row first."""
    most = max([*values, 1e-9])
    steps = len(_HEIGHTS)
    heights = [max(1, round(value / most * rows * steps)) for value in values]
    return [
        "".join(
            _HEIGHTS[min(steps, height - below * steps) - 1] if height > below * steps else " "
            for height in heights
        )
        for below in reversed(range(rows))
    ]
