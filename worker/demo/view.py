"""The live view: a frame to lines that fit a terminal, or to one line of a log.

Pure: it draws what it is given, at the size that it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.demo.charts import bar, rate_and_lag
from worker.demo.style import clean, fitted, palette, phase_colour, tenths, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

    from worker.demo.frame import Counts, Frame, Story

WIDE, TALL = 64, 18
"""Columns and rows from which there is room for panels."""
_PANEL_ROWS = 6
_MIX_ROWS = 12
_GAP = 2


def draw(frame: Frame, *, width: int, height: int) -> RenderableType:
    """The frame for a terminal of so many columns and rows."""
    head: list[RenderableType] = [
        _title(frame, width),
        _progress(frame, width),
        _story(frame.story, width),
    ]
    if width >= WIDE and height >= TALL:
        chart_rows = max(1, min(4, (height - TALL) // 6))
        rows = max(_PANEL_ROWS, min(len(frame.counts.labels), height // 4))
        head += [*rate_and_lag(frame, width, chart_rows), _panels(frame, width, rows)]
        used = 3 + 2 * chart_rows + rows + 2
    else:
        head += [*rate_and_lag(frame, width, 1), *_compact(frame, mix=height >= _MIX_ROWS)]
        used = len(head)
    foot = fitted(Text("Ctrl-C ends the demo in order".center(width), style="dim"))
    lines = _messages(frame, width, max(0, height - used - 1))
    parts = [*head, *lines, *([foot] if height > used else [])]
    return Group(*parts[:height] if height < used else parts)


def log_line(frame: Frame) -> str:
    """The frame as a line of a log."""
    counts, recent = frame.counts, frame.recent
    parts = [
        f"{frame.elapsed:4.0f} s",
        frame.story.doing,
        f"sent {_sent(counts)}",
        f"labelled {counts.labelled:,}",
        f"dead letters {counts.dead:,}",
        f"lag {recent.lag:,}",
        f"{recent.rate:,.0f}/s",
        f"p50 {whole(recent.p50)} ms",
        f"p99 {whole(recent.p99)} ms",
        f"batch {tenths(recent.batch)}",
    ]
    line = "  ".join(parts)
    labelled = [each for each in frame.shown if each.score is not None]
    if labelled:
        last = labelled[-1]
        line += f"  {last.name} {last.score:.2f}: {clean(last.text)}"
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
    return fitted(left)


def _progress(frame: Frame, width: int) -> Text:
    counts = frame.counts
    figures = f" {_sent(counts)} sent · {frame.elapsed:.0f} s"
    if counts.total is None or width < WIDE:
        return fitted(Text(figures, style="bold"))
    # The share of outputs: what is sent and not labelled is not done.
    share = (counts.labelled + counts.dead) / max(1, counts.total)
    done = bar(share, max(4, width - len(figures) - _GAP))
    return fitted(Text.assemble(" ", (done, "green"), (figures, "bold")))


def _story(story: Story, width: int) -> Text:
    """What happens now, behind the names of all phases where there is room for them."""
    colour = phase_colour(story.phase, down=story.down)
    now = Text(f" {story.doing} ", style=f"bold reverse {colour}")
    names = Text()
    for name in story.phases:
        style = f"bold {colour}" if name == story.phase else "dim"
        names.append_text(Text.assemble(" ", (name, style)))
    if names.cell_len + now.cell_len + _GAP > width:
        return fitted(Text.assemble(" ", now))
    return fitted(Text.assemble(names, "  ", now))


def _panels(frame: Frame, width: int, rows: int) -> Table:
    left = (width - 1) // 2
    grid = Table.grid(expand=True)
    grid.add_column(width=left)
    grid.add_column(width=width - left)
    grid.add_row(
        _panel("stream", _figures(frame), rows),
        _panel("labels", _mix(frame.counts, width - left - 4, rows), rows),
    )
    return grid


def _panel(title: str, body: RenderableType, rows: int) -> Panel:
    return Panel(
        body, title=title, title_align="left", box=box.ROUNDED, height=rows + 2, border_style="dim"
    )


def _figures(frame: Frame) -> Group:
    counts, recent = frame.counts, frame.recent
    reasons = ", ".join(f"{name} {count}" for name, count in counts.reasons.items())
    rows = [
        ("rate", f"{recent.rate:,.0f} messages/s", ""),
        ("lag", f"{recent.lag:,} records", ""),
        ("latency", f"p50 {whole(recent.p50)} ms   p99 {whole(recent.p99)} ms", ""),
        ("batch", f"{tenths(recent.batch)} records", ""),
        ("labelled", f"{counts.labelled:,}", ""),
        ("dead", f"{counts.dead:,}", reasons),
    ]
    return Group(
        *(
            fitted(Text.assemble((f"{name:9}", "dim"), (value, "bold"), "  ", (more, "dim")))
            for name, value, more in rows
        )
    )


def _mix(counts: Counts, width: int, rows: int) -> Group:
    labels = counts.labels
    colours = palette(labels)
    total = max(1, sum(labels.values()))
    most = max([*labels.values(), 1])
    chosen = list(labels)
    if len(chosen) > rows:  # the most frequent ones; each keeps its place among them
        top = sorted(chosen, key=lambda label: -labels[label])[:rows]
        chosen = [label for label in chosen if label in top]
    name_width = min(12, max((len(label) for label in chosen), default=0))
    bar_width = max(1, width - name_width - 13)
    lines = []
    for label in chosen:
        count = labels[label]
        figures = f" {count:>6,} {count / total:>4.0%}"
        name = f"{label[:name_width]:<{name_width}} "
        share = bar(count / most, bar_width)
        lines.append(fitted(Text.assemble(name, (share, colours[label]), (figures, "bold"))))
    return Group(*lines)


def _compact(frame: Frame, *, mix: bool) -> list[RenderableType]:
    counts, recent = frame.counts, frame.recent
    latency = f" p50 {whole(recent.p50)} ms  p99 {whole(recent.p99)} ms  dead {counts.dead:,}"
    total = max(1, sum(counts.labels.values()))
    shares = "  ".join(f"{label} {count / total:.0%}" for label, count in counts.labels.items())
    return [fitted(Text(line)) for line in (latency, f" {shares}")[: 1 + mix]]


def _messages(frame: Frame, width: int, rows: int) -> list[RenderableType]:
    """The last outputs, one a line; empty lines where there are fewer."""
    colours = palette(frame.counts.labels)
    name_width = min(14 if width >= WIDE else 8, max((len(s.name) for s in frame.shown), default=0))
    lines: list[RenderableType] = []
    for each in list(frame.shown)[-rows:] if rows else []:
        dead = each.score is None
        name = f" {each.name[:name_width]:<{name_width}} "
        score = " ✗  " if each.score is None else f"{each.score:.2f}"
        style = "dim red" if dead else colours.get(each.name, "")
        text = Text.assemble((name, style), (score, "dim"), "  ", clean(each.text))
        lines.append(fitted(text))
    return lines + [Text()] * (rows - len(lines))


def _sent(counts: Counts) -> str:
    return f"{counts.sent:,}" + (f" of {counts.total:,}" if counts.total is not None else "")
