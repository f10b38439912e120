"""The live view: a frame of figures to lines that fit a terminal, or to one line of a log.

Pure: it draws what it is given, at the size that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from worker.demo.ledger import Shown

WIDE, TALL = 64, 18
"""Columns and rows from which there is room for panels."""
_PANEL_ROWS = 6
_MIX_ROWS = 12
_COLOURS = ("blue", "yellow", "magenta", "red", "green", "cyan")
_PHASE_COLOURS = {"measure": "cyan", "steady": "green", "burst": "yellow", "recovery": "blue"}
_DOWN = "red"
_BLOCKS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_GAP = 2
_CHART_NAME = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment of the past."""

    rate: float
    """Outputs a second."""
    lag: int
    phase: str
    down: bool = False
    """There was no worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the view shows at one moment. Times are in seconds, latencies in ms."""

    elapsed: float
    sent: int
    total: int | None
    """Messages that will be sent; None where it is not known, or there is no end."""
    phases: Sequence[str] = ()
    """The names of all phases, in order."""
    phase: str = ""
    """The present one."""
    doing: str = "starting"
    """What happens now, in words."""
    down: bool = False
    """There is no worker."""
    labelled: int = 0
    dead: int = 0
    rate: float = 0.0
    """Outputs a second, lately."""
    past: Sequence[Sample] = ()
    """Oldest first, equally spaced."""
    lag: int = 0
    """Messages on the input topic without an output."""
    p50: float | None = None
    p99: float | None = None
    batch: float | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    """Labels given so far, in the checkpoint's order."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    shown: Sequence[Shown] = ()
    model: str = ""
    topics: tuple[str, str] = ("tweets", "emotions")


def draw(frame: Frame, *, width: int, height: int) -> RenderableType:
    """The frame for a terminal of this size."""
    head: list[RenderableType] = [_title(frame, width), _progress(frame, width)]
    head.append(_story(frame, width))
    if width >= WIDE and height >= TALL:
        chart_rows = max(1, min(4, (height - TALL) // 6))
        rows = max(_PANEL_ROWS, min(len(frame.labels), height // 4))
        head += [*_charts(frame, width, chart_rows), _panels(frame, width, rows)]
        used = 3 + 2 * chart_rows + rows + 2
    else:
        head += [*_charts(frame, width, 1), *_compact(frame, mix=height >= _MIX_ROWS)]
        used = len(head)
    foot = _fitted(Text("Ctrl-C ends it in order".center(width), style="dim"))
    lines = _messages(frame, width, max(0, height - used - 1))
    parts = [*head, *lines, *([foot] if height > used else [])]
    return Group(*parts[:height] if height < used else parts)


def log_line(frame: Frame) -> str:
    """The frame as a line of a log."""
    parts = [
        f"{frame.elapsed:4.0f} s",
        frame.doing,
        f"sent {_of(frame)}",
        f"labelled {frame.labelled:,}",
        f"dead letters {frame.dead:,}",
        f"lag {frame.lag:,}",
        f"{frame.rate:,.0f}/s",
        f"p50 {_number(frame.p50)} ms",
        f"p99 {_number(frame.p99)} ms",
        f"batch {_tenths(frame.batch)}",
    ]
    line = "  ".join(parts)
    labelled = [each for each in frame.shown if each.score is not None]
    if labelled:
        last = labelled[-1]
        line += f"  {last.name} {last.score:.2f}: {_clean(last.text)}"
    return line


def _title(frame: Frame, width: int) -> Text:
    left = Text.assemble(
        (" emotion-stream ", "bold reverse"),
        f" {frame.topics[0]} → worker → {frame.topics[1]}" if width >= WIDE else "",
    )
    room = width - left.cell_len - _GAP
    words = frame.model.split()
    while words and len(" ".join(words)) > room:
        words.pop()  # the device before the version, the version before the name
    right = " ".join(words)
    left.append(right.rjust(room + 1), "dim")
    return _fitted(left)


def _progress(frame: Frame, width: int) -> Text:
    told = f" {_of(frame)} sent · {frame.elapsed:.0f} s"
    if frame.total is None or width < WIDE:
        return _fitted(Text(told, style="bold"))
    # Of outputs: what is sent and not labelled is not done.
    share = (frame.labelled + frame.dead) / max(1, frame.total)
    bar = _bar(share, max(4, width - len(told) - _GAP))
    return _fitted(Text.assemble(" ", (bar, "green"), (told, "bold")))


def _story(frame: Frame, width: int) -> Text:
    """What happens now, behind the names of all phases where there is room for them."""
    colour = _DOWN if frame.down else _PHASE_COLOURS.get(frame.phase, "")
    now = Text(f" {frame.doing} ", style=f"bold reverse {colour}")
    names = Text()
    for name in frame.phases:
        style = f"bold {colour}" if name == frame.phase else "dim"
        names.append_text(Text.assemble(" ", (name, style)))
    if names.cell_len + now.cell_len + _GAP > width:
        return _fitted(Text.assemble(" ", now))
    return _fitted(Text.assemble(names, "  ", now))


def _charts(frame: Frame, width: int, rows: int) -> list[RenderableType]:
    """Rate and lag over time: a bar for each moment, in the colour of its phase."""
    figures = max(len(f"{frame.rate:,.0f}/s"), len(f"{frame.lag:,}"), 6)
    columns = max(0, width - _CHART_NAME - figures - 2)
    past = _buckets(frame.past, columns)
    lines: list[RenderableType] = []
    for name, value, told in (
        ("rate", [each.rate for each in past], f"{frame.rate:,.0f}/s"),
        ("lag", [float(each.lag) for each in past], f"{frame.lag:,}"),
    ):
        for row, bars in enumerate(_chart(value, rows)):
            last = row == rows - 1
            line = Text.assemble((f" {name if last else '':{_CHART_NAME - 1}}", "dim"))
            for bar, each in zip(bars, past, strict=True):
                line.append(bar, _DOWN if each.down else _PHASE_COLOURS.get(each.phase, "green"))
            line.append(" " * (columns - len(bars)))
            line.append(f" {told if last else '':>{figures}}", "bold")
            lines.append(_fitted(line))
    return lines


def _buckets(past: Sequence[Sample], columns: int) -> list[Sample]:
    """The past in at most so many columns: of each bucket the highest values and the last phase."""
    if columns < 1 or not past:
        return []
    size = -(-len(past) // columns)
    buckets = [past[start : start + size] for start in range(0, len(past), size)]
    return [
        Sample(
            rate=max(each.rate for each in bucket),
            lag=max(each.lag for each in bucket),
            phase=bucket[-1].phase,
            down=any(each.down for each in bucket),
        )
        for bucket in buckets
    ]


def _chart(values: Sequence[float], rows: int) -> list[str]:
    """Bars of so many rows, the highest value at full height; the top row first."""
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


def _panels(frame: Frame, width: int, rows: int) -> Table:
    left = (width - 1) // 2
    grid = Table.grid(expand=True)
    grid.add_column(width=left)
    grid.add_column(width=width - left)
    grid.add_row(
        _panel("stream", _figures(frame), rows),
        _panel("labels", _mix(frame, width - left - 4, rows), rows),
    )
    return grid


def _panel(title: str, body: RenderableType, rows: int) -> Panel:
    return Panel(
        body, title=title, title_align="left", box=box.ROUNDED, height=rows + 2, border_style="dim"
    )


def _figures(frame: Frame) -> Group:
    reasons = ", ".join(f"{name} {count}" for name, count in frame.reasons.items())
    rows = [
        ("rate", f"{frame.rate:,.0f} messages/s", ""),
        ("lag", f"{frame.lag:,} records", ""),
        ("latency", f"p50 {_number(frame.p50)} ms   p99 {_number(frame.p99)} ms", ""),
        ("batch", f"{_tenths(frame.batch)} records", ""),
        ("labelled", f"{frame.labelled:,}", ""),
        ("dead", f"{frame.dead:,}", reasons),
    ]
    return Group(
        *(
            _fitted(Text.assemble((f"{name:9}", "dim"), (value, "bold"), "  ", (more, "dim")))
            for name, value, more in rows
        )
    )


def _mix(frame: Frame, width: int, rows: int) -> Group:
    colours = _palette(frame)
    total = max(1, sum(frame.labels.values()))
    most = max([*frame.labels.values(), 1])
    chosen = list(frame.labels)
    if len(chosen) > rows:  # the most frequent ones; each keeps its place among them
        top = sorted(chosen, key=lambda label: -frame.labels[label])[:rows]
        chosen = [label for label in chosen if label in top]
    name_width = min(12, max((len(label) for label in chosen), default=0))
    bar_width = max(1, width - name_width - 13)
    lines = []
    for label in chosen:
        count = frame.labels[label]
        bar = _bar(count / most, bar_width)
        figures = f" {count:>6,} {count / total:>4.0%}"
        name = f"{label[:name_width]:<{name_width}} "
        lines.append(_fitted(Text.assemble(name, (bar, colours[label]), (figures, "bold"))))
    return Group(*lines)


def _compact(frame: Frame, *, mix: bool) -> list[RenderableType]:
    latency = f" p50 {_number(frame.p50)} ms  p99 {_number(frame.p99)} ms  dead {frame.dead:,}"
    total = max(1, sum(frame.labels.values()))
    shares = "  ".join(f"{label} {count / total:.0%}" for label, count in frame.labels.items())
    return [_fitted(Text(line)) for line in (latency, f" {shares}")[: 1 + mix]]


def _messages(frame: Frame, width: int, rows: int) -> list[RenderableType]:
    colours = _palette(frame)
    name_width = min(14 if width >= WIDE else 8, max((len(s.name) for s in frame.shown), default=0))
    lines: list[RenderableType] = []
    for each in list(frame.shown)[-rows:] if rows else []:
        dead = each.score is None
        name = f" {each.name[:name_width]:<{name_width}} "
        score = " ✗  " if each.score is None else f"{each.score:.2f}"
        style = "dim red" if dead else colours.get(each.name, "")
        text = Text.assemble((name, style), (score, "dim"), "  ", _clean(each.text))
        lines.append(_fitted(text))
    return lines + [Text()] * (rows - len(lines))


def _palette(frame: Frame) -> dict[str, str]:
    return {label: _COLOURS[place % len(_COLOURS)] for place, label in enumerate(frame.labels)}


def _bar(share: float, width: int) -> str:
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + (_BLOCKS[part] if part else "")).ljust(width)


def _of(frame: Frame) -> str:
    return f"{frame.sent:,}" + (f" of {frame.total:,}" if frame.total is not None else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _tenths(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _clean(text: str) -> str:
    """Texts come from a topic: none may move the cursor or ring the bell."""
    return "".join(character if character.isprintable() else " " for character in text)


def _fitted(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text
