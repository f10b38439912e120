"""`emotion-train run`, read from top to bottom: data, model, training, calibration, report."""

import datetime as dt
import importlib.metadata
import json
import os
import platform
from pathlib import Path

from train import checkpoint, classify, encoder, finetune, manifest, metrics, recipe, report, resume
from train.calibrate import fit_temperature
from train.dataset import Columns, Corpus, load_for_training
from train.errors import Refused
from train.settings import RunSettings
from train.show import Show, warn

_LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "scikit-learn")


def run(settings: RunSettings, show: Show) -> None:
    """Fine-tune, calibrate, evaluate, save.

    Raises:
        Refused: Anything that the user can mend; then nothing was written to the output.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refused("more than one training process (torchrun) is not built yet; run just one")
    checkpoint.refuse_occupied(settings.output)
    on = recipe.machine(settings.device, settings.precision)
    corpus = load_for_training(
        settings.dataset, columns=Columns(text=settings.text_column, label=settings.label_column)
    )
    # Before the model: its head is drawn at random.
    finetune.seed_everything(settings.seed)
    base = encoder.load(settings.base_model, labels=corpus.labels, max_length=settings.max_length)
    checkpoint.refuse_full(settings.output, base.model.get_memory_footprint())
    describe(corpus, base, on, settings, show)
    with checkpoint.staged(settings.output) as stage:
        epochs = settings.work_dir or stage / "epochs"
        if settings.work_dir is not None:
            resume.claim(settings.work_dir, settings, fingerprint=corpus.fingerprint())
        show.heading("Training")
        history = finetune.finetune(
            base, corpus, settings=settings, on=on, folder=epochs, show=show
        )
        describe_history(history, show)
        saved = stage / "checkpoint"
        checkpoint.save_model(base, saved)
        finish(saved, settings=settings, corpus=corpus, history=history, on=on, show=show)
    show.line()
    show.line(f"saved {settings.output}")


def describe(
    corpus: Corpus,
    base: encoder.Encoder,
    on: recipe.Machine,
    settings: RunSettings,
    show: Show,
) -> None:
    """What is about to be trained on what, and how."""
    if corpus.labels_made_up:
        warn("the dataset names no labels: they are LABEL_0 and so on (a README can name them)")
    show.heading(f"Dataset {corpus.name}")
    counts = {split: corpus.counts(split) for split in corpus.splits}
    show.table(
        ("label", *corpus.splits),
        [
            *((label, *(c[i] for c in counts.values())) for i, label in enumerate(corpus.labels)),
            ("rows", *(len(split) for split in corpus.splits.values())),
        ],
    )
    train = corpus.splits["train"]
    ids = base.tokenize(train.texts)["input_ids"]
    show.heading("An example")
    show.line(f"text    {train.texts[0]}")
    show.line(f"label   {corpus.labels[(train.targets or (0,))[0]]}")
    show.line(f"tokens  {' '.join(base.tokenizer.convert_ids_to_tokens(ids[0]))}")
    show.line(f"ids     {' '.join(map(str, ids[0]))}")
    lengths = [len(row) for row in ids]
    full = sum(length >= base.max_length for length in lengths)
    show.line(
        f"lengths {sum(lengths) / len(lengths):.1f} tokens on average, {max(lengths)} at most"
        + (f"; {full:,} texts fill all {base.max_length} and may be cut" if full else "")
    )
    show.heading(f"Model {base.name}")
    rate = recipe.learning_rate(settings, finetune.hidden_size(base.model))
    show.line(
        f"{base.model.num_parameters() / 1e6:.1f} M parameters, {on.device} ({on.name}), "
        f"{on.precision}, {settings.epochs:g} epochs of batches of {settings.batch_size}, "
        f"learning rate {rate:.3g}, seed {settings.seed}"
    )


def describe_history(history: finetune.History, show: Show) -> None:
    """The loss table and the epoch that is kept."""
    show.table(
        ("epoch", "training loss", "validation loss", "accuracy", "macro F1"),
        [
            (f"{e.epoch:g}", e.train_loss, e.validation_loss, e.accuracy, e.macro_f1)
            for e in history.epochs
        ],
    )
    show.line(
        f"best epoch {history.best.epoch:g} by validation macro F1; {history.seconds:.0f} s, "
        f"{history.samples_per_second:.0f} samples/s"
    )


def finish(
    saved: Path,
    *,
    settings: RunSettings,
    corpus: Corpus,
    history: finetune.History,
    on: recipe.Machine,
    show: Show,
) -> None:
    """Measure the saved files themselves, as `evaluate` will, and add manifest and report.

    In float32 whatever the training precision, so that the figures are the checkpoint's own.
    """
    exact = recipe.Machine(device=on.device, name=on.name, precision="float32")
    classifier = classify.load(saved, on=exact)
    measured_on = [name for name in ("validation", "test") if _has_targets(corpus, name)]
    logits = {name: classifier.logits(corpus.splits[name].texts) for name in measured_on}
    temperature = fit_temperature(logits["validation"], corpus.splits["validation"].targets or ())
    figures = {
        name: metrics.measure(
            logits[name],
            corpus.splits[name].targets or (),
            labels=corpus.labels,
            temperature=temperature,
        )
        for name in measured_on
    }
    facts = _facts(
        saved,
        settings=settings,
        corpus=corpus,
        max_length=classifier.max_length,
        temperature=temperature,
        figures=figures,
        resolved={
            "learning_rate": recipe.learning_rate(settings, finetune.hidden_size(classifier.model)),
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
        temperature=temperature,
    )
    show.heading("Evaluation")
    if last == "validation":
        show.line("no test split with labels: the figures are those of validation")
    show.line(f"temperature {temperature:.4f}, fitted on validation")
    report.show_figures(show, result)
    report.write_pictures(saved / "report", result, temperature=temperature)
    report.write_card(saved / "report", facts, history, result)
    text = json.dumps(facts.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (saved / manifest.FILE).write_text(text + "\n", encoding="utf-8")


def _has_targets(corpus: Corpus, name: str) -> bool:
    return name in corpus.splits and corpus.splits[name].targets is not None


def _facts(
    saved: Path,
    *,
    settings: RunSettings,
    corpus: Corpus,
    max_length: int,
    temperature: float,
    figures: dict[str, metrics.Figures],
    resolved: dict[str, float | str],
) -> manifest.Manifest:
    counts = corpus.counts("train")
    return manifest.Manifest(
        name=settings.name or settings.output.resolve().name,
        version=manifest.version(saved),
        labels=corpus.labels,
        temperature=temperature,
        max_length=max_length,
        base_model=_public_name(settings.base_model),
        dataset=manifest.DatasetFacts(
            name=_public_name(corpus.name),
            fingerprint=corpus.fingerprint(),
            rows={name: len(split) for name, split in corpus.splits.items()},
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
                mode="json", exclude={"output", "work_dir", "dataset", "base_model", "name"}
            ),
            **resolved,
        },
    )


def _public_name(name: str) -> str:
    """A checkpoint travels: of a local path it keeps the last part, not the user's folders."""
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name
