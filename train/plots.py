"""The pictures of a report, drawn without pyplot: no display, no global state."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.calibrate import Bin
from train.history import History

_DOTS_PER_INCH = 120
"""Sharp on a screen of double density, at about 100 KB a picture."""


def confusion(counts: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> None:
    """Draws a confusion matrix: rows are targets, columns are answers.

    Args:
        counts: `counts[i][j]`: rows of target i that were labelled j. They are written into the
            cells; the colour is the share of the row.
        labels: Names, in the order of rows and columns.
        path: The file to write.
    """
    size = max(4.5, 0.8 * len(labels) + 2)
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(labels))
    axes.set_xticks(places, labels, rotation=45, ha="right")
    axes.set_yticks(places, labels)
    axes.set_xlabel("answer")
    axes.set_ylabel("target")
    for i in places:
        for j in places:
            dark = shares[i][j] > 0.5  # noqa: PLR2004 - half-way on the colour scale
            axes.text(j, i, str(counts[i][j]), ha="center", color="white" if dark else "black")
    _save(figure, path)


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
    _bars(right, after, "calibrated")
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
    figure.tight_layout()
    with warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes, which needs no paragraph.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing", category=UserWarning)
        figure.savefig(path, dpi=_DOTS_PER_INCH)
