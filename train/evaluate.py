"""`emotion-train evaluate`: measures a checkpoint on a split of a dataset, or on a file."""

import json
from collections.abc import Sequence
from pathlib import Path

from train import classify, labels, machine, metrics, reading, report
from train.calibrate import Floats, probabilities
from train.dataset import Columns, Split, load_for_evaluation
from train.errors import Refused
from train.output import is_full, write_whole
from train.printer import Printer, counted, warn
from train.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings, printer: Printer) -> None:
    """Prints the metrics; writes the files that the options name.

    Raises:
        Refused: Anything that the user can mend.
    """
    for option in ("json_file", "predictions_file"):
        _refuse_unwritable(getattr(settings, option), option.removesuffix("_file"))
    names = labels.mapping(settings.labels)
    with printer.busy(f"loading the checkpoint {settings.checkpoint}"):
        on = machine.choose(settings.device, settings.precision)
        classifier = classify.load(settings.checkpoint, on=on)
    split = load_for_evaluation(
        settings.dataset,
        split=settings.split,
        columns=Columns(
            text=settings.text_column,
            label=settings.label_column,
            config=settings.dataset_config,
            names=names,
        ),
        labels=classifier.labels,
    )
    for note in split.notes:
        printer.line(note)
    for line in reading.doubts([split]):
        warn(line)
    with printer.busy(f"labelling {counted(len(split), 'text')}"):
        logits = classifier.logits(split.texts)
    if settings.predictions_file is not None:
        scores = probabilities(logits, classifier.facts.temperature)
        _write(settings.predictions_file, "".join(_predictions(split, scores, classifier.labels)))
    printer.line(
        f"{settings.dataset}: {split.name}, {counted(len(split), 'row')}, {on.device},"
        f" {on.precision}"
    )
    if len(split.parts) > 1:
        printer.table(("split", "file", "rows"), reading.files([split]))
    if split.targets is None:
        if settings.json_file is not None or settings.report is not None:
            raise Refused(
                f"{split.name}: has no labels (column {settings.label_column!r}), so there are no"
                " metrics"
            )
        printer.line("no labels, so there are no metrics")
        return
    _measure(settings, classifier, split, logits, printer)


def _measure(
    settings: EvaluateSettings,
    classifier: classify.Classifier,
    split: Split,
    logits: Floats,
    printer: Printer,
) -> None:
    temperature = classifier.facts.temperature
    figures = metrics.measure(
        logits, split.targets or (), labels=classifier.labels, temperature=temperature
    )
    result = report.measured(
        split, logits, figures, labels=classifier.labels, temperature=temperature
    )
    # The files first: they are written also where nobody reads the output to its end (`| head`).
    if settings.json_file is not None:
        facts = {
            **figures.as_json(),
            "split": split.name,
            "temperature": temperature,
            "confusion": figures.confusion,
        }
        _write(settings.json_file, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    if settings.report is not None:
        try:
            report.write_mistakes(settings.report, result)
            report.draw_pictures(settings.report, result)
        except OSError as error:
            raise Refused(f"--report {settings.report}: {error.strerror}") from error
    report.print_figures(printer, result)


def _predictions(split: Split, scores: Floats, labels: Sequence[str]) -> list[str]:
    lines = []
    for row, (text, answer) in enumerate(zip(split.texts, scores.argmax(axis=1), strict=True)):
        line = {"text": text, "label": labels[answer], "score": float(scores[row, answer])}
        if split.targets is not None:
            line["target"] = labels[split.targets[row]]
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return lines


def _refuse_unwritable(path: Path | None, option: str) -> None:
    """Checks before minutes of work, not after."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        what = "is a directory" if path.is_dir() else "no such directory"
        raise Refused(f"--{option} {path}: {what}")


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        what = "no space left on the device" if is_full(error) else error.strerror
        raise Refused(f"{path}: {what}") from error
