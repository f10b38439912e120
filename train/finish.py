"""The end of a run: measures the saved files, and adds their manifest and report."""

import datetime as dt
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from train import abstain, classify, manifest, metrics, report, teachers, temperature
from train.calibrate import Floats, cross_fitted
from train.dataset import Corpus
from train.history import History
from train.machine import Machine
from train.noise import noisy
from train.normalizers import VERSIONS
from train.printer import Printer
from train.settings import RunSettings
from train.temperature import Calibration

_LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "scikit-learn")

NOISY = 2_000
"""Texts that are labelled again after typing noise."""


def finish(
    saved: Path,
    *,
    settings: RunSettings,
    corpus: Corpus,
    history: History,
    on: Machine,
    learning_rate: float,
    printer: Printer,
) -> tuple[report.Measured, Calibration]:
    """Measures the saved files themselves, as `evaluate` will, and adds manifest and report.

    They are measured in float32, whatever the precision of the training: the metrics are those of
    the checkpoint.

    Args:
        saved: The checkpoint directory.
        settings: The user's.
        corpus: The dataset; the temperature is fitted on its split `validation`.
        history: Losses and metrics of the epochs, for the report.
        on: The machine of the training.
        learning_rate: The peak learning rate, for the manifest.
        printer: Prints the metrics.

    Returns:
        The split that the report is about, with its metrics, and the temperature with its origin.
    """
    exact = Machine(device=on.device, name=on.name, precision="float32")
    classifier = classify.load(saved, on=exact)
    measured_on = [name for name in ("validation", "test") if _has_targets(corpus, name)]
    logits = {name: classifier.logits(corpus.splits[name].texts) for name in measured_on}
    targets = {name: corpus.splits[name].targets or () for name in measured_on}
    calibration = temperature.calibrated(
        logits["validation"], targets["validation"], given=settings.temperature
    )
    apart = {}
    if calibration.fitted:
        apart["validation"] = cross_fitted(logits["validation"], targets["validation"])
    figures = {
        name: metrics.measure(
            logits[name],
            targets[name],
            labels=corpus.labels,
            temperature=calibration.temperature,
            cross_fitted=apart.get(name),
        )
        for name in measured_on
    }
    held = corpus.splits["validation"]
    chosen = abstain.choose(
        abstain.Signals.of(logits["validation"], temperature=calibration.temperature),
        abstain.right(logits["validation"], targets["validation"]),
        precision=abstain.PRECISION,
    )
    entry = None
    if not isinstance(chosen, str):
        entry = abstain.entry_of(chosen, split="validation", rows=len(held))
    kept = labels_kept(classifier, held.texts, logits["validation"], seed=settings.seed)
    facts = _facts(
        saved,
        settings=settings,
        corpus=corpus,
        max_length=classifier.max_length,
        calibration=calibration,
        thresholds=entry,
        figures=figures,
        resolved={
            "learning_rate": learning_rate,
            "max_length": classifier.max_length,
            "device": on.device,
            "precision": on.precision,
        },
    )
    last = measured_on[-1]
    result = report.measured(
        corpus.splits[last],
        logits[last],
        figures[last],
        labels=corpus.labels,
        temperature=calibration.temperature,
        cross_fitted=apart.get(last),
    )
    printer.heading("Evaluation")
    if last == "validation":
        printer.line("there is no test split with labels: these are the metrics on validation")
    printer.line(f"temperature {calibration.temperature:.4f}, {calibration.origin}")
    report.print_figures(printer, result)
    printer.line(
        f"thresholds to abstain: none; {chosen.partition(': ')[0]}"
        if isinstance(chosen, str)
        else f"thresholds to abstain: {chosen.line('validation')}"
    )
    printer.line(f"{kept:.1%} of the labels of validation stay after typing noise")
    report.write_mistakes(saved / "report", result)
    report.write_card(
        saved / "report", facts, history, result, origin=calibration.origin, noise=kept
    )
    text = json.dumps(facts.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (saved / manifest.FILE).write_text(text + "\n", encoding="utf-8")
    return result, calibration


def labels_kept(
    classifier: classify.Classifier, texts: Sequence[str], logits: Floats, *, seed: int
) -> float:
    """Share of the texts that keep their label after typing noise, of at most `NOISY` of them.

    Args:
        classifier: Labels them.
        texts: As they are.
        logits: What the classifier gave them, shape (texts, labels).
        seed: By it some are drawn where there are more.
    """
    drawn = np.random.default_rng(seed).permutation(len(texts))[:NOISY]
    answers = classifier.logits(noisy([texts[row] for row in drawn])).argmax(axis=1)
    return float((answers == logits[drawn].argmax(axis=1)).mean())


def _has_targets(corpus: Corpus, name: str) -> bool:
    return name in corpus.splits and corpus.splits[name].targets is not None


def _facts(
    saved: Path,
    *,
    settings: RunSettings,
    corpus: Corpus,
    max_length: int,
    calibration: Calibration,
    thresholds: manifest.Abstain | None,
    figures: dict[str, metrics.Figures],
    resolved: dict[str, float | str],
) -> manifest.Manifest:
    counts = corpus.counts("train")
    return manifest.Manifest(
        name=settings.name or settings.output.resolve().name,
        version=manifest.version(saved),
        labels=corpus.labels,
        temperature=calibration.temperature,
        calibrated=calibration.fitted,
        max_length=max_length,
        abstain=thresholds,
        normalizer=VERSIONS[settings.normalizer],
        base_model=_public_name(settings.base_model),
        dataset=manifest.DatasetFacts(
            name=_public_name(corpus.name),
            fingerprint=corpus.fingerprint(),
            rows={name: len(split) for name, split in {**corpus.splits, **corpus.added}.items()},
            validation_made=corpus.validation_made,
        ),
        metrics={name: split.as_json() for name, split in figures.items()},
        label_distribution={
            label: counts[i] / sum(counts) for i, label in enumerate(corpus.labels)
        },
        files=manifest.file_digests(saved),
        libraries={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seed=settings.seed,
        settings={
            **settings.model_dump(
                mode="json",
                exclude={"output", "work_dir", "dataset", "base_model", "name"},
            ),
            "augment": _public_name(settings.augment),
            "outliers": _public_name(settings.outliers),
            "unlabelled": _public_name(settings.unlabelled),
            "teacher": ",".join(
                _public_name(str(path)) for path in teachers.directories(settings.teacher)
            ),
            **resolved,
        },
    )


def _public_name(name: str) -> str:
    """A name without the user's directories: a checkpoint is copied to other machines."""
    path = Path(name).expanduser()
    return path.resolve().name if name and path.exists() else name
