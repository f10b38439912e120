"""The report: pictures, mistakes and, for a checkpoint that was just trained, its model card."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from train import limits, plots
from train.calibrate import Floats, probabilities, reliability, softmax
from train.dataset import Split
from train.fonts import undrawable
from train.given.library import first_line
from train.history import History
from train.manifest import Manifest
from train.metrics import Figures
from train.mistakes import Mistake, most_confident
from train.output import write_whole
from train.printer import Printer, counted, warn


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A split, what the checkpoint answers on it, and how good that is."""

    split: Split
    logits: Floats
    """Before the temperature: float64, shape (texts, labels)."""
    scores: Floats
    """Those whose calibration was measured: published or, on validation, cross-fitted."""
    figures: Figures
    mistakes: tuple[Mistake, ...]


def measured(
    split: Split,
    logits: Floats,
    figures: Figures,
    *,
    labels: tuple[str, ...],
    temperature: float,
    cross_fitted: Floats | None = None,
) -> Measured:
    """Adds the most confident mistakes to the metrics of a split.

    Args:
        split: Its rows have targets.
        logits: Before the temperature: float64, shape (texts, labels).
        figures: The metrics of the split.
        labels: Names, in the order of the columns.
        temperature: That of the published scores: the mistakes have theirs.
        cross_fitted: As `metrics.measure` got it.
    """
    scores = probabilities(logits, temperature)
    return Measured(
        split=split,
        logits=logits,
        scores=scores if cross_fitted is None else cross_fitted,
        figures=figures,
        mistakes=most_confident(split, scores, labels=labels),
    )


_COLUMNS = ("metric", "value", "95 % interval")
_CROSS_FITTED = "the score of each row has the temperature that was fitted on other rows"


def _rows(figures: Figures) -> list[tuple[str, str, str]]:
    """The metrics of the split as a whole, as text."""
    name = "expected calibration error"
    return [
        (metric, f"{value:.4f}", f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "")
        for metric, value, ends in (
            ("accuracy", figures.accuracy, figures.intervals.accuracy),
            ("macro F1", figures.macro_f1, figures.intervals.macro_f1),
            (
                f"{name}, cross-fitted" if figures.cross_fitted else name,
                figures.ece,
                figures.intervals.ece,
            ),
            (f"{name} at temperature 1", figures.ece_uncalibrated, None),
        )
    ]


def print_figures(printer: Printer, result: Measured) -> None:
    """Prints the metrics of a split, then its most confident mistakes."""
    figures = result.figures
    printer.line(f"{result.split.name}: {counted(figures.rows, 'row')}")
    printer.table(_COLUMNS, _rows(figures))
    if figures.cross_fitted:
        printer.line(f"cross-fitted: {_CROSS_FITTED}")
    printer.table(
        ("label", "precision", "recall", "F1", "rows"),
        [(row.label, row.precision, row.recall, row.f1, row.rows) for row in figures.per_label],
    )
    if result.mistakes:
        printer.heading("Most confident mistakes")
        printer.table(
            ("row", "score", "answer", "target", "text"),
            [(m.row, m.score, m.label, m.target, m.text) for m in result.mistakes],
        )


