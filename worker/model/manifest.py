"""What `manifest.json` says of a checkpoint: `emotion-train` writes it beside the weights.

Every entry is optional: a plain Hugging Face checkpoint has no manifest at all.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from worker.classifier import Abstention
from worker.errors import Refused
from worker.model.configuration import is_count
from worker.model.files import read_object

if TYPE_CHECKING:
    from pathlib import Path

HOTTEST = 1e6
"""Highest temperature. Far above any that a calibration finds: at such a one all labels have the
same score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The entries that the worker uses; the defaults hold where there is none."""

    name: str | None = None
    version: str | None = None
    temperature: float = 1.0
    """Logits are divided by it before the softmax."""
    max_length: int | None = None
    """Tokens of a text that the model was trained on, special tokens included."""
    label_shares: dict[str, float] | None = None
    """Each label's share of the training split."""
    abstention: Abstention | None = None
    """The thresholds that `emotion-train threshold` wrote."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file, by its name."""


def read(path: Path, labels: tuple[str, ...]) -> Manifest:
    """Reads `manifest.json` of a checkpoint directory, where there is one.

    Args:
        path: The checkpoint directory.
        labels: Those of `config.json`.

    Raises:
        Refused: An entry has another shape than `emotion-train` writes, or the labels differ.
    """
    if not (path / "manifest.json").exists():
        return Manifest()
    values = read_object(path / "manifest.json")
    _require_shapes(path, values)
    if values.get("labels") and tuple(values["labels"]) != labels:
        raise Refused(f"model.checkpoint: config.json and manifest.json of {path} differ in labels")
    return Manifest(
        name=str(values.get("name") or "") or None,
        version=str(values.get("version") or "") or None,
        temperature=_temperature(path, values),
        max_length=_max_length(path, values),
        label_shares=values.get("label_distribution"),
        abstention=_abstention(path, values),
        files=values.get("files") or {},
    )


def _require_shapes(path: Path, values: dict[str, Any]) -> None:
    shapes = {"files": dict, "labels": list, "label_distribution": dict}
    for name, shape in shapes.items():
        if not isinstance(values.get(name) or shape(), shape):
            raise Refused(
                f"model.checkpoint: {name} in manifest.json of {path} is no "
                f"{'object' if shape is dict else 'array'}: it was not written by emotion-train"
            )
    shares = (values.get("label_distribution") or {}).values()
    if not all(isinstance(share, int | float) for share in shares):
        raise Refused(
            f"model.checkpoint: label_distribution in manifest.json of {path} has a share that is "
            "no number"
        )


def _temperature(path: Path, values: dict[str, Any]) -> float:
    temperature = values.get("temperature", 1.0)
    if not _is_number(temperature) or not 0 < temperature <= HOTTEST:
        raise Refused(
            f"model.checkpoint: temperature in manifest.json of {path} is no number above 0 and "
            f"at most {HOTTEST:g}"
        )
    return float(temperature)


def _abstention(path: Path, values: dict[str, Any]) -> Abstention | None:
    """The worker ignores the other members: how the thresholds were chosen."""
    entry = values.get("abstain")
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise Refused(
            f"model.checkpoint: abstain in manifest.json of {path} is no object: it was not "
            "written by emotion-train"
        )
    score, energy = entry.get("score"), entry.get("energy")
    if not _is_number(score) or not 0 <= score <= 1:
        raise Refused(
            f"model.checkpoint: abstain.score in manifest.json of {path} is no number from 0 to 1"
        )
    if not _is_number(energy) or not abs(energy) <= sys.float_info.max:  # neither is NaN
        raise Refused(
            f"model.checkpoint: abstain.energy in manifest.json of {path} is no finite number"
        )
    return Abstention(score=float(score), energy=float(energy))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _max_length(path: Path, values: dict[str, Any]) -> int | None:
    length = values.get("max_length")
    if length is None or is_count(length):
        return length
    raise Refused(
        f"model.checkpoint: max_length in manifest.json of {path} is no whole number above 0"
    )
