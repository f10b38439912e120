"""`emotion-train run`, from top to bottom: data, model, training, calibration, report."""

import os

from train import encoder, output, recipe, resume, summary, tables
from train.dataset import Columns, load_for_training
from train.errors import Refused, refuse_together
from train.printer import Printer
from train.settings import RunSettings


def run(settings: RunSettings, printer: Printer) -> None:
    """Fine-tunes, calibrates, evaluates, saves.

    Raises:
        Refused: Anything that the user can mend; the output directory is then as it was.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refused("training in several processes (torchrun) is not built yet: start one")
    refuse_together(
        lambda: output.refuse_occupied(settings.output),
        lambda: tables.refuse_missing(settings.dataset),
        lambda: encoder.locate_here(settings.base_model),
    )
    corpus = load_for_training(
        settings.dataset, columns=Columns(text=settings.text_column, label=settings.label_column)
    )
    encoder.locate(settings.base_model)
    on = recipe.machine(settings.device, settings.precision)
    # The Trainer takes ten seconds to import: what is wrong so far is refused without it.
    from train.finetune import finetune  # noqa: PLC0415
    from train.finish import finish  # noqa: PLC0415

    base = encoder.load(
        settings.base_model,
        labels=corpus.labels,
        max_length=settings.max_length,
        seed=settings.seed,
    )
    output.refuse_full(settings.output, base.model.get_memory_footprint())
    summary.describe(corpus, base, on, settings, printer)
    with output.staged(settings.output) as stage:
        epochs = settings.work_dir or stage / "epochs"
        if settings.work_dir is not None:
            resume.claim(settings.work_dir, settings, fingerprint=corpus.fingerprint())
        printer.heading("Training")
        history = finetune(base, corpus, settings=settings, on=on, folder=epochs, printer=printer)
        summary.describe_history(history, printer)
        output.save_model(base, stage / "checkpoint")
        finish(
            stage / "checkpoint",
            settings=settings,
            corpus=corpus,
            history=history,
            on=on,
            learning_rate=recipe.learning_rate(settings, base.hidden_size),
            printer=printer,
        )
    printer.line()
    printer.line(f"saved {settings.output}")
