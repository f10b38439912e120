"""`emotion-train threshold`: chooses when a checkpoint abstains, and writes that into it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from train import abstain, classify, labels, limits, machine, manifest, tables
from train.dataset import Columns, Split, load_for_evaluation, texts_of
from train.errors import Refused
from train.output import is_full, write_whole
from train.printer import Printer, counted, warn
from train.settings import ThresholdSettings

COVERAGES = (0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)
"""The rows of the table; the chosen one is added."""


def threshold(settings: ThresholdSettings, printer: Printer) -> None:
    """Chooses, prints and writes the thresholds.

    Raises:
        Refused: Anything that the user can mend; the manifest is then as it was.
    """
    names = labels.mapping(settings.labels)
    outside = _outside(settings)
    with printer.busy(f"loading the checkpoint {settings.checkpoint}"):
        on = machine.choose(settings.device, "float32")
        classifier = classify.load(settings.checkpoint, on=on)
    if not os.access(settings.checkpoint, os.W_OK):
        raise Refused(f"--checkpoint {settings.checkpoint}: the directory cannot be written")
    split = _labelled(settings, names, classifier.labels)
    for note in split.notes:
        printer.line(note)
    _warn_of_other_texts(settings, classifier.facts)
    with printer.busy(f"labelling {counted(len(split) + len(outside), 'text')}"):
        logits = classifier.logits(split.texts)
        theirs = classifier.logits(outside)
    temperature = classifier.facts.temperature
    signals = abstain.Signals.of(logits, temperature=temperature)
    correct = abstain.right(logits, split.targets or ())
    others = abstain.Signals.of(theirs, temperature=temperature) if len(outside) else None
    chosen = abstain.choose(signals, correct, precision=settings.target_precision)
    if isinstance(chosen, str):
        raise Refused(f"{split.name}: {chosen}")
    printer.line(f"{settings.dataset}: {split.name}, {counted(len(split), 'row')}, {on.device}")
    rows = [
        _row(signals, correct, others, coverage=coverage)
        for coverage in sorted({*COVERAGES, chosen.coverage}, reverse=True)
    ]
    columns = ("coverage", "precision", "least score", "most energy", "--outside abstained")
    printer.table(columns[: len(rows[0])], rows)
    printer.line(chosen.line(split.name))
    found = []
    if settings.outside is not None and others is not None:
        found = [limits.Outside.of(settings.outside.name, abstain.apply(others, chosen.thresholds))]
        printer.line(f"{settings.outside}: {found[0].line()}")
    entry = abstain.entry_of(chosen, split=split.name, rows=len(split))
    write(settings.checkpoint, entry)
    limits.rewrite(settings.checkpoint / "report" / "README.md", entry, found)
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


def _warn_of_other_texts(settings: ThresholdSettings, facts: manifest.Manifest) -> None:
    trained, name = facts.dataset.name, Path(settings.dataset).name
    if trained and Path(trained).name != name:
        warn(f"the model was trained on {trained}: the thresholds will suit texts of {name}")
    if settings.split == "train" and not tables.is_file(settings.dataset):
        warn("--split train: of texts that it was trained on the model is too sure")


def _outside(settings: ThresholdSettings) -> tuple[str, ...]:
    """The texts of `--outside`."""
    if settings.outside is None:
        return ()
    return texts_of(settings.outside.expanduser(), Columns(text=settings.text_column))


def _row(
    signals: abstain.Signals,
    correct: abstain.Bools,
    outside: abstain.Signals | None,
    *,
    coverage: float,
) -> tuple[float, ...]:
    """A row of the table: what a coverage gives."""
    thresholds = abstain.thresholds_at(signals, coverage=coverage)
    quality = abstain.quality_at(signals, correct, coverage=coverage)
    row = coverage, quality.precision, thresholds.score, thresholds.energy
    if outside is None:
        return row
    return (*row, float(1 - abstain.apply(outside, thresholds).answered.mean()))
