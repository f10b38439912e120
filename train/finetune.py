"""Fine-tunes with the Hugging Face `Trainer` and keeps the best epoch."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from train import resume, teachers
from train.added import counts_of, training_rows
from train.calibrate import Floats
from train.dataset import Corpus
from train.dropout import cheaper_dropout
from train.encoder import Encoder
from train.errors import Refused
from train.freeze import lower_layers
from train.history import History, from_log
from train.loss import NO_LABEL, Loss, loss_of
from train.machine import Machine
from train.metrics import macro_f1
from train.options import trainer_options
from train.printer import Printer
from train.progress import ProgressReport
from train.settings import RunSettings

TAUGHT = "taught"
"""The column with the teachers' logits."""


class _Trainer(Trainer):  # type: ignore[misc]
    """Hands the teachers' logits of a step to the loss; the model does not take them."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if TAUGHT not in self._signature_columns:
            self._signature_columns.append(TAUGHT)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """As the Trainer's, with inputs that may have the column `TAUGHT`."""
        taught = inputs.pop(TAUGHT, None)
        if isinstance(self.compute_loss_func, Loss):
            self.compute_loss_func.teacher = taught
        return super().compute_loss(model, inputs, *args, **options)


def finetune(
    encoder: Encoder,
    corpus: Corpus,
    *,
    settings: RunSettings,
    on: Machine,
    folder: Path,
    printer: Printer,
) -> History:
    """Trains `encoder.model` in place; afterwards it has the weights of the best epoch.

    Args:
        encoder: The base model with its new head.
        corpus: With the splits `train` and `validation`.
        settings: The user's.
        on: The machine.
        folder: For a checkpoint per epoch. Where it has one, the training resumes from the last.
        printer: Prints the progress.

    Returns:
        The losses and the metrics of the epochs.

    Raises:
        Refused: The GPU has too little memory for a batch, or the loss is not a number.
    """
    texts, targets = training_rows(corpus)
    steps = math.ceil(len(texts) / settings.batch_size * settings.epochs)
    options = trainer_options(
        settings, on=on, hidden_size=encoder.hidden_size, steps=steps, folder=folder
    )
    progress = ProgressReport(printer=printer, batch_size=settings.batch_size)
    callbacks: list[Any] = [progress]
    if settings.early_stop:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=settings.early_stop))
    taught = teachers.logits_of_rows(
        corpus, settings.teacher, on=on, folder=folder, printer=printer
    )
    train = rows(encoder, texts, targets, taught=taught)
    # Similar lengths share a batch: the Trainer evaluates in the order of the rows.
    held = corpus.splits["validation"]
    validation = rows(encoder, held.texts, held.targets or (), by_length=True)
    last = resume.last_epoch(folder)
    if last:
        printer.line(f"resuming from {last.name} in {folder}")
    with (
        _memory_refused(settings.batch_size),
        cheaper_dropout(encoder.model, on=on),
        lower_layers(
            encoder,
            layers=settings.freeze_layers,
            token_ids=[*train["input_ids"], *validation["input_ids"]],
            on=on,
            printer=printer,
        ),
    ):
        trainer = _Trainer(
            model=encoder.model,
            args=TrainingArguments(**options),
            data_collator=DataCollatorWithPadding(encoder.tokenizer),
            train_dataset=train,
            eval_dataset=validation,
            compute_loss_func=loss_of(settings, counts_of(targets, labels=len(corpus.labels))),
            compute_metrics=_quality,
            preprocess_logits_for_metrics=_logits,
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        try:
            result = trainer.train(resume_from_checkpoint=str(last) if last else None)
        finally:
            progress.close()
    history = from_log(trainer.state.log_history, result.metrics)
    if not all(math.isfinite(epoch.validation_loss) for epoch in history.epochs):
        advice = "" if on.precision == "float32" else " or use --precision float32"
        raise Refused(f"the loss is not a number: lower --learning-rate{advice}")
    return history


def rows(
    encoder: Encoder,
    texts: Sequence[str],
    targets: Sequence[int | None],
    *,
    taught: Floats | None = None,
    by_length: bool = False,
) -> Any:
    """Texts as the Trainer takes them: token ids without padding, and `labels`.

    Args:
        encoder: Tokenizes the texts.
        texts: The texts.
        targets: Each text's label as an index; None: without one.
        taught: The teachers' logits, shape (texts, labels), where there is a teacher.
        by_length: Whether the rows are sorted by their number of tokens.
    """
    columns: dict[str, Any] = dict(encoder.tokenize(texts))
    columns["labels"] = [NO_LABEL if target is None else target for target in targets]
    if taught is not None:
        columns[TAUGHT] = taught.astype(np.float32).tolist()
    if by_length:
        order = sorted(range(len(texts)), key=lambda row: len(columns["input_ids"][row]))
        columns = {name: [column[row] for row in order] for name, column in columns.items()}
    return Dataset.from_dict(columns)


def _logits(outputs: Any, _: Any) -> Any:
    # Models with a decoder, such as BART and T5, also return what their encoder made.
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _quality(prediction: EvalPrediction) -> dict[str, float]:
    predicted = np.asarray(prediction.predictions).argmax(axis=1)
    return {
        "accuracy": float((predicted == prediction.label_ids).mean()),
        "macro_f1": macro_f1(prediction.label_ids.tolist(), predicted),
    }


@contextlib.contextmanager
def _memory_refused(batch_size: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise Refused(
            f"the GPU has too little memory: lower --batch-size, which is {batch_size}"
        ) from error
