"""The pictures of a report, drawn without pyplot: no display, no global state."""

import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.calibrate import Bin
from train.fonts import drawable, families
from train.history import History

_DOTS_PER_INCH = 120
"""Sharp on a screen of double density, at about 100 KB a picture."""

_POINTS_PER_INCH = 72

_WIDEST = 20.0
"""Inches of the widest picture: 2,400 pixels, drawn in about 100 MB."""

_MOST_COUNTS = 40
"""Labels up to which counts stand in the cells: each is a text of its own to draw, 1,600 in all."""

_ZEROS = 20
"""Labels up to which zeros are written too, and names stand askew. Beyond, zeros are clutter."""

_MOST_NAMES = 170
"""Labels up to which each is named: beyond, letters of 6 points overlap."""

_LONGEST_NAME = 32
"""Characters of a label; the rest is cut, or the names would be wider than the matrix."""


def confusion(counts: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix: rows are targets, columns are answers.

    Its size and the work are bounded: from `_MOST_COUNTS` labels on only the colours are drawn, and
    from `_MOST_NAMES` on not every label is named.

    Args:
        counts: `counts[i][j]`: rows of target i that were labelled j. They are written into the
            cells; the colour is the share of the row.
        labels: Names, in the order of rows and columns. One in a script that no installed font has
            is drawn as `#` and its place, counted from 1.
        path: The file to write.
    """
    matrix = np.asarray(counts, dtype=np.float64)
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = min(_WIDEST, max(4.5, 0.8 * len(labels) + 2))
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    cell = side * 0.77 * _POINTS_PER_INCH / len(labels)
    _name_axes(axes, labels, size=min(10.0, max(6.0, 0.75 * cell)))
    axes.set_xlabel("answer")
    axes.set_ylabel("target")
    if len(labels) <= _MOST_COUNTS:
        size = min(10.0, 0.4 * cell)
        for i, j in itertools.product(range(len(labels)), repeat=2):
            if counts[i][j] or len(labels) <= _ZEROS:
                dark = shares[i][j] > 0.5  # noqa: PLR2004 - half-way on the colour scale
                axes.text(
                    *(j, i, str(counts[i][j])),
                    ha="center",
                    va="center",
                    fontsize=size,
                    color="white" if dark else "black",
                )
    else:
        figure.colorbar(image, fraction=0.03, pad=0.02, label="share of the target's rows")
    _save(figure, path)


def _name_axes(axes: Axes, labels: Sequence[str], *, size: float) -> None:
    step = -(-len(labels) // _MOST_NAMES)
    places = list(range(0, len(labels), step))
    names = [labels[place] for place in places]
    fonts = families(names)
    shown = [
        _short(name) if drawable(name, fonts) else f"#{place + 1}"
        for place, name in zip(places, names, strict=True)
    ]
    # A label such as "$5 to $10" is no formula.
    plain: Any = {"parse_math": False, "usetex": False, "fontfamily": fonts, "fontsize": size}
    steep = len(labels) > _ZEROS
    axes.set_xticks(
        *(places, shown),
        rotation=90 if steep else 45,
        ha="center" if steep else "right",
        **plain,
    )
    axes.set_yticks(places, shown, **plain)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return (
        name
        if len(name) <= _LONGEST_NAME
        else f"{name[: _LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def curves(history: History, path: Path) -> None:
    """Draws the loss on training and validation, and the metrics on validation, over the epochs."""
    figure = Figure(figsize=(9, 3.6))
    loss, quality = figure.subplots(1, 2)
    epochs = [row.epoch for row in history.epochs]
    loss.plot(*zip(*history.losses, strict=True), label="training")
    loss.plot(epochs, [row.validation_loss for row in history.epochs], "o-", label="validation")
    loss.set_ylabel("loss")
    quality.plot(epochs, [row.accuracy for row in history.epochs], "o-", label="accuracy")
    quality.plot(epochs, [row.macro_f1 for row in history.epochs], "o-", label="macro F1")
    quality.set_ylabel("validation")
    for axes in (loss, quality):
        axes.set_xlabel("epoch")
        axes.legend()
        axes.grid(alpha=0.3)
    _save(figure, path)


def reliability(before: Sequence[Bin], after: Sequence[Bin], path: Path) -> None:
    """Draws accuracy against confidence, before and after the temperature."""
    figure = Figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, before, "temperature 1")
    _bars(right, after, "with the temperature")
    left.set_ylabel("accuracy")
    _save(figure, path)


def _bars(axes: Axes, bins: Sequence[Bin], title: str) -> None:
    width = 1 / len(bins)
    middles = [(i + 0.5) * width for i in range(len(bins))]
    axes.plot([0, 1], [0, 1], "--", color="grey")
    axes.bar(middles, [b.accuracy for b in bins], width=width, edgecolor="white")
    for middle, b in zip(middles, bins, strict=True):
        if b.rows:
            axes.text(middle, 0.02, str(b.rows), ha="center", rotation=90, fontsize=7)
    axes.set(title=title, xlabel="score of the answer", xlim=(0, 1), ylim=(0, 1))


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        # Of fonts and margins: the picture is drawn all the same, and nobody can act on them.
        warnings.simplefilter("ignore")
        figure.savefig(path, dpi=_DOTS_PER_INCH, bbox_inches="tight")
