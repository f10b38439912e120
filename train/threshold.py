"""`emotion-train threshold`: chooses when a checkpoint abstains, and writes that into it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from train import abstain, classify, labels, limits, manifest, recipe, tables
from train.calibrate import Floats
from train.dataset import Columns, Split, load_for_evaluation, texts_of
from train.errors import Refused
from train.output import is_full, write_whole
from train.printer import Printer, counted
from train.settings import ThresholdSettings

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
    chosen = abstain.choose(
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
    printer.line(chosen.line(split.name))
    others = []
    if settings.outside is not None:
        found = abstain.apply(theirs, thresholds, temperature=temperature)
        others = [limits.Outside.of(settings.outside.name, found)]
        printer.line(f"{settings.outside}: {others[0].line()}")
    entry = abstain.entry_of(chosen, split=split.name, rows=len(split))
    write(settings.checkpoint, entry)
    limits.rewrite(settings.checkpoint / "report" / "README.md", entry, others)
    printer.line(
        f"saved in {settings.checkpoint / manifest.FILE}: the worker uses them where"
        " model.abstain is on"
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
