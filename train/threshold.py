"""`emotion-train threshold`: chooses when a checkpoint abstains, and writes that into it."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from train import abstain, classify, labels, manifest, recipe, tables
from train.calibrate import Floats
from train.dataset import Columns, Split, load_for_evaluation, texts_of
from train.errors import Refused
from train.output import is_full, write_whole
from train.printer import Printer, counted
from train.settings import ThresholdSettings

FEWEST = 50
"""Texts of which at least the thresholds are chosen: of fewer, one alone moves a threshold."""

COVERAGES = (0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)
"""The lines of the table."""


def threshold(settings: ThresholdSettings, printer: Printer) -> None:
    """Chooses, prints and writes the thresholds.

    Raises:
        Refused: Anything that the user can mend; the manifest is then as it was.
    """
    names = labels.mapping(settings.labels)
    with printer.busy(f"loading the checkpoint {settings.checkpoint}"):
        on = recipe.machine(settings.device, "float32")
        classifier = classify.load(settings.checkpoint, on=on)
    split = _labelled(settings, names, classifier.labels)
    outside = _outside(settings)
    with printer.busy(f"labelling {counted(len(split) + len(outside), 'text')}"):
        logits = classifier.logits(split.texts)
        theirs = classifier.logits(outside)
    temperature = classifier.facts.temperature
    chosen = choose(
        logits, split.targets or (), temperature=temperature, precision=settings.target_precision
    )
    if isinstance(chosen, str):
        raise Refused(f"{split.name}: {chosen}: lower --precision")
    printer.line(f"{settings.dataset}: {split.name}, {counted(len(split), 'row')}, {on.device}")
    lines = [
        _line(logits, split.targets or (), theirs, temperature=temperature, coverage=coverage)
        for coverage in sorted({*COVERAGES, chosen.asked}, reverse=True)
    ]
    columns = ("coverage", "precision", "score below", "energy above", "outside abstained")
    printer.table(columns[: len(lines[0])], lines)
    thresholds = chosen.thresholds
    printer.line(
        f"abstains below the score {thresholds.score:.4f} and above the energy"
        f" {thresholds.energy:.4f}: answers {chosen.kept.coverage:.1%} of {split.name}, of which"
        f" {chosen.kept.precision:.1%} are right ({chosen.kept.low:.1%} to {chosen.kept.high:.1%})"
    )
    if len(outside):
        found = abstain.apply(theirs, thresholds, temperature=temperature)
        printer.line(
            f"{settings.outside}: abstains on {1 - found.answered.mean():.1%} of"
            f" {counted(len(outside), 'text')}: out of domain {found.out_of_domain.mean():.1%},"
            f" low score {found.low_score.mean():.1%}"
        )
    write(settings.checkpoint, chosen.entry(split=split.name, rows=len(split)))
    printer.line(
        f"saved in {settings.checkpoint / manifest.FILE}: the worker uses them where"
        " model.abstain is on"
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Thresholds, and how good the answers are with them."""

    asked: float
    """The coverage that they were chosen for."""
    thresholds: abstain.Thresholds
    kept: abstain.Kept
    """On texts that did not choose them."""

    def entry(self, *, split: str, rows: int) -> manifest.Abstain:
        """The entry `abstain` of the manifest."""
        return manifest.Abstain(
            score=self.thresholds.score,
            energy=self.thresholds.energy,
            coverage=self.kept.coverage,
            precision=self.kept.precision,
            precision_interval=(self.kept.low, self.kept.high),
            split=split,
            rows=rows,
        )


def choose(
    logits: Floats, targets: Sequence[int], *, temperature: float, precision: float
) -> Chosen | str:
    """The thresholds that answer the most texts with a precision, or why there are none.

    Args:
        logits: Before the temperature: float64, shape (texts, labels).
        targets: The right column of each text.
        temperature: That of the published scores.
        precision: The share of the answers that must be right.
    """
    if len(targets) < FEWEST:
        return f"{counted(len(targets), 'row')}; thresholds need {FEWEST}"
    coverage, kept = abstain.most_answered(
        logits, targets, temperature=temperature, precision=precision
    )
    if kept.precision < precision:
        return (
            f"no thresholds make {precision:.1%} of the answers right; the best are"
            f" {kept.precision:.1%} of {kept.coverage:.1%} of the texts"
        )
    return Chosen(
        asked=coverage,
        thresholds=abstain.at_coverage(logits, temperature=temperature, coverage=coverage),
        kept=kept,
    )


def write(checkpoint: Path, entry: manifest.Abstain) -> None:
    """Puts the entry `abstain` into a checkpoint's manifest; all else of it stays as it is.

    Raises:
        Refused: The manifest cannot be written.
    """
    path = checkpoint / manifest.FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        facts["abstain"] = entry.model_dump(mode="json")
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        write_whole(path, text + "\n")
    except OSError as error:
        what = "no space left on the device" if is_full(error) else error.strerror
        raise Refused(f"{path}: {what}") from error


def _labelled(
    settings: ThresholdSettings, names: Mapping[str, str], classes: tuple[str, ...]
) -> Split:
    split = load_for_evaluation(
        settings.dataset,
        split=None if tables.is_file(settings.dataset) else settings.split,
        columns=Columns(
            text=settings.text_column,
            label=settings.label_column,
            config=settings.dataset_config,
            names=names,
        ),
        labels=classes,
    )
    if split.targets is None:
        raise Refused(
            f"{split.name}: has no labels (column {settings.label_column!r}), and thresholds are"
            " chosen by the answers that are right"
        )
    return split


def _outside(settings: ThresholdSettings) -> tuple[str, ...]:
    """The texts of `--outside`."""
    if settings.outside is None:
        return ()
    return texts_of(settings.outside, Columns(text=settings.text_column))


def _line(
    logits: Floats,
    targets: Sequence[int],
    outside: Floats,
    *,
    temperature: float,
    coverage: float,
) -> tuple[object, ...]:
    """A line of the table: what a coverage gives."""
    thresholds = abstain.at_coverage(logits, temperature=temperature, coverage=coverage)
    kept = abstain.kept(logits, targets, temperature=temperature, coverage=coverage)
    found = abstain.apply(outside, thresholds, temperature=temperature)
    line = coverage, kept.precision, thresholds.score, thresholds.energy
    return (*line, float(1 - found.answered.mean())) if len(outside) else line
