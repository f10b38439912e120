"""Draws a row of the dashboard from Prometheus' answers: its panels where Grafana puts them.

No substitute for Grafana, and labelled so: it shows what the expressions find.
"""

import math
import re

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

COLUMN, LINE, HEAD = 0.62, 0.36, 0.42  # inches
DPI = 100
INK, FAINT, PAPER, PANEL = "#24292e", "#6e7781", "#f4f5f5", "#ffffff"
COLOURS = {"green": "#56a64b", "yellow": "#e0b400", "red": "#e02f44", "blue": "#3274d9"}
PALETTE = (
    "#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e02f44", "#00a3a3", "#b8860b", "#705da0",
    "#5b8c2a", "#c15c17",
)  # fmt: skip
NAMES = 8
"""Series that a legend has room for."""


def draw(row, panels, ask, *, empty, directory):
    """One picture: ``ask`` gives a target's series as pairs of name and points."""
    top = min(panel["gridPos"]["y"] for panel in panels)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) - top
    size = (24 * COLUMN, height * LINE + HEAD)
    figure = plt.figure(figsize=size, dpi=DPI, facecolor=PAPER)
    found = {
        panel["title"]: [(target, ask(target)) for target in panel["targets"]] for panel in panels
    }
    times = [
        at
        for asked in found.values()
        for _, series in asked
        for _, points in series
        for at, _ in points
    ]
    span = min(times), max(times)
    note = "drawn from Prometheus, not a Grafana screenshot"
    y = 1 - HEAD / 2 / size[1]
    figure.text(0.006, y, row, size=13, weight="bold", color=INK, va="center")
    figure.text(0.994, y, note, size=9, color=FAINT, va="center", ha="right", style="italic")
    for panel in panels:
        at = panel["gridPos"]
        left, width = at["x"] / 24, at["w"] / 24
        bottom = (height - (at["y"] - top + at["h"])) * LINE / size[1]
        box = (left, bottom, width, at["h"] * LINE / size[1])
        title = panel["title"]
        _panel(figure, size, box, panel, (found[title], span, empty.get(title)))
    name = row.lower().replace(" ", "-")
    path = directory / f"{name}.png"
    directory.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=PAPER)
    plt.close(figure)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    return path


def _panel(figure, size, box, panel, answer):
    left, bottom, width, height = box
    found, span, empty = answer
    gap = (0.05 / size[0], 0.05 / size[1])
    figure.patches.append(
        FancyBboxPatch(
            (left + gap[0], bottom + gap[1]), width - 2 * gap[0], height - 2 * gap[1],
            boxstyle="square,pad=0", transform=figure.transFigure, facecolor=PANEL,
            edgecolor="#d8d9da", linewidth=0.8, zorder=-1,
        )
    )  # fmt: skip
    head = bottom + height - 0.2 / size[1]
    title = panel["title"]
    figure.text(left + 0.14 / size[0], head, title, size=8.5, weight="bold", color=INK, va="center")
    inside = (
        left + 0.14 / size[0], bottom + 0.12 / size[1],
        width - 0.28 / size[0], height - 0.46 / size[1],
    )  # fmt: skip
    if empty is not None:
        _said(figure, inside, empty)
        return
    kind = {
        "stat": _stat, "timeseries": _lines, "heatmap": _heat, "state-timeline": _states,
        "table": _table,
    }[panel["type"]]  # fmt: skip
    axes = kind(figure, size, inside, panel, found)
    if axes is not None:
        _dress(axes, panel, span)


def _said(figure, box, text):
    left, bottom, width, height = box
    figure.text(
        left + width / 2, bottom + height / 2, text, size=10, color=FAINT, ha="center", va="center"
    )


def _stat(figure, _size, box, panel, found):
    left, bottom, width, height = box
    axes = figure.add_axes((left, bottom, width, height * 0.4))
    axes.axis("off")
    numbers = []
    for _, series in found:
        for name, points in series:
            if points:
                numbers.append((name, points[-1][1]))
                colour = _threshold(panel, points[-1][1])
                x, y = zip(*points, strict=True)
                axes.fill_between(x, y, color=colour, alpha=0.15, linewidth=0)
                axes.plot(x, y, color=colour, linewidth=0.8)
    axes.set_ylim(bottom=0)
    for index, (name, value) in enumerate(numbers):
        x = left + width * (index + 0.5) / len(numbers)
        colour = _threshold(panel, value)
        text = _told(value, _unit(panel))
        figure.text(x, bottom + height * 0.64, text, size=15, weight="bold", color=colour,
                    ha="center", va="center")  # fmt: skip
        if len(numbers) > 1:
            figure.text(x, bottom + height * 0.84, name, size=7, color=FAINT, ha="center")


def _lines(figure, size, box, panel, found):
    series = [(name, points) for _, each in found for name, points in each if points]
    axes = _axes(figure, size, box)
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    bars = custom.get("drawStyle") == "bars"
    colours = _colours(panel, [name for name, _ in series])
    times = sorted({at for _, points in series for at, _ in points})
    base = np.zeros(len(times))
    for name, points in sorted(series):
        known = dict(points)
        y = np.array([known.get(at, np.nan) for at in times])
        if bars:
            y = np.nan_to_num(y)
            axes.bar(times, y, width=1.0, bottom=base, color=colours[name], label=name)
            base = base + y
        elif stacked:
            y = np.nan_to_num(y)
            axes.fill_between(times, base, base + y, color=colours[name], alpha=0.6, label=name,
                              linewidth=0.5)  # fmt: skip
            base = base + y
        else:
            axes.plot(times, y, color=colours[name], linewidth=1.1, label=name)
    highest = max(base) if stacked or bars else max(v for _, p in series for _, v in p)
    most = panel["fieldConfig"]["defaults"].get("max")
    if "thresholdsStyle" in custom:
        limit = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        axes.axhline(limit, color=COLOURS["red"], linestyle="--", linewidth=0.9)
        highest = max(highest, limit)
    axes.set_ylim(0, most or highest * 1.08 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _told(value, _unit(panel))))
    _legend(axes, columns=int(box[2] * size[0] / 0.9))
    return axes