def write_mistakes(folder: Path, result: Measured) -> None:
    """Writes `mistakes.jsonl` of one split.

    Args:
        folder: The directory to write in; it is made where there is none.
        result: The split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(mistake), ensure_ascii=False) for mistake in result.mistakes]
    write_whole(folder / "mistakes.jsonl", "".join(f"{line}\n" for line in lines))


def draw_pictures(folder: Path, result: Measured, *, history: History | None = None) -> None:
    """Draws `confusion.png`, `reliability.png` and, after a training, `curves.png`.

    A picture that cannot be drawn is a warning: what it shows is in the tables too.

    Args:
        folder: The directory to write in.
        result: The split.
        history: Losses and metrics of the epochs, where it was just trained.
    """
    targets = result.split.targets or ()
    labels = [row.label for row in result.figures.per_label]
    _draw(
        folder / "confusion.png",
        lambda path: plots.confusion(result.figures.confusion, labels, path),
    )
    _draw(
        folder / "reliability.png",
        lambda path: plots.reliability(
            reliability(softmax(result.logits), targets),
            reliability(result.scores, targets),
            path,
        ),
    )
    if history is not None:
        _draw(folder / "curves.png", lambda path: plots.curves(history, path))
    if numbered := undrawable(labels):
        warn(
            f"no installed font has the script of {counted(len(numbered), 'label')}, such as"
            f" {numbered[0]}: pictures show their places in the table of labels, #1, #2 ..."
        )


def _draw(path: Path, draw: Callable[[Path], None]) -> None:
    # Drawn under another name: a Ctrl-C leaves no half of a picture.
    part = path.with_name(f".partial-{path.name}")
    try:
        draw(part)
        part.replace(path)
    except Exception as error:  # noqa: BLE001 - whatever a font or a library does: no checkpoint may be lost
        warn(f"{path.name} could not be drawn: {first_line(error)}")
        path.unlink(missing_ok=True)  # of an earlier evaluation
    finally:
        part.unlink(missing_ok=True)


def write_card(
    folder: Path, facts: Manifest, history: History, result: Measured, *, origin: str, noise: float
) -> None:
    """Writes the model card `README.md`, which shows all the pictures.

    Args:
        folder: The directory to write in, with the other pictures.
        facts: The manifest of the checkpoint.
        history: Losses and metrics of the epochs.
        result: The split on which the checkpoint was measured.
        origin: Where the temperature comes from.
        noise: Share of the labels of validation that stay after typing noise, 0 to 1.
    """
    card = _card(facts, history, result, origin=origin, noise=noise)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _card(facts: Manifest, history: History, result: Measured, *, origin: str, noise: float) -> str:
    figures, split = result.figures, result.split.name
    rows = ", ".join(f"{name} {count:,}" for name, count in facts.dataset.rows.items())
    if facts.dataset.validation_made:
        rows += ", with validation taken from train"
    chosen = (
        ""
        if split == "test"
        else "The dataset has no test split, so these are the metrics on the rows on which the best"
        " epoch was chosen: expect a little less on new texts.\n"
    )
    cross_fitted = (
        f"The calibration error is cross-fitted: {_CROSS_FITTED}.\n" if figures.cross_fitted else ""
    )
    numbered = (
        ""
        if all(label.isascii() for label in facts.labels)
        else "In the pictures a label that no font of the machine had is `#` and its place in this"
        " table.\n\n"
    )
    shares = ", ".join(f"{label} {share:.1%}" for label, share in facts.label_distribution.items())
    return f"""# {facts.name}

Labels a text with one of {len(facts.labels)} labels: {", ".join(facts.labels)}. Version
`{facts.version}`, fine-tuned with `emotion-train`.

| | |
|---|---|
| base model | {facts.base_model} |
| dataset | {facts.dataset.name} ({rows}; fingerprint `{facts.dataset.fingerprint}`) |
| share of each label in training | {shares} |
| best epoch | {history.best.epoch:g} of {history.epochs[-1].epoch:g}, by macro F1 on validation |
| training | {history.seconds:.0f} s, {history.samples_per_second:.0f} samples/s |
| temperature | {facts.temperature:.4f}, {origin} |
| maximum length | {facts.max_length} tokens; longer texts are truncated |
| normalizer | {facts.normalizer or "none"} |
| seed | {facts.seed} |

## Evaluation

On the {split} split, {counted(figures.rows, "row")}.
{chosen}{cross_fitted}
{_table(_COLUMNS, _rows(figures))}
{
        _table(
            ("label", "precision", "recall", "F1", "rows"),
            [
                (r.label, f"{r.precision:.4f}", f"{r.recall:.4f}", f"{r.f1:.4f}", str(r.rows))
                for r in figures.per_label
            ],
        )
    }
{numbered}![Confusion matrix](confusion.png)

![Reliability diagram](reliability.png)

## Training

{
        _table(
            ("epoch", "training loss", "validation loss", "accuracy", "macro F1"),
            [
                (
                    f"{e.epoch:g}",
                    f"{e.train_loss:.4f}",
                    f"{e.validation_loss:.4f}",
                    f"{e.accuracy:.4f}",
                    f"{e.macro_f1:.4f}",
                )
                for e in history.epochs
            ],
        )
    }
![Loss and accuracy](curves.png)

## Limits

The model always answers with one of its labels: also for a text in another language, a text that
fits none of them, or one that fits several. It is not for such texts, nor for judging a person: it
labels words. It repeats the biases of its dataset. `mistakes.jsonl` lists its most confident
mistakes. Low scores, or labels whose shares drift from those in training, show that it gets texts
unlike those that it was trained on.

{limits.paragraph(facts.abstain)}

Typed as people type, with capitals, punctuation, mentions, links, entities, hashtags, emoji or
stretched letters, {noise:.1%} of the texts of validation keep their label.
"""


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(
        f"| {' | '.join(text.replace('|', '&#124;') for text in line)} |\n" for line in lines
    )
