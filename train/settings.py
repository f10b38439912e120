"""Every setting of `emotion-train`: the docstring of a field is its line of `--help`.

A setting such as `learning_rate` is read from the command line (`--learning-rate`), the environment
(`TRAIN_LEARNING_RATE`) and a `.env` file (the same name), in this order of precedence.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from train.given.base import Given
from train.given.places import together
from train.normalizers import Normalizer
from train.recipes import RECIPES, Recipe

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Name = Annotated[str, Field(min_length=1)]
ClassWeights = Literal["none", "balanced"]


class Settings(Given):
    """What the settings of all commands have in common."""

    model_config = SettingsConfigDict(
        env_prefix="TRAIN_",
        env_file=".env",
        # A misspelt name is refused by train.cli, which knows the names of all commands.
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags="toggle",
        cli_hide_none_type=True,
        cli_shortcuts={
            "json-file": "json",
            "as-json": "json",
            "predictions-file": "predictions",
            "target-precision": "precision",
        },
    )


class RunSettings(Settings):
    """Fine-tunes a base model on labelled texts and saves a checkpoint with its report."""

    dataset: Name = "dair-ai/emotion"
    """Dataset: its name on the hub, or a directory with the split train and, if there are any,
    validation and test, as jsonl, csv, tsv or parquet. Without validation a tenth of train is taken
    for it."""

    dataset_config: str = ""
    """Configuration of the dataset, where it has several."""

    base_model: Name = "bert-base-uncased"
    """Model to fine-tune: its name on the hub, a directory, or `packaged` for the MiniLM that is
    installed as a package."""

    output: Path
    """Directory to save the checkpoint in. It must be empty, or not exist yet."""

    name: str = Field(default="", max_length=100)
    """Name of the model, recorded in its manifest. Default: the name of the output directory."""

    recipe: Recipe = "balanced"
    """Named set of settings, each of which its own option overrides: `balanced` has the defaults
    of this table, `fast` takes less time, and `best` is for a run with a teacher."""

    text_column: Name = "text"
    """Column with the texts."""

    label_column: Name = "label"
    """Column with the labels: ClassLabel, strings or numbers. The labels are its different
    values."""

    labels: str = ""
    """Names of labels, as VALUE=NAME pairs between commas (`0=negative,4=positive`) or as a JSON
    object. Two values may have one name. A value that is not listed keeps its own."""

    augment: str = ""
    """Labelled texts to train on beside the dataset: a jsonl, csv, tsv or parquet file with the
    same columns, or `packaged` for 5,250 sentences that mostly do without "i feel". Nothing is
    measured on them."""

    outliers: str = ""
    """Texts of no label to train on, so that the model is unsure about such texts: a file with the
    column of texts, or `packaged` for 1,250 neutral tweets and tweets in other languages."""

    teacher: str = ""
    """Directory of a checkpoint from whose scores the model learns too (distillation). Of several,
    between commas, the logits are averaged. Their labels must be those of the dataset."""

    teacher_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the teacher in the loss of a labelled text; the rest is the label's."""

    teacher_temperature: float = Field(default=2.0, gt=0, le=20)
    """Temperature at which the scores of teacher and model are compared: above 1, more counts which
    labels are the next likely."""

    unlabelled: str = ""
    """File with more texts, whose scores by the teacher are learned. They need no labels."""

    mixed: int = Field(default=0, ge=0, le=20)
    """Texts to mix from those of train, for each of them: the teacher's scores are learned."""

    drop_conflicts: bool = False
    """Leave out of the training every text that train has with more than one label."""

    class_weights: ClassWeights = "none"
    """Weights of the labels in the loss. `none` weighs all texts alike; `balanced` weighs a text by
    its label: all labelled rows that are trained on / labels / rows of the label."""

    epochs: float = Field(default=3.0, gt=0, le=1000)
    """Number of passes over the training split."""

    batch_size: int = Field(default=32, ge=1, le=4096)
    """Texts in a training step. Half as many take about half the memory and more time per text."""

    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    """Peak learning rate. Default: 0.0384 / hidden size (1e-4 for MiniLM, 5e-5 for BERT base)."""

    weight_decay: float = Field(default=0.01, ge=0, lt=1)
    """Weight decay of AdamW: a step shrinks the weights by this times the learning rate."""

    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of the training steps in which the learning rate rises from zero to its peak."""

    max_length: int | None = Field(default=None, ge=8, le=8192)
    """Most tokens of a text, special tokens included. Longer texts are truncated, in training and
    in the worker. Default: as many as 99.9 % of the texts of train have at most, but from 128 to
    512, and no more than the model takes."""

    normalizer: Normalizer = "none"
    """What is done to texts, in training and by the worker: `tweets` leaves out links, mentions and
    the signs of hashtags, reads HTML entities, and shortens stretched letters (`soooo`)."""

    freeze_layers: int = Field(default=0, ge=0, le=1000)
    """Number of lower layers to freeze, together with the embeddings. Their outputs are computed
    once and reused in every epoch; 0 freezes nothing."""

    early_stop: int = Field(default=0, ge=0, le=1000)
    """Number of epochs without a better macro F1 on validation after which training stops; 0 never
    stops it early."""

    temperature: float | None = Field(default=None, ge=0.25, le=10)
    """Temperature of the scores, from 0.25 to 10: logits are divided by it, and 1 leaves the scores
    as they are. Default: fitted on validation; where the best one is not within these bounds, the
    run saves the checkpoint with 1, says why and ends with exit code 1."""

    seed: int = Field(default=42, ge=0, lt=2**32)
    """Random seed of the new head, of the order of the texts, of dropout, and of the rows that are
    taken for validation. Recorded in the manifest."""

    device: Device = "auto"
    """Device to train on. `auto` picks CUDA if there is a GPU, else the CPU; `cuda` without a GPU
    is refused."""

    precision: Precision = "auto"
    """Precision of matrix multiplications. `auto` picks bfloat16 where the hardware has it, float16
    on older GPUs, float32 otherwise."""

    work_dir: Path | None = None
    """Directory for a checkpoint per epoch. The same command, started again after a run was stopped
    or killed, resumes from the last one in it. Default: a temporary directory."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_recipe(cls, given: Any) -> Any:
        """Fills in what the user did not give. A recipe that there is not is refused later."""
        if not isinstance(given, dict):
            return given
        return {**RECIPES.get(str(given.get("recipe")), {}), **given}

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.work_dir is not None:
            # Not resolve(): there are texts that it fails for.
            output, work = (Path(os.path.abspath(at)) for at in (self.output, self.work_dir))  # noqa: PTH100
            if output == work or output in work.parents:
                # The checkpoint is moved into place whole, onto an empty directory.
                together(["{work_dir}: lies in {output}; give another directory"])
        needs = "recipe" if self.recipe == "best" else "mixed" if self.mixed else "unlabelled"
        if (needs != "unlabelled" or self.unlabelled) and not self.teacher:
            together([f"{{{needs}}}: needs {{teacher}}, whose scores of texts are learned"])
        return self


