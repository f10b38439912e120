"""`manifest.json`: what a checkpoint says of itself. The worker reads it too."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from train.errors import Refused

FILE = "manifest.json"
"""Its name in the checkpoint directory."""

HOTTEST = 1e6
"""Highest temperature, as in the worker. Far above any that a calibration finds: at such a one all
labels have the same score."""


class DatasetFacts(BaseModel):
    """The dataset that the model was trained on."""

    model_config = ConfigDict(frozen=True)

    name: str = ""
    fingerprint: str = ""
    """16 hexadecimal digits over texts and labels: `Corpus.fingerprint`."""
    rows: Mapping[str, int] = {}
    """The number of rows of each split, as it was used."""
    validation_made: bool = False
    """Whether the dataset has no split `validation`, so that rows of `train` were taken for it."""


class Abstain(BaseModel):
    """When the model abstains: `emotion-train threshold` chooses it."""

    model_config = ConfigDict(frozen=True)

    score: Annotated[float, Field(ge=0, le=1, strict=True)]
    """It does below this score."""
    energy: Annotated[float, Field(allow_inf_nan=False, strict=True)]
    """It does above this energy."""
    coverage: float | None = None
    """Share of the split's texts that are answered, 0 to 1."""
    precision: float | None = None
    """Share of these answers that are right, 0 to 1."""
    precision_interval: tuple[float, float] | None = None
    """The 95 % interval of the precision."""
    split: str = ""
    """On which the thresholds were chosen."""
    rows: int | None = None
    """Of the split."""


class Manifest(BaseModel):
    """What a checkpoint says of itself.

    Every field has a default: a plain Hugging Face checkpoint has no manifest at all.
    """

    model_config = ConfigDict(frozen=True)

    name: str = ""
    version: str = ""
    """Of weights and tokenizer: `version`."""
    labels: tuple[str, ...] = ()
    """In the order of the logits."""
    temperature: Annotated[float, Field(gt=0, le=HOTTEST, strict=True)] = 1.0
    """Logits are divided by it before the softmax."""
    calibrated: bool | None = None
    """Whether the temperature was fitted on validation; None where that is not known."""
    max_length: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Most tokens of a text, special tokens included."""
    normalizer: str = ""
    """Name and version of what the tokenizer does to a text before its own steps: `normalizers`."""
    abstain: Abstain | None = None
    """None where no thresholds were chosen: the model never abstains."""
    base_model: str = ""
    dataset: DatasetFacts = DatasetFacts()
    metrics: Mapping[str, Mapping[str, Any]] = {}
    """By split: `Figures.as_json`. With a fitted temperature the calibration error on validation is
    cross-fitted (`ece_cross_fitted`); any other is that of the published scores."""
    label_distribution: Mapping[str, float] = {}
    """Each label's share of the training split."""
    files: Mapping[str, str] = {}
    """SHA-256 of each file, by its name."""
    libraries: Mapping[str, str] = {}
    """Versions of Python and of the libraries, by name."""
    created: str = ""
    """Time in UTC, ISO 8601."""
    seed: int | None = None
    settings: Mapping[str, Any] = {}
    """Those of the run, with the device, the precision, the learning rate and the maximum length
    that were chosen."""


def read(checkpoint: Path) -> Manifest:
    """Reads a checkpoint's manifest; without one, the defaults.

    Raises:
        Refused: The file cannot be read, or an entry has another shape.
    """
    path = checkpoint / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Manifest(name=checkpoint.resolve().name)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: cannot be read") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "JSON"
        raise Refused(f"{path}: {field}: {problem['msg']}") from error


def version(checkpoint: Path) -> str:
    """12 hexadecimal digits of SHA-256 over the bytes of the weights, then of `tokenizer.json`.

    Shards count in the order of their names; no other file counts. Two checkpoints of one version
    give every text the same logits.
    """
    digest = hashlib.sha256()
    for path in (*sorted(checkpoint.glob("model*.safetensors")), checkpoint / "tokenizer.json"):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def file_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of the model, by its name; those of the report may be edited."""
    digests = {}
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and path.name != FILE:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
