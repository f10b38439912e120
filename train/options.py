"""The options of the Trainer, and the learning rate that suits a model."""

from pathlib import Path
from typing import Any

from train.machine import Machine
from train.settings import RunSettings

LEARNING_RATE_TIMES_UNITS = 0.0384
"""Learning rate x hidden size. MiniLM (384 units) reaches 0.937 on the tweets at 1e-4; the same
product gives BERT base (768) the 5e-5 of its authors. Twice as much makes models of BERT's size
diverge on some seeds, half costs MiniLM about half a point in 3 epochs."""
HIGHEST_LEARNING_RATE = 1e-3
"""For models narrower than 39 units, as those of the tests are."""


def learning_rate(settings: RunSettings, hidden_size: int) -> float:
    """The peak learning rate that the user asked for, else the one that suits the hidden size."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    return min(HIGHEST_LEARNING_RATE, LEARNING_RATE_TIMES_UNITS / hidden_size)


def trainer_options(
    settings: RunSettings, *, on: Machine, hidden_size: int, steps: int, folder: Path
) -> dict[str, Any]:
    """The arguments of `TrainingArguments`.

    Args:
        settings: The user's.
        on: The machine.
        hidden_size: Width of the base model's layers.
        steps: Training steps in the whole run; the loss is logged about 50 times.
        folder: For a checkpoint per epoch.
    """
    return {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": max(64, settings.batch_size),
        "learning_rate": learning_rate(settings, hidden_size),
        "weight_decay": settings.weight_decay,
        "warmup_steps": settings.warmup,  # below 1, the Trainer takes it for a share
        "train_sampling_strategy": "group_by_length",
        "bf16": on.precision == "bfloat16",
        "fp16": on.precision == "float16",
        "use_cpu": on.device == "cpu",
        # Without a GPU pinning has no effect but a warning.
        "dataloader_pin_memory": on.device == "cuda",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_strategy": "steps",
        "logging_steps": max(1, steps // 50),
        # The best so far, which is kept in the end, and the last, from which a run resumes.
        "save_total_limit": 2,
        # The optimizer's state is twice the weights, and only a run that resumes reads it.
        "save_only_model": settings.work_dir is None,
        "load_best_model_at_end": True,
        "metric_for_best_model": "macro_f1",
        "greater_is_better": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
