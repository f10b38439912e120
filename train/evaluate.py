"""`emotion-train evaluate`: a checkpoint on a split or a file."""

import json
from collections.abc import Sequence
from pathlib import Path

from train import classify, metrics, recipe, report
from train.calibrate import Floats, probabilities
from train.checkpoint import is_full
from train.dataset import Columns, Split, load_for_evaluation
from train.errors import Refused
from train.settings import EvaluateSettings
from train.show import Show


def evaluate(settings: EvaluateSettings, show: Show) -> None:
    """Metrics to the screen and to `--json`, one line a row to `--predictions`.

    Raises:
        Refused: Anything that the user can mend.
    """
    for option in ("json_file", "predictions_file"):
        _refuse_unwritable(getattr(settings, option), option.removesuffix("_file"))
    on = recipe.machine(settings.device, settings.precision)
    classifier = classify.load(settings.checkpoint, on=on)
    split = load_for_evaluation(
        settings.dataset,
        split=settings.split,
        columns=Columns(text=settings.text_column, label=settings.label_column),
        labels=classifier.labels,
    )
    logits = classifier.logits(split.texts)
    if settings.predictions_file is not None:
        scores = probabilities(logits, classifier.facts.temperature)
        _write(settings.predictions_file, "".join(_predictions(split, scores, classifier.labels)))
    show.line(f"{settings.dataset}: {split.name}, {len(split):,} rows, {on.device}, {on.precision}")
    if split.targets is None:
        if settings.json_file is not None or settings.report is not None:
            raise Refused(f"{split.name}: no labels ({settings.label_column!r}), so no metrics")
        show.line("no labels, so no metrics")
        return
    _measure(settings, classifier, split, logits, show)


def _measure(
    settings: EvaluateSettings,
    classifier: classify.Classifier,
    split: Split,
    logits: Floats,
    show: Show,
) -> None:
    temperature = classifier.facts.temperature
    figures = metrics.measure(
        logits, split.targets or (), labels=classifier.labels, temperature=temperature
    )
    result = report.measured(
        split, logits, figures, labels=classifier.labels, temperature=temperature
    )
    # Files first: a reader of the screen that goes away (`| head`) must not cost them.
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
            report.write_pictures(settings.report, result, temperature=temperature)
        except OSError as error:
            raise Refused(f"--report {settings.report}: {error.strerror}") from error
    report.show_figures(show, result)


def _predictions(split: Split, scores: Floats, labels: Sequence[str]) -> list[str]:
    lines = []
    for row, (text, answer) in enumerate(zip(split.texts, scores.argmax(axis=1), strict=True)):
        line = {"text": text, "label": labels[answer], "score": float(scores[row, answer])}
        if split.targets is not None:
            line["target"] = labels[split.targets[row]]
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return lines


def _refuse_unwritable(path: Path | None, option: str) -> None:
    """Before minutes of work, not after."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        what = "is a directory" if path.is_dir() else "no such directory"
        raise Refused(f"--{option} {path}: {what}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = "no space left on the device" if is_full(error) else error.strerror
        raise Refused(f"{path}: {what}") from error