class EvaluateSettings(Settings):
    """Measures a checkpoint on one split of a dataset, or on a file."""

    checkpoint: Path
    """Directory of the checkpoint."""

    dataset: Name = "dair-ai/emotion"
    """Dataset: its name on the hub, a directory, or one jsonl, csv, tsv or parquet file."""

    dataset_config: str = ""
    """Configuration of the dataset, where it has several."""

    split: str | None = Field(default=None, min_length=1)
    """Split to evaluate. Default: `test` if there is one, else `validation`. Without effect on a
    file."""

    text_column: Name = "text"
    """Column with the texts."""

    label_column: Name = "label"
    """Column with the labels. Without it there are predictions but no metrics."""

    labels: str = ""
    """Which of the checkpoint's labels a label of the dataset is, as VALUE=NAME pairs between
    commas (`happy=joy,4=anger`) or as a JSON object."""

    json_file: Path | None = None
    """File to write the metrics to, as one JSON object."""

    predictions_file: Path | None = None
    """File to write the predictions to, one JSON line per row: text, label, score, and target where
    it is known."""

    report: Path | None = None
    """Directory to write the confusion matrix, the reliability diagram and the most confident
    mistakes to."""

    device: Device = "auto"
    """Device: `auto` picks CUDA if there is a GPU, else the CPU; `cuda` without one is refused."""

    precision: Precision = "float32"
    """Precision of the weights. `auto` picks bfloat16 where the hardware has it, float16 on older
    GPUs, float32 otherwise."""


class ThresholdSettings(Settings):
    """Chooses when a checkpoint abstains, and writes that into its manifest."""

    checkpoint: Path
    """Directory of the checkpoint."""

    dataset: Name = "dair-ai/emotion"
    """Dataset: its name on the hub, a directory, or one jsonl, csv, tsv or parquet file."""

    dataset_config: str = ""
    """Configuration of the dataset, where it has several."""

    split: str = Field(default="validation", min_length=1)
    """Split on which the thresholds are chosen: one that the model was not trained on. Without
    effect on a file."""

    text_column: Name = "text"
    """Column with the texts."""

    label_column: Name = "label"
    """Column with the labels."""

    labels: str = ""
    """Which of the checkpoint's labels a label of the dataset is, as VALUE=NAME pairs between
    commas (`happy=joy,4=anger`) or as a JSON object."""

    target_precision: float = Field(default=0.98, gt=0, lt=1)
    """Share of the answers that are to be right. The largest share of the texts is answered with
    which they are."""

    outside: Path | None = None
    """File with texts on which the model should abstain, as jsonl, csv, tsv or parquet: how many of
    them it does is printed. They choose nothing."""

    device: Device = "auto"
    """Device: `auto` picks CUDA if there is a GPU, else the CPU; `cuda` without one is refused."""


class PredictSettings(Settings):
    """Labels texts given as arguments, or as lines on standard input."""

    checkpoint: Path
    """Directory of the checkpoint."""

    as_json: bool = False
    """Print one JSON line per text (text, label, score, scores) instead of a table."""

    device: Device = "auto"
    """Device: `auto` picks CUDA if there is a GPU, else the CPU; `cuda` without one is refused."""

    precision: Precision = "float32"
    """Precision of the weights. `auto` picks bfloat16 where the hardware has it, float16 on older
    GPUs, float32 otherwise."""


COMMANDS: Mapping[str, type[Settings]] = {
    "run": RunSettings,
    "evaluate": EvaluateSettings,
    "threshold": ThresholdSettings,
    "predict": PredictSettings,
}
"""The settings of each command. Their variables share one environment."""
