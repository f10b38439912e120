"""The report folder: pictures, mistakes and, for a trained checkpoint, its model card."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from train import plots
from train.calibrate import Floats, probabilities, reliability, softmax
from train.dataset import Split
from train.history import History
from train.manifest import Manifest
from train.metrics import Figures
from train.mistakes import Mistake, most_confident
from train.show import Show


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A split with what the checkpoint answers on it."""

    split: Split
    logits: Floats
    figures: Figures
    mistakes: tuple[Mistake, ...]


def measured(
    split: Split,
    logits: Floats,
    figures: Figures,
    *,
    labels: tuple[str, ...],
    temperature: float,
) -> Measured:
    scores = probabilities(logits, temperature)
    return Measured(
        split=split,
        logits=logits,
        figures=figures,
        mistakes=most_confident(split, scores, labels=labels),
    )


def show_figures(show: Show, result: Measured) -> None:
    """The figures of a split, then its most confident mistakes."""
    figures = result.figures
    show.line(
        f"{result.split.name}: {figures.rows:,} rows, accuracy {figures.accuracy:.4f}, "
        f"macro F1 {figures.macro_f1:.4f}, calibration error {figures.ece:.4f} "
        f"({figures.ece_uncalibrated:.4f} at temperature 1)"
    )
    show.table(
        ("label", "precision", "recall", "f1", "rows"),
        [(row.label, row.precision, row.recall, row.f1, row.rows) for row in figures.per_label],
    )
    if result.mistakes:
        show.heading("Most confident mistakes")
        show.table(
            ("row", "score", "answer", "target", "text"),
            [(m.row, m.score, m.label, m.target, m.text) for m in result.mistakes],
        )


def write_pictures(folder: Path, result: Measured, *, temperature: float) -> None:
    """`confusion.png`, `reliability.png` and `mistakes.jsonl` of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = result.split.targets or ()
    labels = [row.label for row in result.figures.per_label]
    plots.confusion(result.figures.confusion, labels, folder / "confusion.png")
    plots.reliability(
        reliability(softmax(result.logits), targets),
        reliability(probabilities(result.logits, temperature), targets),
        folder / "reliability.png",
    )
    lines = [json.dumps(asdict(mistake), ensure_ascii=False) for mistake in result.mistakes]
    (folder / "mistakes.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_card(folder: Path, facts: Manifest, history: History, result: Measured) -> None:
    """`curves.png` and the model card `README.md`, which shows all the pictures."""
    plots.curves(history, folder / "curves.png")
    (folder / "README.md").write_text(_card(facts, history, result), encoding="utf-8")


def _card(facts: Manifest, history: History, result: Measured) -> str:
    figures, split = result.figures, result.split.name
    rows = ", ".join(f"{name} {count:,}" for name, count in facts.dataset.rows.items())
    chosen = (
        ""
        if split == "test"
        else " The dataset has no test split, so these figures are of the very rows on which the"
        " epoch and the temperature were chosen: a little better than on new texts."
    )
    shares = ", ".join(f"{label} {share:.1%}" for label, share in facts.label_distribution.items())
    return f"""# {facts.name}

Version `{facts.version}`. Labels a text with one of: {", ".join(facts.labels)}.

| | |
|---|---|
| base model | {facts.base_model} |
| dataset | {facts.dataset.name} ({rows}; fingerprint `{facts.dataset.fingerprint}`) |
| labels in training | {shares} |
| best epoch | {history.best.epoch:g} of {history.epochs[-1].epoch:g}, by validation macro F1 |
| training | {history.seconds:.0f} s, {history.samples_per_second:.0f} samples/s |
| temperature | {facts.temperature:.4f}, fitted on validation |
| max length | {facts.max_length} tokens; longer texts are cut |
| seed | {facts.seed} |

## How good it is

On the {split} split, {figures.rows:,} rows: accuracy {figures.accuracy:.4f}, macro F1
{figures.macro_f1:.4f}, expected calibration error {figures.ece:.4f}
({figures.ece_uncalibrated:.4f} before the temperature).{chosen}

{
        _table(
            ("label", "precision", "recall", "F1", "rows"),
            [
                (r.label, f"{r.precision:.4f}", f"{r.recall:.4f}", f"{r.f1:.4f}", str(r.rows))
                for r in figures.per_label
            ],
        )
    }
![Confusion matrix](confusion.png)

![Reliability](reliability.png)

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

It always answers with one of its labels, also for a text in another language, about nothing
or with several emotions, and it repeats the habits of its dataset. `mistakes.jsonl` has its
most confident mistakes. A low score, or a label mix that drifts from that of training, is
the sign of texts that it does not know.
"""


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
