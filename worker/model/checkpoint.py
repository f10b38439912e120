"""Reads and checks a checkpoint directory before any weight is loaded.

The contract with `emotion-train`: the Hugging Face files plus `manifest.json`. A checkpoint
without a manifest works with defaults.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.errors import Refused
from worker.given.directory import trouble
from worker.model import configuration, manifest
from worker.model.files import sha256, tokenizer_files, weights_of
from worker.model.lengths import max_length

if TYPE_CHECKING:
    from pathlib import Path

    from worker.classifier import Abstention
    from worker.model.configuration import Configuration
    from worker.model.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says of itself."""

    path: Path
    config: dict[str, Any]
    """What `config.json` holds."""
    weights: tuple[Path, ...]
    """The safetensors files: one, or the shards."""
    name: str
    version: str
    """12 hexadecimal digits: the manifest's, else `version_of` the files."""
    labels: tuple[str, ...]
    """In the order of the logits."""
    temperature: float
    """Logits are divided by it before the softmax."""
    max_length: int
    """Longest input in tokens, special tokens included."""
    pad_token_id: int
    vocabulary: int
    """Rows of the embedding table: token ids are below it."""
    label_shares: dict[str, float] | None
    """Each label's share of the training split, for drift; None without a manifest."""
    abstention: Abstention | None = None
    """When the worker abstains; None where `read` was not asked for it."""


def look(path: Path, *, abstain: bool = False) -> None:
    """Checks all that is known without reading weights, of which `read` takes the digest.

    Raises:
        Refused: As `read` does.
    """
    _description(path, abstain=abstain)


def read(path: Path, *, abstain: bool = False) -> Checkpoint:
    """Reads a checkpoint's description and checks that this worker can serve it.

    Args:
        path: The checkpoint directory.
        abstain: Whether the worker is to abstain: then there have to be thresholds.

    Raises:
        Refused: With one line that says what is wrong and what to do.
    """
    found = _description(path, abstain=abstain)
    digests = {file.name: sha256(file) for file in (*found.weights, *tokenizer_files(path))}
    _verify(path, found.manifest.files, digests)
    return Checkpoint(
        path=path,
        config=found.config.values,
        weights=found.weights,
        name=found.manifest.name or path.resolve().name,
        version=found.manifest.version or version_of(digests),
        labels=found.config.labels,
        temperature=found.manifest.temperature,
        max_length=found.max_length,
        pad_token_id=found.config.pad_token_id,
        vocabulary=found.config.vocabulary,
        label_shares=found.manifest.label_shares,
        abstention=found.manifest.abstention if abstain else None,
    )


def version_of(digests: dict[str, str]) -> str:
    """The version of a checkpoint whose manifest names none: a digest of its files' digests.

    It is not the one that `emotion-train` would write, which is taken over the files' bytes.
    """
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """All of a checkpoint but what its weights and its tokenizer hold."""

    config: Configuration
    manifest: Manifest
    weights: tuple[Path, ...]
    max_length: int


def _description(path: Path, *, abstain: bool) -> _Description:
    wrong = trouble(path)
    if wrong:
        raise Refused(f"model.checkpoint: {wrong}")
    config = configuration.read(path)
    weights = weights_of(path, config.values)
    tokenizer_files(path)
    beside = manifest.read(path, config.labels)
    if abstain and beside.abstention is None:
        raise Refused(
            f"model.abstain: the checkpoint {path} has no thresholds: write them with "
            f"`emotion-train threshold --checkpoint {path} --dataset DATASET`, or switch "
            "model.abstain off"
        )
    return _Description(
        config=config,
        manifest=beside,
        weights=weights,
        max_length=max_length(
            path, config.values, asked=beside.max_length, pad_token_id=config.pad_token_id
        ),
    )


def _verify(path: Path, expected: dict[str, str], digests: dict[str, str]) -> None:
    broken = [name for name, digest in digests.items() if expected.get(name, digest) != digest]
    if broken:
        raise Refused(
            f"model.checkpoint: {', '.join(broken)} in {path} is not what manifest.json says: "
            "the copy is damaged or the file was replaced"
        )
