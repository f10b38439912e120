"""`emotion-train run`, read from top to bottom: data, model, training, calibration, report."""

import os

from train import checkpoint, encoder, present, recipe, resume, tables
from train.dataset import Columns, load_for_training
from train.errors import Refused, refuse_together
from train.settings import RunSettings
from train.show import Show


def run(settings: RunSettings, show: Show) -> None:
    """Fine-tune, calibrate, evaluate, save.

    Raises:
        Refused: Anything that the user can mend; then nothing was written to the output.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Refused("more than one training process (torchrun) is not built yet; run just one")
    refuse_together(
        lambda: checkpoint.refuse_occupied(settings.output),
        lambda: tables.refuse_missing(settings.dataset),
        lambda: encoder.locate_here(settings.base_model),
    )
    corpus = load_for_training(
        settings.dataset, columns=Columns(text=settings.text_column, label=settings.label_column)
    )
    encoder.locate(settings.base_model)
    on = recipe.machine(settings.device, settings.precision)
    # The Trainer takes ten seconds to import: what is wrong so far has been told without it.
    from train.finetune import finetune  # noqa: PLC0415
    from train.finish import finish  # noqa: PLC0415

    base = encoder.load(
        settings.base_model,
        labels=corpus.labels,
        max_length=settings.max_length,
        seed=settings.seed,
    )
    checkpoint.refuse_full(settings.output, base.model.get_memory_footprint())
    present.describe(corpus, base, on, settings, show)
    with checkpoint.staged(settings.output) as stage:
        epochs = settings.work_dir or stage / "epochs"
        if settings.work_dir is not None:
            resume.claim(settings.work_dir, settings, fingerprint=corpus.fingerprint())
        show.heading("Training")
        history = finetune(base, corpus, settings=settings, on=on, folder=epochs, show=show)
        present.describe_history(history, show)
        checkpoint.save_model(base, stage / "checkpoint")
        finish(
            stage / "checkpoint",
            settings=settings,
            corpus=corpus,
            history=history,
            on=on,
            learning_rate=recipe.learning_rate(settings, base.hidden_size),
            show=show,
        )
    show.line()
    show.line(f"saved {settings.output}")