def _heat(figure, size, box, panel, found):
    (_, series), = found  # fmt: skip
    series = sorted((float(name), dict(points)) for name, points in series)
    times = sorted({at for _, points in series for at in points})
    counts = np.array([[points.get(at, 0.0) for at in times] for _, points in series])
    counts = np.diff(counts, axis=0, prepend=0).clip(min=0)
    used = np.flatnonzero(counts.sum(axis=1) > 0)
    first, last = used.min(), used.max() + 1
    counts = np.where(counts < 1e-9, np.nan, counts)[first:last]
    axes = _axes(figure, size, box, right=0.5)
    mesh = axes.pcolormesh(
        times, np.arange(last - first), counts, cmap="Oranges", shading="nearest",
        norm=mpl.colors.PowerNorm(0.5, vmin=0),
    )  # fmt: skip
    edges = [le for le, _ in series][first:last]
    shown = range(0, last - first, max(1, math.ceil((last - first) / 8)))
    axes.set_yticks(list(shown), [_told(edges[index], _unit(panel)) for index in shown])
    at = axes.get_position()
    beside = figure.add_axes((at.x1 + 0.06 / size[0], at.y0, 0.08 / size[0], at.height))
    bar = figure.colorbar(mesh, cax=beside)
    bar.ax.tick_params(labelsize=6.5, colors=FAINT, length=2)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _told(value, "short")))
    axes.set_xlabel("each row: up to the number on its left", size=7, color=FAINT, labelpad=1)
    return axes


def _states(figure, size, box, panel, found):
    series = sorted((name, points) for _, each in found for name, points in each)
    axes = _axes(figure, size, box, labels=1.4)
    for index, (name, points) in enumerate(reversed(series)):
        for override in panel["fieldConfig"]["overrides"]:
            if re.search(override["matcher"]["options"].strip("/"), name):
                colour = override["properties"][0]["value"][0]["options"]["1"]["color"]
        held = [at for at, value in points if value == 1]
        axes.barh([index] * len(points), 1.0, left=[at for at, _ in points], height=0.7,
                  color="#eceff1")  # fmt: skip
        axes.barh([index] * len(held), 1.0, left=held, height=0.7, color=COLOURS[colour])
    axes.set_yticks(range(len(series)), [name for name, _ in reversed(series)])
    return axes


def _table(figure, _size, box, panel, found):
    """The found series are the labels themselves."""
    left, bottom, width, height = box
    order = panel["transformations"][0]["options"]["indexByName"]
    columns = sorted(order, key=order.get)
    (_, series), = found  # fmt: skip
    last = max(points[-1][0] for _, points in series)
    rows = sorted(
        tuple(labels.get(name, "") for name in columns)
        for labels, points in series
        if points[-1][0] == last
    )
    widths = [max(map(len, cells)) + 2 for cells in zip(columns, *rows, strict=True)]
    starts = np.cumsum([0, *widths]) / sum(widths)
    for number, row in enumerate([tuple(columns), *rows]):
        y = bottom + height * (0.92 - 0.11 * number)
        for start, cell in zip(starts, row, strict=False):
            colour = INK if number else FAINT
            figure.text(left + width * start, y, cell, size=7.5, color=colour)


def _axes(figure, size, box, *, labels=0.55, right=0.05):
    left, bottom, width, height = box
    return figure.add_axes((
        left + labels / size[0], bottom + 0.5 / size[1],
        width - (labels + right) / size[0], height - 0.5 / size[1],
    ))  # fmt: skip


def _dress(axes, panel, span):
    begin, end = span
    axes.set_xlim(begin, end)
    seconds = range(0, int(end - begin) + 1, 10)
    axes.set_xticks([begin + second for second in seconds], [f"{second} s" for second in seconds])
    axes.tick_params(labelsize=7, colors=FAINT, length=2)
    if panel["type"] == "timeseries":
        axes.grid(color="#e6e8ea", linewidth=0.6)
        axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d8d9da")


def _legend(axes, *, columns):
    handles, names = axes.get_legend_handles_labels()
    more = len(names) - NAMES
    if more > 0:
        handles, names = handles[:NAMES], [*names[: NAMES - 1], f"and {more + 1} more"]
    axes.legend(
        handles, names, loc="upper left", bbox_to_anchor=(-0.02, -0.11), ncols=columns,
        fontsize=6.8, frameon=False, handlelength=1.1, columnspacing=1.0, handletextpad=0.4,
        labelcolor=INK,
    )  # fmt: skip


def _colours(panel, names):
    fixed = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
    }
    return {
        name: COLOURS.get(fixed[name], fixed[name])
        if name in fixed
        else PALETTE[index % len(PALETTE)]
        for index, name in enumerate(sorted(names))
    }


def _threshold(panel, value):
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]]


def _unit(panel):
    return panel["fieldConfig"]["defaults"]["unit"]


def _told(value, unit):
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        if value and abs(value) < 1:
            return f"{1_000 * value:.3g} ms"
        return f"{value / 60:.2g} min" if abs(value) >= 120 else f"{value:.3g} s"
    suffix = {"recps": " rec/s", "ops": " /s", "bytes": " B"}.get(unit, "")
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:.3g}{letter}{suffix}"
    return f"{value:.3g}{suffix}"
