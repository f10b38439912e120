"""Every knob of `emotion-train`: the docstring of a field is its line of `--help`.

A field `learning_rate` is the option `--learning-rate`, the environment variable
`TRAIN_LEARNING_RATE` and the same name in a `.env` file, in this order of precedence.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from train.given.base import Given
from train.given.places import together

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Name = Annotated[str, Field(min_length=1)]
MaxLength = Annotated[int, Field(ge=8, le=8192)]


class Settings(Given):
    model_config = SettingsConfigDict(
        env_prefix="TRAIN_",
        env_file=".env",
        # A misspelt name is refused by train.cli, which knows the names of all three commands.
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags="toggle",
        cli_hide_none_type=True,
        cli_shortcuts={"json-file": "json", "as-json": "json", "predictions-file": "predictions"},
    )


class RunSettings(Settings):
    """Fine-tune a base model on labelled texts and save a checkpoint with its report."""

    dataset: Name = "dair-ai/emotion"
    """Hub name, or a directory of train/validation/test as jsonl, csv or parquet."""

    base_model: Name = "bert-base-uncased"
    """Hub name, a directory, or `packaged` for the MiniLM that is installed as a package."""

    output: Path
    """Directory of the checkpoint; one that is not empty is refused."""

    name: str = Field(default="", max_length=100)
    """Name of the model in its manifest; default: the name of the output directory."""

    text_column: Name = "text"
    """Column of the texts."""

    label_column: Name = "label"
    """Column of the labels: ClassLabel, strings, or integers from 0."""

    epochs: float = Field(default=3.0, gt=0, le=1000)
    """Passes over the training split."""

    batch_size: int = Field(default=32, ge=1, le=4096)
    """Texts in one step; half of it takes about half the memory and more time a text."""

    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    """Peak learning rate; default: 0.0384 / hidden size (1e-4 for MiniLM, 5e-5 for BERT base)."""

    weight_decay: float = Field(default=0.01, ge=0, lt=1)
    """AdamW weight decay, as a share of the learning rate."""

    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from zero."""

    max_length: MaxLength = 128
    """Tokens of a text that are read; longer texts are cut, here and in the worker."""

    freeze_layers: int = Field(default=0, ge=0, le=1000)
    """Lower layers to leave as they are, embeddings included; their outputs are computed once."""

    early_stop: int = Field(default=0, ge=0, le=1000)
    """Epochs without a better validation macro F1 after which training ends; 0 never does."""

    seed: int = Field(default=42, ge=0, lt=2**32)
    """Seed of the head, the order and the dropout; recorded in the manifest."""

    device: Device = "auto"
    """Where to train; `auto` takes CUDA when there, `cuda` without a GPU is refused."""

    precision: Precision = "auto"
    """Of the products; `auto`: bfloat16 where native, float16 on older CUDA, else float32."""

    work_dir: Path | None = None
    """Directory for epoch checkpoints; a run that was killed goes on from the last one in it."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.work_dir is not None:
            # Not resolve(): there are texts that it fails for.
            output, work = (
                Path(os.path.abspath(path))  # noqa: PTH100
                for path in (self.output, self.work_dir)
            )
            if output == work or output in work.parents:
                # The checkpoint is put into its place whole, where nothing may be before.
                together(["{work_dir}: lies in {output}; give another place"])
        return self


class EvaluateSettings(Settings):
    """Measure a checkpoint on a split or a file, in the order of its rows."""

    checkpoint: Path
    """Directory of the checkpoint."""

    dataset: Name = "dair-ai/emotion"
    """Hub name, a directory, or one jsonl, csv or parquet file."""

    split: str | None = Field(default=None, min_length=1)
    """Split to take; default: `test` where there is one, else `validation`."""

    text_column: Name = "text"
    """Column of the texts."""

    label_column: Name = "label"
    """Column of the labels; a file without it gets predictions and no metrics."""

    json_file: Path | None = None
    """File for the metrics, as one JSON object."""

    predictions_file: Path | None = None
    """File for one JSON line a row: text, label, score, and target when it is known."""

    report: Path | None = None
    """Directory for the confusion matrix, the reliability diagram and the mistakes."""

    device: Device = "auto"
    """Where to run; `auto` takes CUDA when there."""

    precision: Precision = "float32"
    """Of the weights; `auto`: bfloat16 where native, float16 on older CUDA, else float32."""


class PredictSettings(Settings):
    """Label sentences given as arguments, or as lines on standard input."""

    checkpoint: Path
    """Directory of the checkpoint."""

    as_json: bool = False
    """One JSON line a text (text, label, score, scores) in place of the table."""

    device: Device = "auto"
    """Where to run; `auto` takes CUDA when there."""

    precision: Precision = "float32"
    """Of the weights; `auto`: bfloat16 where native, float16 on older CUDA, else float32."""
