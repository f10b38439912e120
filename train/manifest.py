"""`manifest.json`: what a checkpoint says about itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from train.errors import Refused

FILE = "manifest.json"

HOTTEST = 1e6
"""Highest temperature, as in the worker. Far above any that a calibration finds: at such a one all
labels have the same score."""


class DatasetFacts(BaseModel):
    """What the model was trained on; `rows` by split."""

    model_config = ConfigDict(frozen=True)

    name: str = ""
    fingerprint: str = ""
    rows: Mapping[str, int] = {}


class Manifest(BaseModel):
    """Every field has a default: a plain Hugging Face checkpoint has no manifest at all.

    Published scores are softmax(logits / temperature). `label_distribution` is each label's
    share of the training split; `files` maps a file's name to its SHA-256.
    """

    model_config = ConfigDict(frozen=True)

    name: str = ""
    version: str = ""
    labels: tuple[str, ...] = ()
    temperature: Annotated[float, Field(gt=0, le=HOTTEST, strict=True)] = 1.0
    max_length: Annotated[int, Field(ge=1, strict=True)] | None = None
    base_model: str = ""
    dataset: DatasetFacts = DatasetFacts()
    metrics: Mapping[str, Mapping[str, Any]] = {}
    label_distribution: Mapping[str, float] = {}
    files: Mapping[str, str] = {}
    libraries: Mapping[str, str] = {}
    created: str = ""
    seed: int | None = None
    settings: Mapping[str, Any] = {}


def read(checkpoint: Path) -> Manifest:
    """The manifest, or its defaults where there is none.

    Raises:
        Refused: It is there and not readable as one.
    """
    path = checkpoint / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Manifest(name=checkpoint.resolve().name)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: not readable") from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "JSON"
        raise Refused(f"{path}: {field}: {problem['msg']}") from error


def version(checkpoint: Path) -> str:
    """12 hex digits of SHA-256 over the bytes of the weights, then of tokenizer.json.

    Sharded weights count in the order of their names. Nothing else does: two checkpoints with
    one version give every text the same logits.
    """
    digest = hashlib.sha256()
    for path in (*sorted(checkpoint.glob("model*.safetensors")), checkpoint / "tokenizer.json"):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def file_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of the model itself; the report may be edited freely."""
    digests = {}
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and path.name != FILE:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
