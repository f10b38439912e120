"""`emotion-train run`, from top to bottom: data, model, training, calibration, report."""

import contextlib
import os

from train import (
    added,
    copies,
    encoder,
    holdout,
    labels,
    lengths,
    machine,
    options,
    output,
    resume,
    summary,
    tables,
    teachers,
)
from train.dataset import Columns, Corpus, load_for_training
from train.errors import Refused, Uncalibrated, refuse_together
from train.interrupts import saying
from train.printer import Printer
from train.settings import RunSettings


def run(settings: RunSettings, printer: Printer) -> None:
    """Fine-tunes, calibrates, evaluates, saves.

    Raises:
        Refused: Anything that the user can mend; the output directory is then as it was.
        Uncalibrated: No temperature can be fitted. The checkpoint and its report are saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refused("training in several processes (torchrun) is not built yet: start one")
    refuse_together(
        lambda: output.refuse_occupied(settings.output),
        lambda: labels.mapping(settings.labels),
        lambda: tables.refuse_missing(settings.dataset),
        lambda: added.refuse_missing(settings),
        lambda: teachers.refuse_missing(settings.teacher),
        lambda: encoder.locate_here(settings.base_model),
    )
    with printer.busy(f"reading the dataset {settings.dataset}"):
        corpus = _corpus(settings)
    summary.describe_dataset(corpus, printer)
    with printer.busy("loading torch and the Trainer"):
        encoder.locate(settings.base_model)
        on = machine.choose(settings.device, settings.precision)
        # The Trainer takes ten seconds to import: what is wrong so far is refused without it.
        from train import report  # noqa: PLC0415
        from train.finetune import finetune  # noqa: PLC0415
        from train.finish import finish  # noqa: PLC0415
    with printer.busy(f"loading the base model {settings.base_model}"):
        base = encoder.load(
            settings.base_model,
            labels=corpus.labels,
            max_length=settings.max_length,
            seed=settings.seed,
            normalizer=settings.normalizer,
        )
        counts = base.count_tokens(
            lengths.counted_of(corpus.splits["train"].texts, seed=settings.seed)
        )
        if settings.max_length is None:
            base = encoder.truncated_at(base, lengths.by_data(counts, most=base.max_length))
    output.refuse_full(settings.output, base.model.get_memory_footprint())
    summary.describe(corpus, base, on, settings=settings, counts=counts, printer=printer)
    with contextlib.ExitStack() as stack:
        stack.enter_context(saying(lambda: _way_on(settings)))
        stage = stack.enter_context(output.staged(settings.output))
        epochs = settings.work_dir or stage / "epochs"
        if settings.work_dir is not None:
            fingerprint = corpus.fingerprint() + teachers.fingerprint(settings.teacher)
            stack.enter_context(
                resume.claimed(settings.work_dir, settings, fingerprint=fingerprint)
            )
        printer.heading("Training")
        history = finetune(base, corpus, settings=settings, on=on, folder=epochs, printer=printer)
        summary.describe_history(history, printer)
        output.save_model(base, stage / "checkpoint")
        result, calibration = finish(
            stage / "checkpoint",
            settings=settings,
            corpus=corpus,
            history=history,
            on=on,
            learning_rate=options.learning_rate(settings, base.hidden_size),
            printer=printer,
        )
    printer.line()
    printer.line(f"saved {settings.output}")
    # Last, so that no picture can cost the checkpoint: not even one that takes all the memory.
    with saying(lambda: "the checkpoint is saved; pictures of its report may be missing"):
        report.draw_pictures(settings.output / "report", result, history=history)
    if calibration.why_not:
        raise Uncalibrated(
            f"the scores are not calibrated: {calibration.why_not}: {calibration.advice}, or pass"
            " --temperature 1 to accept uncalibrated scores; the checkpoint is saved"
        )


def _corpus(settings: RunSettings) -> Corpus:
    columns = Columns(
        text=settings.text_column,
        label=settings.label_column,
        config=settings.dataset_config,
        names=labels.mapping(settings.labels),
    )
    corpus = load_for_training(settings.dataset, columns=columns)
    if settings.drop_conflicts:
        corpus = copies.without_conflicts(corpus)
    if "validation" not in corpus.splits:
        corpus = holdout.with_validation(corpus, seed=settings.seed)
    return added.with_added(corpus, settings, columns=columns)


def _way_on(settings: RunSettings) -> str:
    if (settings.output / "manifest.json").is_file():
        return "the checkpoint is saved; pictures of its report may be missing"
    return resume.way_on(settings.work_dir)
